//! `set env`: variables of containers, given, taken from a config map or a
//! secret, removed, or listed.

use std::io::Read as _;

use clap::Args;
use serde_json::{Value, json};

use super::{Which, containers, spec_of, split};
use crate::changes;
use crate::error::Error;
use crate::kube::{Info, Kube};
use crate::{output, resource_builder};

#[derive(Args)]
pub(super) struct Env {
    /// TYPE NAME, or TYPE/NAME, and KEY=VALUE, KEY-, or - for standard input
    words: Vec<String>,
    #[command(flatten)]
    which: Which,
    /// The containers; * is every one
    #[arg(short = 'c', long, default_value = "*")]
    containers: String,
    /// KEY=VALUE
    #[arg(short = 'e', long)]
    env: Vec<String>,
    /// Take the keys of configmap/NAME or secret/NAME
    #[arg(long, default_value = "")]
    from: String,
    /// Only these keys of it
    #[arg(long, value_delimiter = ',')]
    keys: Vec<String>,
    /// Put before its keys
    #[arg(long, default_value = "")]
    prefix: String,
    /// List the variables
    #[arg(long)]
    list: bool,
    /// Change variables that are set
    #[arg(long, default_value_t = true, num_args = 0..=1, require_equals = true,
          default_missing_value = "true", action = clap::ArgAction::Set)]
    overwrite: bool,
}

/// One change of an environment.
#[derive(Clone, Debug, PartialEq)]
enum Change {
    Set(String, Value),
    Remove(String),
}

impl Env {
    pub(super) async fn run(self, kube: &Kube) -> Result<(), Error> {
        let is_change = |word: &str| word.contains('=') || word == "-" || word.ends_with('-');
        let (words, mut rest) = split(&self.words, is_change);
        rest.extend(self.env.iter().cloned());
        let mut wanted = read(&rest)?;
        if !self.from.is_empty() {
            wanted.extend(self.referred(kube).await?);
        }
        let infos = self.which.infos(kube, &words).await?;
        if self.list {
            return self.print(kube, &infos).await;
        }
        changes::change_each(kube, &infos, &self.which.how, |object, info| {
            let spec = spec_of(object, info)?;
            let before = spec.clone();
            let meant = containers(spec, &["containers", "initContainers"], &self.containers);
            if meant.is_empty() {
                eprintln!(
                    "warning: {}/{} does not have any containers matching {:?}",
                    info.resource.plural, info.name, self.containers
                );
            }
            for container in meant {
                apply(container, &wanted, self.overwrite).map_err(Error::said)?;
            }
            Ok((before != *spec).then(|| "env updated".to_owned()))
        })
        .await
    }

    /// The variables that refer to the keys of a config map or secret.
    async fn referred(&self, kube: &Kube) -> Result<Vec<Change>, Error> {
        let discovery = kube.discovery().await?;
        let wanted = resource_builder::read_words(discovery, std::slice::from_ref(&self.from))?.remove(0);
        let field = match wanted.resource.kind.as_str() {
            "ConfigMap" => "configMapKeyRef",
            "Secret" => "secretKeyRef",
            other => return Err(Error::said(format!("unsupported resource specified in --from: {other}"))),
        };
        let name = wanted.name.unwrap_or_default();
        let object = kube.get(wanted.resource.target(&kube.namespace()?, &name)).await?.into_value();
        let keys = object["data"].as_object().into_iter().flatten().map(|(key, _)| key);
        let chosen = keys.filter(|key| self.keys.is_empty() || self.keys.contains(key));
        Ok(chosen
            .map(|key| {
                let value = json!({"valueFrom": {field: {"name": name, "key": key}}});
                Change::Set(format!("{}{}", self.prefix, variable(key)), value)
            })
            .collect())
    }

    async fn print(&self, kube: &Kube, infos: &[Info]) -> Result<(), Error> {
        for info in infos {
            let mut object = kube.get(info.target()).await?.into_value();
            let spec = spec_of(&mut object, info)?;
            for container in containers(spec, &["containers", "initContainers"], &self.containers) {
                let name = container["name"].as_str().unwrap_or_default();
                output::line(format!("# {} {}, container {name}", info.resource.kind, info.name))?;
                for one in container["env"].as_array().into_iter().flatten() {
                    output::line(shown(one))?;
                }
            }
        }
        Ok(())
    }
}

/// A key as a variable's name.
fn variable(key: &str) -> String {
    key.chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '_' { c.to_ascii_uppercase() } else { '_' })
        .collect()
}

fn read(words: &[String]) -> Result<Vec<Change>, Error> {
    let mut changes = Vec::new();
    let mut set = |text: &str| match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => {
            changes.push(Change::Set(key.to_owned(), json!({"value": value})));
            Ok(())
        }
        _ => Err(Error::said(format!("invalid parameter syntax {text}"))),
    };
    let mut removed = Vec::new();
    for word in words {
        if word == "-" {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text)?;
            for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
            {
                set(line)?;
            }
        } else if word.contains('=') {
            set(word)?;
        } else if let Some(key) = word.strip_suffix('-') {
            removed.push(Change::Remove(key.to_owned()));
        } else {
            return Err(Error::said(format!("unknown environment change {word:?}")));
        }
    }
    changes.extend(removed);
    Ok(changes)
}

fn apply(container: &mut Value, changes: &[Change], overwrite: bool) -> Result<(), String> {
    let mut env = container["env"].as_array().cloned().unwrap_or_default();
    for change in changes {
        match change {
            Change::Remove(name) => env.retain(|one| one["name"] != **name),
            Change::Set(name, value) => {
                let mut entry = value.clone();
                entry["name"] = name.clone().into();
                match env.iter_mut().find(|one| one["name"] == **name) {
                    Some(_) if !overwrite => {
                        return Err(format!("'{name}' already has a value, and --overwrite is false"));
                    }
                    Some(known) => *known = entry,
                    None => env.push(entry),
                }
            }
        }
    }
    if let Some(container) = container.as_object_mut() {
        if env.is_empty() {
            container.remove("env");
        } else {
            container.insert("env".into(), env.into());
        }
    }
    Ok(())
}

/// A variable as a line of `--list`.
fn shown(one: &Value) -> String {
    let name = one["name"].as_str().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let from = &one["valueFrom"];
    let reference = if let Some(field) = from.get("fieldRef") {
        format!("field path {}", text(&field["fieldPath"]))
    } else if let Some(resource) = from.get("resourceFieldRef") {
        format!("resource field {}", text(&resource["resource"]))
    } else if let Some(key) = from.get("configMapKeyRef") {
        format!("configmap {}, key {}", text(&key["name"]), text(&key["key"]))
    } else if let Some(key) = from.get("secretKeyRef") {
        format!("secret {}, key {}", text(&key["name"]), text(&key["key"]))
    } else {
        return format!("{name}={}", text(&one["value"]));
    };
    format!("# {name} from {reference}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_changed() {
        let words: Vec<String> = ["A=1", "B-", "C=x=y"].map(str::to_owned).into();
        let changes = read(&words).expect("reads");
        let mut container = json!({"env": [{"name": "A", "value": "0"}, {"name": "B", "value": "0"}]});
        apply(&mut container, &changes, true).expect("applies");
        assert_eq!(container["env"], json!([{"name": "A", "value": "1"}, {"name": "C", "value": "x=y"}]));
        assert!(apply(&mut container, &changes, false).is_err());
        apply(&mut container, &[Change::Remove("A".into()), Change::Remove("C".into())], true)
            .expect("applies");
        assert_eq!(container, json!({}));
        assert!(read(&["=x".to_owned()]).is_err());
        assert_eq!(variable("tls.crt"), "TLS_CRT");
    }

    #[test]
    fn variables_are_listed() {
        assert_eq!(shown(&json!({"name": "A", "value": "1"})), "A=1");
        assert_eq!(
            shown(&json!({"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}})),
            "# A from secret s, key k"
        );
    }
}
