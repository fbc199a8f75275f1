//! `top`: what nodes and pods use, from the metrics API where there is one.

mod usage;

use std::sync::Arc;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::Verb;
use crate::discovery::Resource;
use crate::error::Error;
use crate::kube::Kube;
use crate::output;

const GROUP: &str = "metrics.k8s.io";

#[derive(Args)]
pub(crate) struct Top {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// What nodes use
    #[command(aliases = ["nodes", "no"])]
    Node(Node),
    /// What pods use
    #[command(aliases = ["pods", "po"])]
    Pod(Pod),
}

#[derive(Args)]
struct Node {
    /// The node
    name: Option<String>,
    /// Only nodes with these labels
    #[arg(short = 'l', long, default_value = "")]
    selector: String,
    /// cpu, or memory
    #[arg(long, default_value = "")]
    sort_by: String,
    /// Print no headers
    #[arg(long)]
    no_headers: bool,
    /// Percent of the capacity, not of what pods may have
    #[arg(long)]
    show_capacity: bool,
    /// As upstream has it; gRPC needs no choice
    #[arg(long, hide = true)]
    use_protocol_buffers: bool,
}

#[derive(Args)]
struct Pod {
    /// The pod
    name: Option<String>,
    /// Only pods with these labels
    #[arg(short = 'l', long, default_value = "")]
    selector: String,
    /// Only pods with these fields
    #[arg(long, default_value = "")]
    field_selector: String,
    /// cpu, or memory
    #[arg(long, default_value = "")]
    sort_by: String,
    /// Each container
    #[arg(long)]
    containers: bool,
    /// In all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Print no headers
    #[arg(long)]
    no_headers: bool,
    /// Print the sum too
    #[arg(long)]
    sum: bool,
    /// As upstream has it; gRPC needs no choice
    #[arg(long, hide = true)]
    use_protocol_buffers: bool,
}

impl Verb for Top {
    async fn run(self, kube: &Kube) -> Result<(), Error> {
        match self.what {
            What::Node(node) => node.run(kube).await,
            What::Pod(pod) => pod.run(kube).await,
        }
    }
}

async fn metrics(kube: &Kube, plural: &str) -> Result<Arc<Resource>, Error> {
    let all = &kube.discovery().await?.resources;
    let found = all.iter().find(|one| one.group == GROUP && one.plural == plural);
    found.cloned().ok_or_else(|| Error::said("Metrics API not available"))
}

fn check(name: Option<&String>, selector: &str, sort_by: &str) -> Result<(), Error> {
    if !["", "cpu", "memory"].contains(&sort_by) {
        return Err(Error::said("--sort-by accepts only cpu or memory"));
    }
    if name.is_some() && !selector.is_empty() {
        return Err(Error::said("only one of NAME or selector can be provided"));
    }
    Ok(())
}

async fn read(
    kube: &Kube,
    resource: &Resource,
    (namespace, name): (&str, Option<&str>),
    (labels, fields): (&str, &str),
) -> Result<Vec<Value>, Error> {
    let objects = match name {
        Some(name) => vec![kube.get(resource.target(namespace, name)).await?],
        None => kube.list(resource.target(namespace, ""), labels, fields).await?,
    };
    Ok(objects.into_iter().map(api::Object::into_value).collect())
}

impl Node {
    async fn run(&self, kube: &Kube) -> Result<(), Error> {
        check(self.name.as_ref(), &self.selector, &self.sort_by)?;
        let resource = metrics(kube, "nodes").await?;
        let place = ("", self.name.as_deref());
        let used = read(kube, &resource, place, (&self.selector, "")).await?;
        if used.is_empty() {
            return Err(Error::said("metrics not available yet"));
        }
        let nodes = kube.discovery().await?.of_kind("v1", "Node")?;
        let nodes = read(kube, &nodes, place, (&self.selector, "")).await?;
        let field = if self.show_capacity { "capacity" } else { "allocatable" };
        output::write(&usage::of_nodes(&used, &nodes, field, &self.sort_by, !self.no_headers))
    }
}

impl Pod {
    async fn run(&self, kube: &Kube) -> Result<(), Error> {
        check(self.name.as_ref(), &self.selector, &self.sort_by)?;
        let resource = metrics(kube, "pods").await?;
        let namespace = if self.all_namespaces { String::new() } else { kube.namespace()? };
        let place = (namespace.as_str(), self.name.as_deref());
        let used = read(kube, &resource, place, (&self.selector, &self.field_selector)).await?;
        if used.is_empty() {
            let pods = kube.discovery().await?.of_kind("v1", "Pod")?;
            let pods = read(kube, &pods, place, (&self.selector, &self.field_selector)).await?;
            if !pods.is_empty() {
                return Err(Error::said("metrics not available yet"));
            }
            if self.all_namespaces {
                eprintln!("No resources found");
            } else {
                eprintln!("No resources found in {namespace} namespace.");
            }
            return Ok(());
        }
        let shown = usage::Shown {
            namespaces: self.all_namespaces,
            containers: self.containers,
            headers: !self.no_headers,
            sum: self.sum,
        };
        output::write(&usage::of_pods(&used, &self.sort_by, &shown))
    }
}
