//! `scale`: sets the replicas of workloads through their scale subresource.

use std::time::Duration;

use clap::Args;
use client::{Patch, Target};
use serde_json::json;

use super::Verb;
use crate::changes::{DryRun, How};
use crate::error::Error;
use crate::kube::{Info, Kube, parse_duration};
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
    /// Only if the object still has this version
    #[arg(long, default_value = "")]
    resource_version: String,
    /// How long to wait until the replicas are there; 0 for not at all
    #[arg(long, default_value = "0s")]
    timeout: String,
    #[command(flatten)]
    how: How,
}

impl Verb for Scale {
    async fn run(self, kube: &Kube) -> Result<(), Error> {
        let selection =
            Selection { all: self.all, ..Selection::new(&self.words, &self.files).select(&self.selectors) };
        let mut errors = Vec::new();
        for info in resource_builder::resolve(kube, &selection).await? {
            errors.extend(self.one(kube, &info).await.err());
        }
        Error::of_all(errors)
    }
}

impl Scale {
    async fn one(&self, kube: &Kube, info: &Info) -> Result<(), Error> {
        let target = Target { subresource: "scale".into(), ..info.target() };
        let scale = kube.get(target.clone()).await?;
        let now = scale.integer(&["spec", "replicas"]).unwrap_or_default();
        if self.current_replicas >= 0 && now != self.current_replicas {
            return Err(Error::said(format!("Expected replicas to be {}, was {now}", self.current_replicas)));
        }
        let dry_run = self.how.dry_run()?;
        if dry_run != DryRun::Client {
            let mut body = json!({"spec": {"replicas": self.replicas}});
            if !self.resource_version.is_empty() {
                body["metadata"] = json!({"resourceVersion": self.resource_version});
            }
            kube.patch(target.clone(), &Patch::Merge(body), &dry_run.options()).await?;
        }
        let limit = parse_duration(&self.timeout)?;
        if !limit.is_zero() && dry_run == DryRun::None {
            match tokio::time::timeout(limit, self.until_there(kube, target)).await {
                Ok(done) => done?,
                Err(_) => return Err(Error::said("timed out waiting for the condition")),
            }
        }
        self.how.report(&info.label(), kube.get(info.target()).await?, "scaled")
    }

    async fn until_there(&self, kube: &Kube, target: Target) -> Result<(), Error> {
        loop {
            let scale = kube.get(target.clone()).await?;
            if scale.integer(&["status", "replicas"]).unwrap_or_default() == i64::from(self.replicas) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }
}
