//! `apply`: client-side by a three-way merge, or `--server-side`.

use api::Object;
use clap::Args;
use client::{Patch, WriteOptions};
use serde_json::Value;

use super::Verb;
use crate::changes::{self, DryRun, How, annotated};
use crate::error::Error;
use crate::kube::{Info, Kube};
use crate::resource_builder::{self, Files};
use crate::three_way::LAST_APPLIED;

#[derive(Args)]
pub(crate) struct Apply {
    #[command(flatten)]
    files: Files,
    /// Let the server merge
    #[arg(long)]
    server_side: bool,
    /// Take fields over from other managers (server-side)
    #[arg(long)]
    force_conflicts: bool,
    #[command(flatten)]
    how: How,
}

impl Verb for Apply {
    async fn run(self, kube: &Kube) -> Result<(), Error> {
        if self.files.filenames.is_empty() {
            return Err(Error::said("must specify one of -f and -k"));
        }
        let dry_run = self.how.dry_run()?;
        if self.server_side && dry_run == DryRun::Client {
            return Err(Error::said(
                "--dry-run=client doesn't work with --server-side (did you mean --dry-run=server instead?)",
            ));
        }
        let options = WriteOptions { strict: true, force: self.force_conflicts, ..dry_run.options() };
        let mut errors = Vec::new();
        for info in resource_builder::from_files(kube, &self.files).await? {
            let outcome = if self.server_side {
                self.by_server(kube, &info, &options).await
            } else {
                by_client(kube, &info, &options, dry_run == DryRun::Client).await
            };
            match outcome {
                Ok((object, done)) => {
                    let label = format!("{}/{}", info.resource.label(), object.name());
                    self.how.report(&label, object, done)?;
                }
                Err(error) => errors.push(error),
            }
        }
        Error::of_all(errors)
    }
}

impl Apply {
    async fn by_server(
        &self,
        kube: &Kube,
        info: &Info,
        options: &WriteOptions,
    ) -> Result<(Object, &'static str), Error> {
        let wanted = info.object.clone().unwrap_or_default();
        let patch = Patch::Apply(wanted.into_value());
        let applied = kube
            .patch(info.target(), &patch, options)
            .await
            .map_err(|error| info.blame("applying", error))?;
        Ok((applied, "serverside-applied"))
    }
}

async fn by_client(
    kube: &Kube,
    info: &Info,
    options: &WriteOptions,
    local: bool,
) -> Result<(Object, &'static str), Error> {
    const TRIES: usize = 5;
    let modified = annotated(info.object.as_ref().unwrap_or(&Object::default()));
    if info.name.is_empty() {
        return Err(Error::said("resource name may not be empty; use kubectl create for generateName"));
    }
    let blame = |doing: &str, error| info.blame(doing, error);
    let mut tries = 0;
    loop {
        let Some(current) = kube
            .find(info.target())
            .await
            .map_err(|error| blame("retrieving current configuration of", error))?
        else {
            if local {
                return Ok((modified, "created"));
            }
            let target = info.resource.target(&info.namespace, "");
            let created =
                kube.create(target, &modified, options).await.map_err(|error| blame("creating", error))?;
            return Ok((created, "created"));
        };
        if local {
            return Ok((current, "configured"));
        }
        if current.annotation(LAST_APPLIED).is_none() {
            eprintln!(
                "Warning: resource {}/{} is missing the {LAST_APPLIED} annotation which is required by kubectl apply. \
                 kubectl apply should only be used on resources created declaratively by either kubectl create \
                 --save-config or kubectl apply. The missing annotation will be patched automatically.",
                info.resource.plural, info.name
            );
        }
        let patch = patch_of(kube, info, &modified, &current).await?;
        if changes::is_empty(&patch) {
            return Ok((current, "unchanged"));
        }
        match kube.patch(info.target(), &patch, options).await {
            Ok(patched) => {
                let same = patched.resource_version() == current.resource_version();
                return Ok((patched, if same { "unchanged" } else { "configured" }));
            }
            Err(error) if error.is_conflict() && tries < TRIES => tries += 1,
            Err(error) => return Err(blame("applying patch to", error)),
        }
    }
}

/// The patch that applying a file makes of a live object.
pub(super) async fn patch_of(
    kube: &Kube,
    info: &Info,
    modified: &Object,
    current: &Object,
) -> Result<Patch, Error> {
    let mut original = match current.annotation(LAST_APPLIED) {
        Some(text) => serde_json::from_str(text).unwrap_or(Value::Null),
        None => Value::Null,
    };
    // The annotation never says that it was itself applied: it stays.
    if let Some(map) = original.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        map.remove(LAST_APPLIED);
    }
    let (modified, current) = (modified.clone().into_value(), current.clone().into_value());
    changes::three_way_patch(kube, &info.resource, (&original, &modified, &current)).await
}
