//! `cordon` and `uncordon`.

use clap::Args;
use client::{Patch, WriteOptions};
use serde_json::json;

use super::Verb;
use crate::error::Error;
use crate::kube::Kube;
use crate::output;

/// No new pods on a node.
#[derive(Args)]
pub(crate) struct Cordon {
    /// The nodes
    #[arg(required = true)]
    nodes: Vec<String>,
}

/// New pods on a node again.
#[derive(Args)]
pub(crate) struct Uncordon {
    /// The nodes
    #[arg(required = true)]
    nodes: Vec<String>,
}

impl Verb for Cordon {
    async fn run(self, kube: &Kube) -> Result<(), Error> {
        mark(kube, &self.nodes, true).await
    }
}

impl Verb for Uncordon {
    async fn run(self, kube: &Kube) -> Result<(), Error> {
        mark(kube, &self.nodes, false).await
    }
}

async fn mark(kube: &Kube, nodes: &[String], closed: bool) -> Result<(), Error> {
    let resource = kube.discovery().await?.of_kind("v1", "Node")?;
    let done = if closed { "cordoned" } else { "uncordoned" };
    for word in nodes {
        let name = word.strip_prefix("node/").unwrap_or(word);
        let target = resource.target("", name);
        let node = kube.get(target.clone()).await?;
        let now =
            node.at(&["spec", "unschedulable"]).and_then(serde_json::Value::as_bool).unwrap_or_default();
        if now == closed {
            output::line(format!("node/{name} already {done}"))?;
            continue;
        }
        let patch = Patch::Merge(json!({"spec": {"unschedulable": closed.then_some(true)}}));
        kube.patch(target, &patch, &WriteOptions::default()).await?;
        output::line(format!("node/{name} {done}"))?;
    }
    Ok(())
}
