//! `cordon` and `uncordon`.

use std::sync::Arc;

use clap::Args;
use client::Patch;
use serde_json::{Value, json};

use super::Verb;
use crate::changes::DryRun;
use crate::discovery::Resource;
use crate::error::Error;
use crate::kube::{Info, Kube};
use crate::output;

/// Which nodes, and how far to go.
#[derive(Args, Clone)]
pub(super) struct Nodes {
    /// The nodes
    #[arg(value_name = "NODE")]
    pub(super) nodes: Vec<String>,
    /// Nodes with these labels
    #[arg(short = 'l', long, default_value = "")]
    pub(super) selector: String,
    /// none, client, or server
    #[arg(long, default_value = "none")]
    pub(super) dry_run: String,
}

/// No new pods on a node.
#[derive(Args)]
pub(crate) struct Cordon {
    #[command(flatten)]
    nodes: Nodes,
}

/// New pods on a node again.
#[derive(Args)]
pub(crate) struct Uncordon {
    #[command(flatten)]
    nodes: Nodes,
}

impl Verb for Cordon {
    async fn run(self, kube: &Kube) -> Result<(), Error> {
        mark(kube, &self.nodes.find(kube, "cordon").await?, true, DryRun::parse(&self.nodes.dry_run)?).await
    }
}

impl Verb for Uncordon {
    async fn run(self, kube: &Kube) -> Result<(), Error> {
        mark(kube, &self.nodes.find(kube, "uncordon").await?, false, DryRun::parse(&self.nodes.dry_run)?)
            .await
    }
}

impl Nodes {
    /// The nodes that are meant, as they are now.
    pub(super) async fn find(&self, kube: &Kube, verb: &str) -> Result<Vec<Info>, Error> {
        if self.nodes.is_empty() && self.selector.is_empty() {
            return Err(Error::said(format!("USAGE: {verb} NODE [flags]")));
        }
        if !self.nodes.is_empty() && !self.selector.is_empty() {
            return Err(Error::said("error: cannot specify both a node name and a --selector option"));
        }
        let resource: Arc<Resource> = kube.discovery().await?.of_kind("v1", "Node")?;
        let mut objects = Vec::new();
        if self.selector.is_empty() {
            for word in &self.nodes {
                let name = word.split_once('/').map_or(word.as_str(), |(_, name)| name);
                objects.push(kube.get(resource.target("", name)).await?);
            }
        } else {
            objects = kube.list(resource.target("", ""), &self.selector, "").await?;
        }
        let info = |object: api::Object| Info {
            resource: resource.clone(),
            namespace: String::new(),
            name: object.name().to_owned(),
            object: Some(object),
            source: None,
        };
        Ok(objects.into_iter().map(info).collect())
    }
}

/// Closes nodes to new pods, or opens them.
pub(super) async fn mark(kube: &Kube, nodes: &[Info], closed: bool, dry_run: DryRun) -> Result<(), Error> {
    let done = if closed { "cordoned" } else { "uncordoned" };
    for info in nodes {
        let node = info.object.clone().unwrap_or_default();
        let now = node.at(&["spec", "unschedulable"]).and_then(Value::as_bool).unwrap_or_default();
        if now == closed {
            output::line(format!("{} already {done}{}", info.label(), dry_run.suffix()))?;
            continue;
        }
        if dry_run != DryRun::Client {
            let patch = Patch::Merge(json!({"spec": {"unschedulable": closed.then_some(true)}}));
            kube.patch(info.target(), &patch, &dry_run.options()).await?;
        }
        output::line(format!("{} {done}{}", info.label(), dry_run.suffix()))?;
    }
    Ok(())
}
