//! `diff`: what `apply` would change, by the server's own dry run.

use std::path::Path;
use std::process::Command;

use api::Object;
use clap::Args;
use client::{Patch, WriteOptions};
use serde_json::{Value, json};

use super::Verb;
use super::apply;
use crate::changes::unannotated;
use crate::error::Error;
use crate::kube::{Info, Kube};
use crate::output;
use crate::resource_builder::{self, Files};

#[derive(Args)]
pub(crate) struct Diff {
    #[command(flatten)]
    files: Files,
    /// Let the server merge
    #[arg(long)]
    server_side: bool,
    /// Take fields over from other managers (server-side)
    #[arg(long)]
    force_conflicts: bool,
    /// Keep managedFields
    #[arg(long)]
    show_managed_fields: bool,
    /// Only objects with these labels
    #[arg(short = 'l', long, default_value = "")]
    selector: String,
}

impl Verb for Diff {
    /// The exit code tells: 0 of no differences, 1 of some, more of a failure.
    async fn run(self, kube: &Kube) -> Result<(), Error> {
        match self.show(kube).await {
            Ok(()) => Ok(()),
            Err(Error::Exit(code)) => Err(Error::Exit(code)),
            Err(error) => {
                eprintln!("{error}");
                Err(Error::Exit(2))
            }
        }
    }
}

impl Diff {
    async fn show(&self, kube: &Kube) -> Result<(), Error> {
        if self.files.filenames.is_empty() {
            return Err(Error::said("must specify one of -f and -k"));
        }
        let selector = api::LabelSelector::parse(&self.selector)
            .map_err(|error| Error::said(format!("unable to parse the selector: {error}")))?;
        let folder = tempfile::tempdir()?;
        let names =
            ["LIVE", "MERGED"].map(|name| folder.path().join(format!("{name}-{}", std::process::id())));
        for name in &names {
            std::fs::create_dir(name)?;
        }
        for info in resource_builder::from_files(kube, &self.files).await? {
            let labels = info.object.as_ref().and_then(Object::labels).cloned().unwrap_or_default();
            if !selector.matches(&labels) {
                continue;
            }
            let live = kube.find(info.target()).await?;
            let merged = self.merged(kube, &info, live.as_ref()).await?;
            let sides = [live.map(Object::into_value).unwrap_or(Value::Null), merged.into_value()];
            let mut sides = sides.map(|side| self.tidy(side));
            if info.resource.kind == "Secret" && info.resource.group.is_empty() {
                mask(&mut sides);
            }
            for (name, side) in names.iter().zip(&sides) {
                let text = if side.is_null() { String::new() } else { output::yaml::format(side) };
                std::fs::write(name.join(file_of(&info)), text)?;
            }
        }
        compare(&names[0], &names[1])
    }
}

impl Diff {
    /// The object as `apply` would leave it.
    async fn merged(&self, kube: &Kube, info: &Info, live: Option<&Object>) -> Result<Object, Error> {
        let options = WriteOptions { dry_run: true, strict: false, force: self.force_conflicts };
        let wanted = info.object.clone().unwrap_or_default();
        if self.server_side {
            let patch = Patch::Apply(wanted.into_value());
            return kube.patch(info.target(), &patch, &options).await;
        }
        let Some(live) = live else {
            return kube.create(info.resource.target(&info.namespace, ""), &wanted, &options).await;
        };
        // What apply notes in its annotation is no change of the object's.
        let patch = apply::patch_of(kube, info, &unannotated(&wanted), live).await?;
        kube.patch(info.target(), &patch, &options).await
    }

    fn tidy(&self, mut object: Value) -> Value {
        if !self.show_managed_fields
            && let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut)
        {
            metadata.remove("managedFields");
        }
        object
    }
}

/// `apps.v1.Deployment.default.web`.
fn file_of(info: &Info) -> String {
    let group =
        if info.resource.group.is_empty() { String::new() } else { format!("{}.", info.resource.group) };
    format!("{group}{}.{}.{}.{}", info.resource.version, info.resource.kind, info.namespace, info.name)
}

/// Hides the values of secrets, but not that they differ.
fn mask(sides: &mut [Value; 2]) {
    let [live, merged] = sides;
    let before = live["data"].as_object().cloned().unwrap_or_default();
    let after = merged["data"].as_object().cloned().unwrap_or_default();
    for (side, other, word) in [(live, &after, "before"), (merged, &before, "after")] {
        for (key, value) in side.get_mut("data").and_then(Value::as_object_mut).into_iter().flatten() {
            *value = match other.get(key) {
                Some(other) if other != value => json!(format!("*** ({word})")),
                _ => json!("***"),
            };
        }
    }
}

/// Runs `diff`, or what `KUBECTL_EXTERNAL_DIFF` says.
fn compare(live: &Path, merged: &Path) -> Result<(), Error> {
    let named = std::env::var("KUBECTL_EXTERNAL_DIFF").ok().filter(|text| !text.trim().is_empty());
    let words = named.clone().unwrap_or_else(|| "diff -u -N".to_owned());
    // As upstream: only words without special characters are passed on.
    let is_plain = |word: &&str| word.chars().all(|c| c.is_ascii_alphanumeric() || "-=".contains(c));
    let mut words = words.split_whitespace();
    let program = words.next().unwrap_or("diff");
    let ended = Command::new(program).args(words.filter(is_plain)).arg(live).arg(merged).status();
    match ended {
        Ok(status) => match status.code() {
            Some(0) => Ok(()),
            Some(1) => Err(Error::Exit(1)),
            Some(code) => {
                eprintln!("error: exit status {code}");
                Err(Error::Exit(u8::try_from(code).unwrap_or(2)))
            }
            None => Err(Error::said(format!("{program:?}: {status}"))),
        },
        Err(error) => Err(Error::said(format!("failed to run {program:?}: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_masked() {
        let mut sides =
            [json!({"data": {"a": "1", "b": "2"}}), json!({"data": {"a": "1", "b": "3", "c": "4"}})];
        mask(&mut sides);
        assert_eq!(sides[0], json!({"data": {"a": "***", "b": "*** (before)"}}));
        assert_eq!(sides[1], json!({"data": {"a": "***", "b": "*** (after)", "c": "***"}}));
    }
}
