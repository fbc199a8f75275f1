//! `wait`: until objects are gone, or a condition of theirs holds.

use std::time::Duration;

use api::Object;
use clap::Args;
use serde_json::Value;

use super::Verb;
use crate::error::Error;
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
    /// delete, or condition=TYPE[=STATUS]
    #[arg(long = "for")]
    until: String,
    /// How long to wait for each object
    #[arg(long, default_value = "30s")]
    timeout: String,
}

#[derive(Debug, PartialEq, Eq)]
enum Until {
    Deleted,
    Condition(String, String),
}

impl Until {
    fn parse(text: &str) -> Result<Self, Error> {
        if text.eq_ignore_ascii_case("delete") {
            return Ok(Self::Deleted);
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
            words: &self.words,
            files: &self.files,
            selectors: &self.selectors,
            all: self.all,
            all_namespaces: false,
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
        Until::Deleted => super::delete::until_gone(kube, info, "").await,
        Until::Condition(kind, status) => {
            while !holds(&kube.get(info.target()).await?, kind, status) {
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
            Ok(())
        }
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
        let mut object = Object::from_value(json!({"metadata": {"generation": 2}, "status": {
            "observedGeneration": 2, "conditions": [{"type": "Available", "status": "True"}]}}))
        .expect("object");
        assert!(holds(&object, "available", "true"));
        assert!(!holds(&object, "available", "false"));
        object.set_at(&["status", "observedGeneration"], 1);
        assert!(!holds(&object, "Available", "True"));
    }
}
