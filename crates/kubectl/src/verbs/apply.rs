//! `apply`: client-side by a three-way merge, or `--server-side`.

use api::Object;
use clap::Args;
use client::{Patch, WriteOptions};
use serde_json::{Value, json};

use super::Verb;
use crate::error::Error;
use crate::kube::{Info, Kube};
use crate::output::{self, Format};
use crate::resource_builder::{self, Files};
use crate::three_way::{self, LAST_APPLIED};

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
    /// none, or server
    #[arg(long, default_value = "none")]
    dry_run: String,
    /// json, yaml, name
    #[arg(short = 'o', long, default_value = "")]
    output: String,
}

impl Verb for Apply {
    async fn run(self, kube: &Kube) -> Result<(), Error> {
        if self.files.filenames.is_empty() {
            return Err(Error::said("must specify one of -f and -k"));
        }
        let format = Format::parse(&self.output)?;
        let options =
            WriteOptions { dry_run: dry_run(&self.dry_run)?, strict: true, force: self.force_conflicts };
        let mut errors = Vec::new();
        for info in resource_builder::from_files(kube, &self.files).await? {
            let outcome = if self.server_side {
                self.by_server(kube, &info, &options).await
            } else {
                by_client(kube, &info, &options).await
            };
            match outcome {
                Ok((object, done)) if format.is_table() => {
                    let suffix = if options.dry_run { " (server dry run)" } else { "" };
                    output::line(format!("{}/{} {done}{suffix}", info.resource.label(), object.name()))?;
                }
                Ok((object, _)) => output::write(&format.print(&object.into_value(), true)?)?,
                Err(error) => errors.push(error),
            }
        }
        Error::of_all(errors)
    }
}

/// Whether `--dry-run`'s value asks the server for one.
pub(super) fn dry_run(value: &str) -> Result<bool, Error> {
    match value {
        "none" | "false" => Ok(false),
        "server" => Ok(true),
        other => {
            Err(Error::said(format!("invalid dry-run value ({other}). Must be \"none\" or \"server\" here")))
        }
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

/// The object with what the file says noted in its annotation.
fn annotated(wanted: &Object) -> Object {
    let mut noted = wanted.clone();
    if let Some(annotations) = noted.as_map_mut().get_mut("metadata").and_then(|m| m.get_mut("annotations"))
        && let Some(map) = annotations.as_object_mut()
    {
        map.remove(LAST_APPLIED);
    }
    if noted.at(&["metadata", "annotations"]).is_none_or(Value::is_null) {
        noted.set_at(&["metadata", "annotations"], json!({}));
    }
    let text = format!("{}\n", noted.clone().into_value());
    noted.set_at(&["metadata", "annotations", LAST_APPLIED], text);
    noted
}

async fn by_client(
    kube: &Kube,
    info: &Info,
    options: &WriteOptions,
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
            let target = info.resource.target(&info.namespace, "");
            let created =
                kube.create(target, &modified, options).await.map_err(|error| blame("creating", error))?;
            return Ok((created, "created"));
        };
        if current.annotation(LAST_APPLIED).is_none() {
            eprintln!(
                "Warning: resource {}/{} is missing the {LAST_APPLIED} annotation which is required by kubectl apply. \
                 kubectl apply should only be used on resources created declaratively by either kubectl create \
                 --save-config or kubectl apply. The missing annotation will be patched automatically.",
                info.resource.plural, info.name
            );
        }
        let patch = patch_of(kube, info, &modified, &current).await?;
        if matches!(&patch, Patch::Strategic(body) | Patch::Merge(body) if body.as_object().is_some_and(|map| map.is_empty()))
        {
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

async fn patch_of(kube: &Kube, info: &Info, modified: &Object, current: &Object) -> Result<Patch, Error> {
    let mut original = match current.annotation(LAST_APPLIED) {
        Some(text) => serde_json::from_str(text).unwrap_or(Value::Null),
        None => Value::Null,
    };
    // The annotation never says that it was itself applied: it stays.
    if let Some(map) = original.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        map.remove(LAST_APPLIED);
    }
    let resource = &info.resource;
    let (modified, current) = (modified.clone().into_value(), current.clone().into_value());
    let schema = kube.schema(&resource.group, &resource.version).await?;
    let found = schema.as_ref().and_then(|schema| {
        let kind = schema.kind(&resource.group, &resource.version, &resource.kind)?;
        // Custom resources have no strategic merge; their shapes carry no builtin names.
        (kind.get("x-kubernetes-preserve-unknown-fields").is_none() && !is_custom(&resource.group))
            .then_some((schema, kind))
    });
    Ok(match found {
        Some((schema, kind)) => {
            Patch::Strategic(three_way::strategic_patch(schema, kind, &original, &modified, &current))
        }
        None => Patch::Merge(three_way::json_patch(&original, &modified, &current)),
    })
}

/// Groups with a dot that are not Kubernetes' own hold custom resources.
fn is_custom(group: &str) -> bool {
    group.contains('.') && (!group.ends_with(".k8s.io") || group == "apiextensions.k8s.io")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_annotation_holds_the_file_without_itself() {
        let file = Object::from_value(
            json!({"kind": "A", "metadata": {"annotations": {LAST_APPLIED: "old", "x": "y"}}}),
        )
        .expect("object");
        let noted = annotated(&file);
        assert_eq!(
            noted.annotation(LAST_APPLIED),
            Some("{\"kind\":\"A\",\"metadata\":{\"annotations\":{\"x\":\"y\"}}}\n")
        );
        assert_eq!(annotated(&noted), noted);
    }
}
