//! `rollout`: of deployments, daemon sets and stateful sets.

mod history;
mod status;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::Verb;
use crate::changes::{self, DryRun, How};
use crate::error::Error;
use crate::kube::{Info, Kube, parse_duration};
use crate::output::{self, Format};
use crate::resource_builder::{self, Files, Selection};

#[derive(Args)]
pub(crate) struct Rollout {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Show the progress of a rollout
    Status(Status),
    /// Show earlier revisions
    History(History),
    /// Go back to an earlier revision
    Undo(Undo),
    /// Replace all pods
    Restart(Change),
    /// Mark a workload as paused
    Pause(Change),
    /// Let a paused workload go on
    Resume(Change),
}

/// Which workloads.
#[derive(Args)]
struct Which {
    /// TYPE NAME, or TYPE/NAME
    words: Vec<String>,
    #[command(flatten)]
    files: Files,
    /// Only objects with these labels
    #[arg(short = 'l', long, default_value = "")]
    selector: String,
}

#[derive(Args)]
struct Status {
    #[command(flatten)]
    which: Which,
    /// Wait until the rollout is done
    #[arg(short = 'w', long, default_value_t = true, num_args = 0..=1, require_equals = true,
          default_missing_value = "true", action = clap::ArgAction::Set)]
    watch: bool,
    /// Of this revision; 0 is the last
    #[arg(long, default_value_t = 0, allow_hyphen_values = true)]
    revision: i64,
    /// How long to wait; 0 for ever
    #[arg(long, default_value = "0s")]
    timeout: String,
}

#[derive(Args)]
struct History {
    #[command(flatten)]
    which: Which,
    /// Show the template of this revision
    #[arg(long, default_value_t = 0, allow_hyphen_values = true)]
    revision: i64,
    /// json, yaml, name
    #[arg(short = 'o', long, default_value = "")]
    output: String,
}

#[derive(Args)]
struct Undo {
    #[command(flatten)]
    which: Which,
    /// The revision to go back to; 0 is the one before the last
    #[arg(long, default_value_t = 0, allow_hyphen_values = true)]
    to_revision: i64,
    #[command(flatten)]
    how: How,
}

#[derive(Args)]
struct Change {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    how: How,
}

impl Verb for Rollout {
    async fn run(self, kube: &Kube) -> Result<(), Error> {
        match self.what {
            What::Status(status) => status.run(kube).await,
            What::History(history) => history.run(kube).await,
            What::Undo(undo) => undo.run(kube).await,
            What::Restart(change) => change.run(kube, "restarted", restarted).await,
            What::Pause(change) => change.run(kube, "paused", paused).await,
            What::Resume(change) => change.run(kube, "resumed", resumed).await,
        }
    }
}

impl Which {
    async fn infos(&self, kube: &Kube) -> Result<Vec<Info>, Error> {
        if self.words.is_empty() && self.files.filenames.is_empty() {
            return Err(Error::said("required resource not specified"));
        }
        let selection =
            Selection { labels: &self.selector, all: true, ..Selection::new(&self.words, &self.files) };
        resource_builder::resolve(kube, &selection).await
    }
}

impl Status {
    async fn run(&self, kube: &Kube) -> Result<(), Error> {
        if self.revision < 0 {
            return Err(Error::said(format!("revision must be a positive integer: {}", self.revision)));
        }
        let limit = parse_duration(&self.timeout)?;
        let infos = self.which.infos(kube).await?;
        if infos.is_empty() {
            eprintln!("No resources found in {} namespace.", kube.namespace()?);
        }
        for info in infos {
            let watch = status::follow(kube, &info, self.revision, self.watch);
            if limit.is_zero() {
                watch.await?;
            } else {
                match tokio::time::timeout(limit, watch).await {
                    Ok(done) => done?,
                    Err(_) => return Err(Error::said("timed out waiting for the condition")),
                }
            }
        }
        Ok(())
    }
}

impl History {
    async fn run(&self, kube: &Kube) -> Result<(), Error> {
        if self.revision < 0 {
            return Err(Error::said(format!("revision must be a positive integer: {}", self.revision)));
        }
        let format = Format::parse(&self.output)?;
        for info in self.which.infos(kube).await? {
            let object = kube.get(info.target()).await?;
            let revisions = history::revisions(kube, &object.into_value()).await?;
            let of_number = || revisions.iter().find(|one| one.number == self.revision);
            if !format.is_table() {
                let wanted: Vec<&history::Revision> = match self.revision {
                    0 => revisions.iter().collect(),
                    _ => vec![
                        of_number().ok_or_else(|| Error::said("unable to find the specified revision"))?,
                    ],
                };
                for one in wanted {
                    output::write(&format.print(&one.object, true)?)?;
                }
                continue;
            }
            let with = match self.revision {
                0 => String::new(),
                number => format!("with revision #{number}"),
            };
            let text = match (self.revision, of_number()) {
                _ if revisions.is_empty() => "No rollout history found.".to_owned(),
                (0, _) => history::table(&revisions),
                (_, Some(one)) => super::describe::raw_template(&one.template),
                (_, None) => return Err(Error::said("unable to find the specified revision")),
            };
            output::line(format!("{} {with}\n{text}", info.label()))?;
        }
        Ok(())
    }
}

impl Undo {
    async fn run(&self, kube: &Kube) -> Result<(), Error> {
        for info in self.which.infos(kube).await? {
            let object = kube.get(info.target()).await?;
            let value = object.clone().into_value();
            let revisions = history::revisions(kube, &value).await?;
            let revision = history::target(&value, &revisions, self.to_revision)?;
            if self.how.dry_run()? == DryRun::Client {
                let text = super::describe::raw_template(&revision.template);
                output::line(format!("{} {text}{}", info.label(), DryRun::Client.suffix()))?;
                continue;
            }
            if value["kind"] == "Deployment" && value["spec"]["paused"] == true {
                return Err(Error::said(
                    "you cannot rollback a paused deployment; resume it first with 'kubectl rollout resume' and try again",
                ));
            }
            if history::is_current(&value, revision) {
                let done = format!(
                    "skipped rollback (current template already matches revision {})",
                    self.to_revision
                );
                self.how.report(&info.label(), object, &done)?;
                continue;
            }
            let patch = history::patch(&value, revision);
            let after = kube.patch(info.target(), &patch, &self.how.dry_run()?.options()).await?;
            self.how.report(&info.label(), after, "rolled back")?;
        }
        Ok(())
    }
}

impl Change {
    async fn run(
        &self,
        kube: &Kube,
        done: &'static str,
        change: fn(&mut Value) -> Result<(), String>,
    ) -> Result<(), Error> {
        let infos = self.which.infos(kube).await?;
        if infos.is_empty() {
            eprintln!("No resources found in {} namespace.", kube.namespace()?);
        }
        changes::change_each(kube, &infos, &self.how, |workload, info| match change(workload) {
            Ok(()) => Ok(Some(done.to_owned())),
            Err(why) => Err(Error::said(format!("{} {:?} {why}", info.resource.qualified(), info.name))),
        })
        .await
    }
}

const RESTARTED_AT: &str = "kubectl.kubernetes.io/restartedAt";

fn restarted(workload: &mut Value) -> Result<(), String> {
    if !["Deployment", "DaemonSet", "StatefulSet"].contains(&workload["kind"].as_str().unwrap_or_default()) {
        return Err("restarting is not supported".into());
    }
    if workload["kind"] == "Deployment" && workload["spec"]["paused"] == true {
        return Err("can't restart paused deployment (run rollout resume first)".into());
    }
    let now = crate::clock::now().to_zoned(jiff::tz::TimeZone::system());
    let now = now.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string().replace("+00:00", "Z");
    let metadata = &mut workload["spec"]["template"]["metadata"];
    if metadata["annotations"][RESTARTED_AT] == now {
        return Err("if restart has already been triggered within the past second, please wait before attempting to trigger another".into());
    }
    if !metadata["annotations"].is_object() {
        metadata["annotations"] = json!({});
    }
    metadata["annotations"][RESTARTED_AT] = now.into();
    Ok(())
}

fn paused(workload: &mut Value) -> Result<(), String> {
    match (workload["kind"] == "Deployment", workload["spec"]["paused"] == true) {
        (false, _) => Err("pausing is not supported".into()),
        (true, true) => Err("is already paused".into()),
        (true, false) => {
            workload["spec"]["paused"] = true.into();
            Ok(())
        }
    }
}

fn resumed(workload: &mut Value) -> Result<(), String> {
    match (workload["kind"] == "Deployment", workload["spec"]["paused"] == true) {
        (false, _) => Err("resuming is not supported".into()),
        (true, false) => Err("is not paused".into()),
        (true, true) => {
            if let Some(spec) = workload["spec"].as_object_mut() {
                spec.remove("paused");
            }
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workloads_are_changed() {
        let mut web = json!({"kind": "Deployment", "spec": {"template": {"metadata": {}}}});
        assert_eq!(resumed(&mut web), Err("is not paused".into()));
        paused(&mut web).expect("pauses");
        assert_eq!(paused(&mut web), Err("is already paused".into()));
        assert!(restarted(&mut web).is_err_and(|why| why.contains("paused")));
        resumed(&mut web).expect("resumes");
        assert_eq!(web["spec"].get("paused"), None);
        restarted(&mut web).expect("restarts");
        assert!(web["spec"]["template"]["metadata"]["annotations"][RESTARTED_AT].is_string());
        assert!(paused(&mut json!({"kind": "DaemonSet", "spec": {}})).is_err());
    }
}
