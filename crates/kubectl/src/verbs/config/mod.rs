//! `config`: shows and changes kubeconfig files. Files are changed as they
//! are, so that fields that this program does not know stay.

mod change;
mod file;
mod view;

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
    GetContexts(GetContexts),
    /// Print the clusters
    GetClusters,
    /// Print the users
    GetUsers,
    /// Print the kubeconfig
    View(view::View),
    /// Use a context
    #[command(alias = "use")]
    UseContext {
        /// The context
        name: String,
    },
    /// Set fields of a context
    SetContext(change::SetContext),
    /// Set fields of a cluster
    SetCluster(change::SetCluster),
    /// Set fields of a user
    SetCredentials(change::SetCredentials),
    /// Set a property, such as contexts.NAME.namespace
    Set(change::Set),
    /// Remove a property
    Unset {
        /// The property
        property: String,
    },
    /// Delete a context
    DeleteContext {
        /// The context
        name: String,
    },
    /// Delete a cluster
    DeleteCluster {
        /// The cluster
        name: String,
    },
    /// Delete a user
    DeleteUser {
        /// The user
        name: String,
    },
    /// Rename a context
    RenameContext {
        /// The context
        old: String,
        /// Its new name
        new: String,
    },
}

#[derive(Args)]
struct GetContexts {
    /// Only these
    names: Vec<String>,
    /// Print no headers
    #[arg(long)]
    no_headers: bool,
    /// name
    #[arg(short = 'o', long, default_value = "")]
    output: String,
}

impl Verb for Config {
    async fn run(self, kube: &Kube) -> Result<(), Error> {
        match self.what {
            What::CurrentContext => match file::merged(kube)?["current-context"].as_str() {
                Some(name) if !name.is_empty() => output::line(name),
                _ => Err(Error::said("current-context is not set")),
            },
            What::GetContexts(get) => get.run(kube),
            What::GetClusters => names(kube, "clusters"),
            What::GetUsers => names(kube, "users"),
            What::View(view) => view.run(kube),
            What::UseContext { name } => change::use_context(kube, &name),
            What::SetContext(set) => set.run(kube),
            What::SetCluster(set) => set.run(kube),
            What::SetCredentials(set) => set.run(kube),
            What::Set(set) => set.run(kube),
            What::Unset { property } => change::unset(kube, &property),
            What::DeleteContext { name } => change::delete(kube, "context", &name),
            What::DeleteCluster { name } => change::delete(kube, "cluster", &name),
            What::DeleteUser { name } => change::delete(kube, "user", &name),
            What::RenameContext { old, new } => change::rename(kube, &old, &new),
        }
    }
}

fn names(kube: &Kube, section: &str) -> Result<(), Error> {
    let config = file::merged(kube)?;
    let mut names: Vec<&str> =
        file::entries(&config, section).filter_map(|one| one["name"].as_str()).collect();
    names.sort_unstable();
    let mut lines = Lines::default();
    lines.push(["NAME"]);
    for name in names {
        lines.push([name]);
    }
    output::write(&lines.take())
}

impl GetContexts {
    fn run(&self, kube: &Kube) -> Result<(), Error> {
        if !["", "name"].contains(&self.output.as_str()) {
            return Err(Error::said(format!(
                "--output {} is not available in kubectl config get-contexts; resetting to default output format",
                self.output
            )));
        }
        let config = file::merged(kube)?;
        let current =
            kube.context.as_deref().or_else(|| config["current-context"].as_str()).unwrap_or_default();
        let mut found: Vec<&serde_json::Value> = file::entries(&config, "contexts").collect();
        found.sort_by_key(|one| one["name"].as_str());
        let is_wanted = |one: &&&serde_json::Value| {
            self.names.is_empty() || self.names.iter().any(|name| one["name"] == **name)
        };
        let mut lines = Lines::default();
        if self.output.is_empty() && !self.no_headers {
            lines.push(["CURRENT", "NAME", "CLUSTER", "AUTHINFO", "NAMESPACE"]);
        }
        for one in found.iter().filter(is_wanted) {
            let text = |field: &str| one["context"][field].as_str().unwrap_or_default().to_owned();
            let name = one["name"].as_str().unwrap_or_default();
            if self.output == "name" {
                lines.push([name]);
            } else {
                let mark = if name == current { "*" } else { "" };
                lines.push([
                    mark.to_owned(),
                    name.to_owned(),
                    text("cluster"),
                    text("user"),
                    text("namespace"),
                ]);
            }
        }
        output::write(&lines.take())?;
        let missing = self.names.iter().filter(|name| !found.iter().any(|one| one["name"] == ***name));
        Error::of_all(missing.map(|name| Error::said(format!("context {name} not found"))).collect())
    }
}
