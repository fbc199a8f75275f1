//! `edit`: an object in an editor, again and again until the server takes it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use api::{Object, Reason};
use clap::Args;
use client::Target;
use serde_json::Value;

use super::Verb;
use crate::changes;
use crate::error::Error;
use crate::kube::{Info, Kube};
use crate::output;
use crate::resource_builder::{self, Files, Selection};

const HEADER: &str = "\
# Please edit the object below. Lines beginning with a '#' will be ignored,
# and an empty file will abort the edit. If an error occurs while saving this file will be
# reopened with the relevant failures.
#
";

#[derive(Args)]
pub(crate) struct Edit {
    /// TYPE NAME, or TYPE/NAME
    words: Vec<String>,
    #[command(flatten)]
    files: Files,
    /// yaml, or json
    #[arg(short = 'o', long, default_value = "yaml")]
    output: String,
    /// Print the patch that was sent
    #[arg(long)]
    output_patch: bool,
    /// The subresource to edit
    #[arg(long, default_value = "")]
    subresource: String,
}

/// What came of one edited file.
#[derive(Default)]
struct Results {
    /// What the file is to say when it is opened again.
    reasons: String,
    again: bool,
    refused: bool,
    gone: bool,
}

impl Verb for Edit {
    async fn run(self, kube: &Kube) -> Result<(), Error> {
        let is_json = match self.output.as_str() {
            "yaml" => false,
            "json" => true,
            other => {
                return Err(Error::said(format!(
                    "The flag 'output' must be one of yaml|json, not {other:?}"
                )));
            }
        };
        let infos = self.infos(kube).await?;
        if infos.is_empty() {
            return Err(Error::said("edit cancelled, no objects found"));
        }
        let shown = shown(&infos, is_json)?;
        let header = if is_json { "" } else { HEADER };
        let mut text = format!("{header}{shown}");
        let mut last: Option<String> = None;
        loop {
            let (edited, file) = open(&text, if is_json { "json" } else { "yaml" })?;
            if last.as_ref().is_some_and(|last| stripped(last) == stripped(&edited)) {
                return Err(preserved(&file, "Edit cancelled, no valid changes were saved."));
            }
            if stripped(&edited) == stripped(&shown) {
                std::fs::remove_file(&file)?;
                eprintln!("Edit cancelled, no changes made.");
                return Ok(());
            }
            if stripped(&edited).is_empty() {
                std::fs::remove_file(&file)?;
                eprintln!("Edit cancelled, saved file was empty.");
                return Ok(());
            }
            let results = match read(&edited) {
                Ok(objects) => self.send(kube, &infos, &objects).await.map_err(|error| {
                    let why = error.to_string();
                    preserved(&file, why.strip_prefix("error: ").unwrap_or(&why))
                })?,
                Err(why) => Results {
                    reasons: commented(&format!("The edited file had a syntax error: {why}")),
                    again: true,
                    ..Results::default()
                },
            };
            if results.refused {
                eprintln!("You can run `kubectl replace -f {}` to try this update again.", file.display());
                return Err(Error::Exit(1));
            }
            if results.gone {
                eprintln!(
                    "The edits you made on deleted resources have been saved to {:?}",
                    file.display().to_string()
                );
                return Err(Error::Exit(1));
            }
            std::fs::remove_file(&file)?;
            if !results.again {
                return Ok(());
            }
            text = format!("{header}{}{}", results.reasons, stripped(&edited));
            last = Some(edited);
        }
    }
}

impl Edit {
    async fn infos(&self, kube: &Kube) -> Result<Vec<Info>, Error> {
        let selection = Selection { all: true, ..Selection::new(&self.words, &self.files) };
        let mut infos = resource_builder::resolve(kube, &selection).await?;
        for info in &mut infos {
            let target = Target { subresource: self.subresource.clone(), ..info.target() };
            let mut object = kube.get(target).await?;
            object.remove_at(&["metadata", "managedFields"]);
            info.object = Some(object);
        }
        Ok(infos)
    }

    /// Sends what is new in each object.
    async fn send(&self, kube: &Kube, infos: &[Info], objects: &[Object]) -> Result<Results, Error> {
        let mut results = Results::default();
        for after in objects {
            let same = |info: &&Info| {
                info.object.as_ref().is_some_and(|before| {
                    before.uid() == after.uid()
                        && before.name() == after.name()
                        && before.kind() == after.kind()
                })
            };
            let Some(info) = infos.iter().find(same) else {
                return Err(Error::said("At least one of apiVersion, kind and name was changed"));
            };
            let before = info.object.clone().unwrap_or_default();
            if before.namespace() != after.namespace() {
                return Err(Error::said(format!(
                    "the namespace from the provided object {:?} does not match the namespace {:?}",
                    after.namespace(),
                    before.namespace()
                )));
            }
            let patch = changes::between(kube, &info.resource, &before, after).await?;
            if changes::is_empty(&patch) {
                output::line(format!("{} skipped", info.label()))?;
                continue;
            }
            if self.output_patch {
                let (client::Patch::Merge(body) | client::Patch::Strategic(body)) = &patch else { continue };
                output::line(format!("Patch: {body}"))?;
            }
            let target = Target { subresource: self.subresource.clone(), ..info.target() };
            match kube.patch(target, &patch, &client::WriteOptions::default()).await {
                Ok(_) => output::line(format!("{} edited", info.label()))?,
                Err(Error::Server { status, .. }) => results.add(info, &status),
                Err(error) => return Err(error),
            }
        }
        Ok(results)
    }
}

impl Results {
    fn add(&mut self, info: &Info, status: &api::Status) {
        let (resource, name) = (info.resource.qualified(), &info.name);
        match status.reason {
            Reason::Invalid => {
                self.again = true;
                let causes = status.details.as_ref().map(|details| details.causes.as_slice());
                let mut reason = format!("{resource} {name:?} was not valid:");
                for cause in causes.unwrap_or_default() {
                    let _ = write!(reason, "\n* {}: {}", cause.field, cause.message);
                }
                self.reasons.push_str(&commented(&reason));
                eprintln!("error: {resource} {name:?} is invalid");
            }
            Reason::NotFound => {
                self.gone = true;
                eprintln!("error: {resource} {name:?} could not be found on the server");
            }
            _ => {
                self.refused = true;
                eprintln!("error: {resource} {name:?} could not be patched: {}", status.message);
            }
        }
    }
}

/// The text to edit.
fn shown(infos: &[Info], is_json: bool) -> Result<String, Error> {
    let objects: Vec<Value> =
        infos.iter().filter_map(|info| info.object.clone()).map(Object::into_value).collect();
    let value = match objects.as_slice() {
        [only] => only.clone(),
        several => serde_json::json!({"apiVersion": "v1", "items": several, "kind": "List", "metadata": {}}),
    };
    if is_json { output::json_text(&value) } else { Ok(output::yaml::format(&value)) }
}

fn read(text: &str) -> Result<Vec<Object>, String> {
    let value = api::yaml::parse(text).map_err(|error| {
        let mut why = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            let _ = write!(why, ": {cause}");
            source = cause.source();
        }
        why
    })?;
    let items = match value["kind"].as_str() {
        Some("List") => value["items"].as_array().cloned().unwrap_or_default(),
        _ => vec![value],
    };
    items.into_iter().map(|item| Object::from_value(item).map_err(|error| error.to_string())).collect()
}

/// A reason as comments, with an empty one behind.
fn commented(reason: &str) -> String {
    let lines: Vec<String> = reason.lines().map(|line| format!("# {line}\n")).collect();
    format!("{}#\n", lines.concat())
}

/// The text without lines that are comments, and without blanks around.
fn stripped(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
    let text = lines.join("\n");
    if text.trim().is_empty() { String::new() } else { format!("{}\n", text.trim_end()) }
}

/// Lets an editor change a text, and gives it with the file that it is in.
fn open(text: &str, ending: &str) -> Result<(String, PathBuf), Error> {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    let editor = set("KUBE_EDITOR").or_else(|| set("EDITOR")).unwrap_or_else(|| "vi".to_owned());
    let file = tempfile::Builder::new().prefix("kubectl-edit-").suffix(&format!(".{ending}")).tempfile()?;
    std::fs::write(file.path(), text)?;
    let (_, path) = file.keep().map_err(|error| Error::said(error.to_string()))?;
    // The editor may have arguments; the file's name is one more.
    let ended = std::process::Command::new("sh")
        .arg("-c")
        .arg(format!("{editor} \"$1\""))
        .arg("kubectl-edit")
        .arg(&path)
        .status();
    match ended {
        Ok(status) if status.success() => Ok((std::fs::read_to_string(&path)?, path)),
        Ok(status) => {
            Err(preserved(&path, &format!("there was a problem with the editor {editor:?}: {status}")))
        }
        Err(error) => Err(preserved(&path, &format!("unable to launch the editor {editor:?}: {error}"))),
    }
}

/// An error after which the user finds their text again.
fn preserved(file: &Path, why: &str) -> Error {
    eprintln!("A copy of your changes has been stored to {:?}", file.display().to_string());
    Error::said(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_do_not_count() {
        assert_eq!(stripped("# a\nx: 1\n  # b\n\n"), "x: 1\n");
        assert_eq!(stripped(HEADER), "");
        assert_eq!(commented("a\nb"), "# a\n# b\n#\n");
    }

    #[test]
    fn edited_texts_are_read() {
        assert_eq!(read("kind: A\n").expect("one").len(), 1);
        let list = "kind: List\nitems:\n- kind: A\n- kind: B\n";
        assert_eq!(read(list).expect("list").iter().map(Object::kind).collect::<Vec<_>>(), ["A", "B"]);
        assert!(read("a: [").is_err());
        assert!(read("- 1").is_err());
    }
}
