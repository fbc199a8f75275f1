//! `delete`: asks for deletions, then waits until the objects are gone.

use std::time::Duration;

use api::Object;
use clap::Args;
use client::DeleteOptions;

use super::Verb;
use crate::changes::DryRun;
use crate::error::Error;
use crate::kube::{Info, Kube, parse_duration};
use crate::output;
use crate::resource_builder::{self, Files, Selection, Selectors};

#[derive(Args)]
pub(crate) struct Delete {
    /// TYPE NAME, or TYPE/NAME
    words: Vec<String>,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    selectors: Selectors,
    /// Delete all objects of the types
    #[arg(long)]
    all: bool,
    /// In all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Wait until the objects are gone
    #[arg(long, default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          action = clap::ArgAction::Set)]
    wait: bool,
    /// How long to wait; 0 for ever
    #[arg(long, default_value = "0s")]
    timeout: String,
    /// Delete at once, without waiting for the node
    #[arg(long)]
    force: bool,
    /// The shortest grace period
    #[arg(long)]
    now: bool,
    /// Seconds for a graceful end; -1 for the object's own
    #[arg(long, default_value_t = -1, allow_hyphen_values = true)]
    grace_period: i64,
    /// background, foreground, or orphan
    #[arg(long, default_value = "background", num_args = 0..=1, require_equals = true,
          default_missing_value = "background")]
    cascade: String,
    /// Do not fail where an object is not there
    #[arg(long)]
    ignore_not_found: bool,
    /// none, client, or server
    #[arg(long, default_value = "none")]
    dry_run: String,
    /// name
    #[arg(short = 'o', long, default_value = "")]
    output: String,
}

impl Verb for Delete {
    async fn run(self, kube: &Kube) -> Result<(), Error> {
        let options = self.options()?;
        let dry_run = DryRun::parse(&self.dry_run)?;
        let selection = Selection {
            all: self.all,
            all_namespaces: self.all_namespaces,
            ..Selection::new(&self.words, &self.files).select(&self.selectors)
        };
        let infos = resource_builder::resolve(kube, &selection).await?;
        let lenient = self.ignore_not_found || self.all || !self.selectors.selector.is_empty();
        if self.force && options.grace_period_seconds == Some(0) {
            eprintln!(
                "Warning: Immediate deletion does not wait for confirmation that the running resource has been \
                 terminated. The resource may continue to run on the cluster indefinitely."
            );
        }
        let (mut errors, mut waiting) = (Vec::new(), Vec::new());
        if infos.is_empty() {
            return output::line("No resources found");
        }
        for info in infos {
            if dry_run == DryRun::Client {
                // What is not there cannot be deleted.
                match kube.get(info.target()).await {
                    Ok(_) => self.report(&info)?,
                    Err(error) if error.is_not_found() && lenient => {}
                    Err(error) => errors.push(info.blame("deleting", error)),
                }
                continue;
            }
            match kube.delete(info.target(), &options).await {
                Ok(answer) => {
                    self.report(&info)?;
                    let object = Object::from_value(answer).unwrap_or_default();
                    waiting.push((info, object.uid().to_owned()));
                }
                Err(error) if error.is_not_found() && lenient => {}
                Err(error) => errors.push(info.blame("deleting", error)),
            }
        }
        if self.wait && options.dry_run.is_empty() {
            let limit = parse_duration(&self.timeout)?;
            let gone = async {
                for (info, uid) in &waiting {
                    until_gone(kube, info, uid).await?;
                }
                Ok::<(), Error>(())
            };
            if limit.is_zero() {
                gone.await?;
            } else if let Ok(done) = tokio::time::timeout(limit, gone).await {
                done?;
            } else {
                return Err(Error::said("timed out waiting for the condition"));
            }
        }
        Error::of_all(errors)
    }
}

/// The propagation policy that `--cascade` means.
pub(super) fn propagation(cascade: &str) -> Result<&'static str, Error> {
    match cascade {
        "background" | "true" => Ok("Background"),
        "foreground" => Ok("Foreground"),
        "orphan" | "false" => Ok("Orphan"),
        other => Err(Error::said(format!(
            "invalid cascade value ({other}). Must be \"background\", \"foreground\", or \"orphan\""
        ))),
    }
}

impl Delete {
    fn options(&self) -> Result<DeleteOptions, Error> {
        let policy = propagation(&self.cascade)?;
        let grace = match (self.force, self.now, self.grace_period) {
            (true, _, -1) => Some(0),
            (false, true, -1) => Some(1),
            (_, true, _) => return Err(Error::said("--now and --grace-period cannot be specified together")),
            (false, false, 0) => Some(1),
            (_, _, seconds) => u32::try_from(seconds).ok().map(i64::from),
        };
        Ok(DeleteOptions {
            grace_period_seconds: grace,
            propagation_policy: Some(policy.to_owned()),
            dry_run: if DryRun::parse(&self.dry_run)? == DryRun::Server {
                vec!["All".into()]
            } else {
                Vec::new()
            },
            preconditions: None,
        })
    }

    fn report(&self, info: &Info) -> Result<(), Error> {
        if self.output == "name" {
            return output::line(info.label());
        }
        let how = if self.force { "force deleted" } else { "deleted" };
        let suffix = DryRun::parse(&self.dry_run)?.suffix();
        output::line(format!("{}{suffix}", said(info, how)))
    }
}

/// `pod "web" deleted from default namespace`.
pub(super) fn said(info: &Info, how: &str) -> String {
    let place =
        if info.resource.namespaced { format!(" from {} namespace", info.namespace) } else { String::new() };
    format!("{} {:?} {how}{place}", info.resource.label(), info.name)
}

/// Returns once the object, or the one of that uid, is not there.
pub(super) async fn until_gone(kube: &Kube, info: &Info, uid: &str) -> Result<(), Error> {
    let mut pause = Duration::from_millis(20);
    loop {
        match kube.find(info.target()).await? {
            None => return Ok(()),
            Some(object) if !uid.is_empty() && object.uid() != uid => return Ok(()),
            Some(_) => tokio::time::sleep(pause).await,
        }
        pause = (pause * 2).min(Duration::from_secs(1));
    }
}
