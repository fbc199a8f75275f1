//! What the verbs that write share: dry runs, what is said about a written
//! object, and patches made from an object before and after.

use api::Object;
use clap::Args;
use client::{Patch, WriteOptions};
use serde_json::{Value, json};

use crate::discovery::Resource;
use crate::error::Error;
use crate::kube::{Info, Kube};
use crate::output::{self, Format};
use crate::three_way::{self, LAST_APPLIED};

/// How far a write goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DryRun {
    None,
    Client,
    Server,
}

impl DryRun {
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        match text {
            "none" | "false" => Ok(Self::None),
            "client" => Ok(Self::Client),
            "server" => Ok(Self::Server),
            "unchanged" => Err(Error::said("a value is needed: --dry-run=client or --dry-run=server")),
            other => Err(Error::said(format!(
                "Invalid dry-run value ({other}). Must be \"none\", \"server\", or \"client\"."
            ))),
        }
    }

    /// What is said after the verb.
    pub(crate) const fn suffix(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Client => " (dry run)",
            Self::Server => " (server dry run)",
        }
    }

    pub(crate) fn options(self) -> WriteOptions {
        WriteOptions { dry_run: self == Self::Server, ..WriteOptions::default() }
    }
}

/// `--dry-run` and `-o`.
#[derive(Args, Clone, Default)]
pub(crate) struct How {
    /// none, client, or server
    #[arg(long, default_value = "none")]
    pub(crate) dry_run: String,
    /// json, yaml, name
    #[arg(short = 'o', long, default_value = "")]
    pub(crate) output: String,
}

impl How {
    pub(crate) fn dry_run(&self) -> Result<DryRun, Error> {
        DryRun::parse(&self.dry_run)
    }

    /// Says what was done to an object, or prints it in the format.
    pub(crate) fn report(&self, label: &str, object: Object, done: &str) -> Result<(), Error> {
        let format = Format::parse(&self.output)?;
        if format.is_table() {
            output::line(format!("{label} {done}{}", self.dry_run()?.suffix()))
        } else {
            let mut value = object.into_value();
            if let Some(metadata) = value["metadata"].as_object_mut() {
                metadata.remove("managedFields");
            }
            output::write(&format.print(&value, true)?)
        }
    }

    /// Changes an object to what it is to become, and gives what it became.
    pub(crate) async fn change(
        &self,
        kube: &Kube,
        info: &Info,
        before: &Object,
        after: Object,
    ) -> Result<Object, Error> {
        if self.dry_run()? == DryRun::Client {
            return Ok(after);
        }
        let patch = between(kube, &info.resource, before, &after).await?;
        kube.patch(info.target(), &patch, &self.dry_run()?.options()).await
    }

    /// Creates an object, and gives what was made.
    pub(crate) async fn create(&self, kube: &Kube, info: &Info) -> Result<Object, Error> {
        let object = info.object.clone().unwrap_or_default();
        let dry_run = self.dry_run()?;
        if dry_run == DryRun::Client {
            return Ok(object);
        }
        let options = WriteOptions { strict: true, ..dry_run.options() };
        kube.create(info.resource.target(&info.namespace, ""), &object, &options).await
    }
}

/// Changes each of some objects, and says so in the word that the change
/// gives; `None` leaves an object alone.
pub(crate) async fn change_each(
    kube: &Kube,
    infos: &[Info],
    how: &How,
    mut change: impl FnMut(&mut Value, &Info) -> Result<Option<String>, Error>,
) -> Result<(), Error> {
    let mut errors = Vec::new();
    for info in infos {
        match kube.get(info.target()).await {
            Err(error) => errors.push(error),
            Ok(before) => {
                let mut value = before.clone().into_value();
                let outcome = match change(&mut value, info) {
                    Ok(None) => continue,
                    Ok(Some(done)) => write(kube, info, how, (&before, value), &done).await,
                    Err(error) => Err(error),
                };
                errors.extend(outcome.err());
            }
        }
    }
    Error::of_all(errors)
}

async fn write(
    kube: &Kube,
    info: &Info,
    how: &How,
    (before, after): (&Object, Value),
    done: &str,
) -> Result<(), Error> {
    let after = Object::from_value(after).map_err(|error| Error::said(error.to_string()))?;
    let after = how.change(kube, info, before, after).await?;
    how.report(&info.label(), after, done)
}

/// The patch that turns one state of an object into another.
pub(crate) async fn between(
    kube: &Kube,
    resource: &Resource,
    before: &Object,
    after: &Object,
) -> Result<Patch, Error> {
    let (before, after) = (before.clone().into_value(), after.clone().into_value());
    three_way_patch(kube, resource, (&before, &after, &before)).await
}

/// Whether a patch changes nothing.
pub(crate) fn is_empty(patch: &Patch) -> bool {
    let (Patch::Json(body) | Patch::Merge(body) | Patch::Strategic(body) | Patch::Apply(body)) = patch;
    body.as_object().is_some_and(serde_json::Map::is_empty)
}

/// The patch of what was written last, what is written now, and what there is.
pub(crate) async fn three_way_patch(
    kube: &Kube,
    resource: &Resource,
    (original, modified, current): (&Value, &Value, &Value),
) -> Result<Patch, Error> {
    let schema = kube.schema(&resource.group, &resource.version).await?;
    let found = schema.as_ref().and_then(|schema| {
        let kind = schema.kind(&resource.group, &resource.version, &resource.kind)?;
        // Custom resources have no strategic merge; their shapes carry no builtin names.
        (kind.get("x-kubernetes-preserve-unknown-fields").is_none() && !is_custom(&resource.group))
            .then_some((schema, kind))
    });
    Ok(match found {
        Some((schema, kind)) => {
            Patch::Strategic(three_way::strategic_patch(schema, kind, original, modified, current))
        }
        None => Patch::Merge(three_way::json_patch(original, modified, current)),
    })
}

/// Groups with a dot that are not Kubernetes' own hold custom resources.
fn is_custom(group: &str) -> bool {
    group.contains('.') && (!group.ends_with(".k8s.io") || group == "apiextensions.k8s.io")
}

/// What a file says, without what an earlier apply noted.
pub(crate) fn unannotated(wanted: &Object) -> Object {
    let mut plain = wanted.clone();
    if let Some(annotations) = plain.as_map_mut().get_mut("metadata").and_then(|m| m.get_mut("annotations"))
        && let Some(map) = annotations.as_object_mut()
    {
        map.remove(LAST_APPLIED);
    }
    // Never none at all: the others' annotations would count as taken away.
    if plain.at(&["metadata", "annotations"]).is_none_or(Value::is_null) {
        plain.set_at(&["metadata", "annotations"], json!({}));
    }
    plain
}

/// The object with what the file says noted in its annotation.
pub(crate) fn annotated(wanted: &Object) -> Object {
    let mut noted = unannotated(wanted);
    let text = format!("{}\n", noted.clone().into_value());
    noted.set_at(&["metadata", "annotations", LAST_APPLIED], text);
    noted
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
        let plain = unannotated(&Object::from_value(json!({"kind": "A"})).expect("object"));
        assert_eq!(plain.into_value(), json!({"kind": "A", "metadata": {"annotations": {}}}));
    }

    #[test]
    fn dry_runs_are_read() {
        assert_eq!(DryRun::parse("server").expect("read").suffix(), " (server dry run)");
        assert_eq!(DryRun::parse("client").expect("read").suffix(), " (dry run)");
        assert!(DryRun::parse("yes").is_err());
    }
}
