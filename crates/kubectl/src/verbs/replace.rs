//! `replace`: objects by what files say.

use std::time::Duration;

use clap::Args;
use client::{DeleteOptions, Target};

use super::Verb;
use crate::changes::{self, DryRun, How};
use crate::error::Error;
use crate::kube::{Info, Kube, parse_duration};
use crate::output;
use crate::resource_builder::{self, Files};

#[derive(Args)]
pub(crate) struct Replace {
    #[command(flatten)]
    files: Files,
    /// Delete the objects and create them anew
    #[arg(long)]
    force: bool,
    /// With --force: seconds for a graceful end; -1 for the object's own
    #[arg(long, default_value_t = -1, allow_hyphen_values = true)]
    grace_period: i64,
    /// With --force: how long to wait until the objects are gone
    #[arg(long, default_value = "0s")]
    timeout: String,
    /// With --force: background, foreground, or orphan
    #[arg(long, default_value = "background")]
    cascade: String,
    /// Note the file's content in the annotation that apply uses
    #[arg(long)]
    save_config: bool,
    /// The subresource to replace
    #[arg(long, default_value = "")]
    subresource: String,
    #[command(flatten)]
    how: How,
}

impl Verb for Replace {
    async fn run(self, kube: &Kube) -> Result<(), Error> {
        let dry_run = self.how.dry_run()?;
        if self.files.filenames.is_empty() {
            return Err(Error::said("must specify one of -f and -k"));
        }
        if !self.force && self.grace_period >= 0 {
            return Err(Error::said("--grace-period must have --force specified"));
        }
        if !self.force && !parse_duration(&self.timeout)?.is_zero() {
            return Err(Error::said("--timeout must have --force specified"));
        }
        if self.force && dry_run != DryRun::None {
            return Err(Error::said("--dry-run can not be used when --force is set"));
        }
        let mut infos = resource_builder::from_files(kube, &self.files).await?;
        if self.save_config {
            for info in &mut infos {
                info.object = info.object.as_ref().map(changes::annotated);
            }
        }
        if self.force {
            return self.anew(kube, &infos).await;
        }
        let mut errors = Vec::new();
        for info in &infos {
            match self.one(kube, info, dry_run).await {
                Ok(()) => {}
                Err(Error::Exit(code)) => return Err(Error::Exit(code)),
                Err(error) => errors.push(info.blame("replacing", error)),
            }
        }
        Error::of_all(errors)
    }
}

impl Replace {
    async fn one(&self, kube: &Kube, info: &Info, dry_run: DryRun) -> Result<(), Error> {
        let mut object = info.object.clone().unwrap_or_default();
        if dry_run == DryRun::Client {
            return self.how.report(&info.label(), object, "replaced");
        }
        // A file that names no version replaces whatever there is.
        if object.resource_version().is_empty() {
            let now = kube.get(info.target()).await?;
            object.set_at(&["metadata", "resourceVersion"], now.resource_version());
        }
        let options = client::WriteOptions { strict: true, ..dry_run.options() };
        let target = Target { subresource: self.subresource.clone(), ..info.target() };
        let after = kube.update(target, &object, &options).await?;
        self.how.report(&info.label(), after, "replaced")
    }

    /// Deletes all, waits until all are gone, creates all.
    async fn anew(&self, kube: &Kube, infos: &[Info]) -> Result<(), Error> {
        let policy = super::delete::propagation(&self.cascade)?;
        let options = DeleteOptions {
            // Zero would leave things running that nobody knows of any more.
            grace_period_seconds: (self.grace_period >= 0).then_some(self.grace_period.max(1)),
            propagation_policy: Some(policy.to_owned()),
            ..DeleteOptions::default()
        };
        let limit = match parse_duration(&self.timeout)? {
            none if none.is_zero() => Duration::from_secs(300),
            limit => limit,
        };
        for info in infos {
            match kube.delete(info.target(), &options).await {
                Ok(_) if self.how.output.is_empty() => {
                    output::line(super::delete::said(info, "deleted"))?;
                }
                Ok(_) => {}
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(info.blame("deleting", error)),
            }
        }
        for info in infos {
            match tokio::time::timeout(limit, super::delete::until_gone(kube, info, "")).await {
                Ok(gone) => gone?,
                Err(_) => return Err(Error::said("timed out waiting for the condition")),
            }
        }
        for info in infos {
            let made = self.how.create(kube, info).await.map_err(|error| info.blame("creating", error))?;
            self.how.report(&info.label(), made, "replaced")?;
        }
        Ok(())
    }
}
