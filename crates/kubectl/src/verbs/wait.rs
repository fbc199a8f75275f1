//! `wait`: until objects are gone, or a condition of theirs holds.

use std::time::Duration;

use api::Object;
use clap::Args;
use serde_json::Value;

use super::Verb;
use crate::error::Error;
use crate::jsonpath::Template;
use crate::kube::{Info, Kube, parse_duration};
use crate::output;
use crate::resource_builder::{self, Files, Selection, Selectors};

#[derive(Args)]
pub(crate) struct Wait {
    /// TYPE NAME, or TYPE/NAME
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
    /// create, delete, condition=TYPE[=STATUS], or jsonpath={PATH}[=VALUE]
    #[arg(long = "for")]
    until: String,
    /// How long to wait for each object
    #[arg(long, default_value = "30s")]
    timeout: String,
}

#[derive(Debug, PartialEq)]
enum Until {
    Created,
    Deleted,
    Condition(String, String),
    /// A path that has a value, or this one.
    Path(Template, Option<String>),
}

impl Until {
    fn parse(text: &str) -> Result<Self, Error> {
        if text.eq_ignore_ascii_case("delete") {
            return Ok(Self::Deleted);
        }
        if text.eq_ignore_ascii_case("create") {
            return Ok(Self::Created);
        }
        if let Some(rest) = text.strip_prefix("jsonpath=") {
            let rest = rest.trim_matches('\'');
            // An equal sign may be in the path too: the value is behind the last brace.
            let end = rest.rfind('}').map_or(0, |at| at + 1);
            let (path, value) = match rest[end..].find('=') {
                Some(at) => (&rest[..end + at], Some(rest[end + at + 1..].trim_matches(['\'', '"']))),
                None => (rest, None),
            };
            if path.is_empty() || value == Some("") {
                return Err(Error::said("jsonpath wait has to have a value after equal sign"));
            }
            return Ok(Self::Path(Template::parse(path)?, value.map(str::to_owned)));
        }
        match text.strip_prefix("condition=") {
            Some(rest) if !rest.is_empty() => {
                let (kind, status) = rest.split_once('=').unwrap_or((rest, "true"));
                Ok(Self::Condition(kind.to_owned(), status.to_owned()))
            }
            _ => Err(Error::said(format!("unrecognized condition: {text:?}"))),
        }
    }
}

impl Verb for Wait {
    async fn run(self, kube: &Kube) -> Result<(), Error> {
        let until = Until::parse(&self.until)?;
        let limit = parse_duration(&self.timeout)?;
        let selection = Selection {
            all: self.all,
            all_namespaces: self.all_namespaces,
            ..Selection::new(&self.words, &self.files).select(&self.selectors)
        };
        let infos = resource_builder::resolve(kube, &selection).await?;
        if infos.is_empty() && until != Until::Deleted {
            return Err(Error::said("no matching resources found"));
        }
        let mut errors = Vec::new();
        for info in infos {
            if until == Until::Deleted && kube.find(info.target()).await?.is_none() {
                // What is not there was deleted before; stock kubectl says nothing.
                continue;
            }
            match tokio::time::timeout(limit, wait_for(kube, &info, &until)).await {
                Ok(Ok(())) => output::line(format!("{} condition met", info.label()))?,
                Ok(Err(error)) => errors.push(error),
                Err(_) => errors.push(Error::said(format!(
                    "timed out waiting for the condition on {}/{}",
                    info.resource.plural, info.name
                ))),
            }
        }
        Error::of_all(errors)
    }
}

async fn wait_for(kube: &Kube, info: &Info, until: &Until) -> Result<(), Error> {
    match until {
        Until::Created => {
            while kube.find(info.target()).await?.is_none() {
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
            Ok(())
        }
        Until::Path(path, wanted) => {
            while !has(&kube.get(info.target()).await?.into_value(), path, wanted.as_deref()) {
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
            Ok(())
        }
        Until::Deleted => super::delete::until_gone(kube, info, "").await,
        Until::Condition(kind, status) => {
            while !holds(&kube.get(info.target()).await?, kind, status) {
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
            Ok(())
        }
    }
}

/// Whether a path finds one plain value, the wanted one if there is one.
fn has(object: &Value, path: &Template, wanted: Option<&str>) -> bool {
    match (path.values(object).as_slice(), wanted) {
        ([], _) => false,
        (_, None) => true,
        ([found], Some(wanted)) if !found.is_object() && !found.is_array() => {
            crate::jsonpath::plain(found) == wanted
        }
        _ => false,
    }
}

/// Whether the newest generation's condition has the status.
fn holds(object: &Object, kind: &str, status: &str) -> bool {
    let behind = |seen: Option<i64>| seen.is_some_and(|seen| seen < object.generation());
    if behind(object.integer(&["status", "observedGeneration"])) {
        return false;
    }
    let conditions = object.at(&["status", "conditions"]).and_then(Value::as_array);
    conditions.into_iter().flatten().any(|one| {
        one["type"].as_str().is_some_and(|found| found.eq_ignore_ascii_case(kind))
            && one["status"].as_str().is_some_and(|found| found.eq_ignore_ascii_case(status))
            && !behind(one["observedGeneration"].as_i64())
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn conditions_are_read_and_judged() {
        assert_eq!(Until::parse("delete").expect("delete"), Until::Deleted);
        assert_eq!(
            Until::parse("condition=Ready=False").expect("condition"),
            Until::Condition("Ready".into(), "False".into())
        );
        assert!(Until::parse("nothing").is_err());
        let path = |text: &str| match Until::parse(text) {
            Ok(Until::Path(path, wanted)) => (path, wanted),
            other => panic!("{text}: {other:?}"),
        };
        let pod = json!({"status": {"phase": "Running", "list": [{"a": "b", "c": "d"}]}});
        for (text, expected) in [
            ("jsonpath={.status.phase}=Running", true),
            ("jsonpath='{.status.phase}'=Failed", false),
            ("jsonpath={.status.phase}", true),
            ("jsonpath={.status.none}", false),
            ("jsonpath={.status.list[?(@.a==\"b\")].c}=d", true),
        ] {
            let (path, wanted) = path(text);
            assert_eq!(has(&pod, &path, wanted.as_deref()), expected, "{text}");
        }
        let mut object = Object::from_value(json!({"metadata": {"generation": 2}, "status": {
            "observedGeneration": 2, "conditions": [{"type": "Available", "status": "True"}]}}))
        .expect("object");
        assert!(holds(&object, "available", "true"));
        assert!(!holds(&object, "available", "false"));
        object.set_at(&["status", "observedGeneration"], 1);
        assert!(!holds(&object, "Available", "True"));
    }
}
