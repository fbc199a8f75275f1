//! `config`: what the kubeconfig file says.

use clap::{Args, Subcommand};

use super::Verb;
use crate::error::Error;
use crate::kube::Kube;
use crate::output;
use crate::output::table::Lines;

#[derive(Args)]
pub(crate) struct Config {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Print the context in use
    CurrentContext,
    /// Print the contexts
    GetContexts,
}

impl Verb for Config {
    async fn run(self, kube: &Kube) -> Result<(), Error> {
        let config = kube.config()?;
        match self.what {
            What::CurrentContext if config.current_context.is_empty() => {
                Err(Error::said("current-context is not set"))
            }
            What::CurrentContext => output::line(&config.current_context),
            What::GetContexts => {
                let mut lines = Lines::default();
                lines.push(["CURRENT", "NAME", "CLUSTER", "AUTHINFO", "NAMESPACE"]);
                let mut contexts = config.contexts.clone();
                contexts.sort_by(|a, b| a.name.cmp(&b.name));
                for one in contexts {
                    let mark = if one.name == config.current_context { "*" } else { "" };
                    let context = one.context;
                    lines.push([mark.to_owned(), one.name, context.cluster, context.user, context.namespace]);
                }
                output::write(&lines.take())
            }
        }
    }
}
