//! `scale`: sets the replicas of workloads through their scale subresource.

use clap::Args;
use client::{Patch, Target, WriteOptions};
use serde_json::json;

use super::Verb;
use crate::error::Error;
use crate::kube::Kube;
use crate::output;
use crate::resource_builder::{self, Files, Selection, Selectors};

#[derive(Args)]
pub(crate) struct Scale {
    /// TYPE NAME, or TYPE/NAME
    words: Vec<String>,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    selectors: Selectors,
    /// All objects of the type
    #[arg(long)]
    all: bool,
    /// The new number of replicas
    #[arg(long)]
    replicas: u32,
    /// Only if this is the number now; -1 for any
    #[arg(long, default_value_t = -1, allow_hyphen_values = true)]
    current_replicas: i64,
}

impl Verb for Scale {
    async fn run(self, kube: &Kube) -> Result<(), Error> {
        let selection = Selection {
            words: &self.words,
            files: &self.files,
            selectors: &self.selectors,
            all: self.all,
            all_namespaces: false,
        };
        let mut errors = Vec::new();
        for info in resource_builder::resolve(kube, &selection).await? {
            let target = Target { subresource: "scale".into(), ..info.target() };
            let outcome = async {
                let scale = kube.get(target.clone()).await?;
                let now = scale.integer(&["spec", "replicas"]).unwrap_or_default();
                if self.current_replicas >= 0 && now != self.current_replicas {
                    return Err(Error::said(format!(
                        "Expected replicas to be {}, was {now}",
                        self.current_replicas
                    )));
                }
                let patch = Patch::Merge(json!({"spec": {"replicas": self.replicas}}));
                kube.patch(target.clone(), &patch, &WriteOptions::default()).await
            };
            match outcome.await {
                Ok(_) => output::line(format!("{} scaled", info.label()))?,
                Err(error) => errors.push(error),
            }
        }
        Error::of_all(errors)
    }
}
