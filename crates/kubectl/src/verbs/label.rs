//! `label`, and the change of string maps in metadata that `annotate` shares.

use std::collections::BTreeMap;

use api::Object;
use clap::Args;
use client::Patch;
use serde_json::{Map, Value, json};

use super::Verb;
use crate::changes::{DryRun, How};
use crate::error::Error;
use crate::kube::{Info, Kube};
use crate::output;
use crate::resource_builder::{self, Files, Selection, Selectors};

/// The flags of `label` and `annotate`.
#[derive(Args)]
pub(crate) struct Label {
    /// TYPE NAME KEY=VALUE... KEY-...
    words: Vec<String>,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    selectors: Selectors,
    /// All objects of the type
    #[arg(long)]
    all: bool,
    /// In all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Change keys that have another value
    #[arg(long)]
    overwrite: bool,
    /// Print what is set, after changes if there are any
    #[arg(long)]
    list: bool,
    /// Only if the object still has this version
    #[arg(long, default_value = "")]
    resource_version: String,
    #[command(flatten)]
    how: How,
}

impl Verb for Label {
    async fn run(self, kube: &Kube) -> Result<(), Error> {
        change(self, kube, "labels", "label", "labeled").await
    }
}

/// What the words after the objects ask for; `None` removes.
fn split(words: &[String]) -> Result<(Vec<String>, BTreeMap<String, Option<String>>), Error> {
    let is_change = |word: &&String| word.contains('=') || word.ends_with('-');
    let first = words.iter().position(|word| is_change(&word)).unwrap_or(words.len());
    let mut changes = BTreeMap::new();
    for word in &words[first..] {
        let (key, value) = match word.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => match word.strip_suffix('-') {
                Some(key) => (key, None),
                None => {
                    return Err(Error::said(
                        "all resources must be specified before the changes: ".to_owned() + word,
                    ));
                }
            },
        };
        changes.insert(key.to_owned(), value);
    }
    Ok((words[..first].to_vec(), changes))
}

pub(super) async fn change(
    args: Label,
    kube: &Kube,
    field: &'static str,
    noun: &'static str,
    done: &'static str,
) -> Result<(), Error> {
    let (words, changes) = split(&args.words)?;
    if changes.is_empty() && !args.list {
        return Err(Error::said(format!("at least one {noun} update is required")));
    }
    let selection = Selection {
        all: args.all,
        all_namespaces: args.all_namespaces,
        ..Selection::new(&words, &args.files).select(&args.selectors)
    };
    let mut errors = Vec::new();
    let infos = resource_builder::resolve(kube, &selection).await?;
    for info in &infos {
        let current = match kube.get(info.target()).await {
            Ok(current) => current,
            Err(error) => {
                errors.push(error);
                continue;
            }
        };
        let have = current.at(&["metadata", field]).and_then(Value::as_object).cloned().unwrap_or_default();
        match plan(&have, &changes, args.overwrite, noun) {
            Err(why) => errors.push(Error::said(why)),
            Ok((patch, unfound)) => {
                for key in unfound {
                    output::line(format!("{noun} {key:?} not found."))?;
                }
                let word = match (patch.is_empty(), patch.values().all(Value::is_null)) {
                    (true, _) if noun == "label" => format!("not {done}"),
                    (false, true) if noun == "label" => "unlabeled".to_owned(),
                    _ => done.to_owned(),
                };
                let after = written(&args, kube, info, current, (field, patch)).await?;
                if args.list {
                    print_all(info, &after, field, infos.len() > 1)?;
                } else {
                    args.how.report(&info.label(), after, &word)?;
                }
            }
        }
    }
    Error::of_all(errors)
}

/// The object with the change, which the server made or would make.
async fn written(
    args: &Label,
    kube: &Kube,
    info: &Info,
    mut current: Object,
    (field, patch): (&str, Map<String, Value>),
) -> Result<Object, Error> {
    if patch.is_empty() {
        return Ok(current);
    }
    let dry_run = args.how.dry_run()?;
    if dry_run == DryRun::Client {
        for (key, value) in patch {
            if value.is_null() {
                current.remove_at(&["metadata", field, &key]);
            } else {
                current.set_at(&["metadata", field, &key], value);
            }
        }
        return Ok(current);
    }
    let mut body = json!({"metadata": {field: patch}});
    if !args.resource_version.is_empty() {
        body["metadata"]["resourceVersion"] = args.resource_version.clone().into();
    }
    kube.patch(info.target(), &Patch::Merge(body), &dry_run.options()).await
}

fn print_all(info: &Info, object: &Object, field: &str, titled: bool) -> Result<(), Error> {
    let indent = if titled { " " } else { "" };
    if titled {
        let resource = &info.resource;
        output::line(format!("Listing {field} for {}.{}/{}:", resource.kind, resource.group, info.name))?;
    }
    let all = object.at(&["metadata", field]).and_then(Value::as_object);
    for (key, value) in all.into_iter().flatten() {
        output::line(format!("{indent}{key}={}", value.as_str().unwrap_or_default()))?;
    }
    Ok(())
}

/// The merge patch of the map, and the keys to remove that are not there.
fn plan(
    have: &Map<String, Value>,
    changes: &BTreeMap<String, Option<String>>,
    overwrite: bool,
    noun: &str,
) -> Result<(Map<String, Value>, Vec<String>), String> {
    let (mut patch, mut unfound) = (Map::new(), Vec::new());
    for (key, value) in changes {
        let old = have.get(key).and_then(Value::as_str);
        match (old, value) {
            (None, None) => unfound.push(key.clone()),
            (Some(_), None) => {
                patch.insert(key.clone(), Value::Null);
            }
            (Some(old), Some(new)) if old == new => {}
            (Some(old), Some(_)) if !overwrite && noun == "label" => {
                return Err(format!("'{key}' already has a value ({old}), and --overwrite is false"));
            }
            (Some(old), Some(_)) if !overwrite => {
                return Err(format!(
                    "--overwrite is false but found the following declared annotation(s): '{key}' already has a value ({old})"
                ));
            }
            (_, Some(new)) => {
                patch.insert(key.clone(), new.clone().into());
            }
        }
    }
    Ok((patch, unfound))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_planned() {
        let words: Vec<String> = ["pod", "p", "a=1", "b-", "c=3", "d-"].map(str::to_owned).into();
        let (objects, changes) = split(&words).expect("splits");
        assert_eq!(objects, ["pod", "p"]);
        let have = json!({"b": "2", "c": "3"}).as_object().cloned().expect("map");
        let (patch, unfound) = plan(&have, &changes, false, "label").expect("plan");
        assert_eq!(Value::Object(patch), json!({"a": "1", "b": null}));
        assert_eq!(unfound, ["d"]);
        let other = json!({"a": "9"}).as_object().cloned().expect("map");
        assert!(
            plan(&other, &changes, false, "label")
                .is_err_and(|why| why.contains("'a' already has a value (9)"))
        );
        assert!(plan(&other, &changes, true, "label").is_ok());
        assert!(split(&["pod".into(), "a=1".into(), "x".into()]).is_err());
    }
}
