//! `taint`: of nodes.

use clap::Args;
use serde_json::{Value, json};

use super::Verb;
use crate::changes::{self, How};
use crate::error::Error;
use crate::kube::Kube;
use crate::resource_builder::{self, Files, Selection};

#[derive(Args)]
pub(crate) struct Taint {
    /// NODE KEY[=VALUE]:EFFECT... KEY[:EFFECT]-...
    words: Vec<String>,
    /// Nodes with these labels
    #[arg(short = 'l', long, default_value = "")]
    selector: String,
    /// All nodes
    #[arg(long)]
    all: bool,
    /// Change taints that are there with another value
    #[arg(long)]
    overwrite: bool,
    #[command(flatten)]
    how: How,
}

/// What identifies a taint; an empty effect is any.
#[derive(Clone, Debug, PartialEq, Eq)]
struct One {
    key: String,
    value: String,
    effect: String,
}

impl One {
    fn parse(text: &str) -> Result<Self, String> {
        let bad = || format!("invalid taint spec: {text}");
        let (key, value, effect) = match text.split(':').collect::<Vec<_>>().as_slice() {
            [key] => ((*key).to_owned(), String::new(), String::new()),
            [pair, effect] => {
                if !["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(effect) {
                    return Err(format!("invalid taint effect: {effect}, unsupported taint effect"));
                }
                match pair.split('=').collect::<Vec<_>>().as_slice() {
                    [key] => ((*key).to_owned(), String::new(), (*effect).to_owned()),
                    [key, value] => ((*key).to_owned(), (*value).to_owned(), (*effect).to_owned()),
                    _ => return Err(bad()),
                }
            }
            _ => return Err(bad()),
        };
        let name = key.rsplit('/').next().unwrap_or_default();
        if name.is_empty() || !api::selector::is_label_text(name) {
            return Err(format!(
                "{}, name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with \
                 an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation \
                 is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
                bad()
            ));
        }
        Ok(Self { key, value, effect })
    }

    fn is(&self, taint: &Value) -> bool {
        taint["key"] == *self.key && (self.effect.is_empty() || taint["effect"] == *self.effect)
    }

    fn to_json(&self) -> Value {
        let mut taint = json!({"key": self.key, "effect": self.effect});
        if !self.value.is_empty() {
            taint["value"] = self.value.clone().into();
        }
        taint
    }
}

/// What the words after the nodes ask for.
fn split(words: &[String]) -> Result<(Vec<String>, Vec<One>, Vec<One>), String> {
    let is_taint = |word: &str| word.contains('=') || word.contains(':') || word.ends_with('-');
    let first = words.iter().position(|word| is_taint(word)).unwrap_or(words.len());
    let (mut added, mut removed): (Vec<One>, Vec<One>) = (Vec::new(), Vec::new());
    for word in &words[first..] {
        if !is_taint(word) {
            return Err(format!("all resources must be specified before taint changes: {word}"));
        }
        if let Some(word) = word.strip_suffix('-') {
            removed.push(One::parse(word)?);
            continue;
        }
        let taint = One::parse(word)?;
        if taint.effect.is_empty() {
            return Err(format!("invalid taint spec: {word}"));
        }
        if added.iter().any(|one| one.key == taint.key && one.effect == taint.effect) {
            let One { key, value, effect } = taint;
            return Err(format!(
                "duplicated taints with the same key and effect: {{{key} {value} {effect} <nil>}}"
            ));
        }
        added.push(taint);
    }
    let both: Vec<String> = removed
        .iter()
        .filter(|gone| {
            added
                .iter()
                .any(|one| one.key == gone.key && (gone.effect.is_empty() || gone.effect == one.effect))
        })
        .map(|gone| format!("{}={}", gone.key, gone.effect))
        .collect();
    if !both.is_empty() {
        return Err(format!(
            "can not both modify and remove the following taint(s) in the same command: {}",
            both.join(", ")
        ));
    }
    if added.is_empty() && removed.is_empty() {
        return Err("at least one taint update is required".into());
    }
    Ok((words[..first].to_vec(), added, removed))
}

/// Changes a node's taints, and gives the word for what was done.
fn change(node: &mut Value, added: &[One], removed: &[One], overwrite: bool) -> Result<&'static str, String> {
    let old = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
    let known: Vec<&str> = added
        .iter()
        .filter(|one| old.iter().any(|taint| one.is(taint)))
        .map(|one| one.key.as_str())
        .collect();
    if !overwrite && !known.is_empty() {
        let name = node["metadata"]["name"].as_str().unwrap_or_default();
        return Err(format!(
            "node {name} already has {} taint(s) with same effect(s) and --overwrite is false",
            known.join(",")
        ));
    }
    let mut taints: Vec<Value> = added.iter().map(One::to_json).collect();
    taints.extend(old.iter().filter(|taint| !added.iter().any(|one| one.is(taint))).cloned());
    let grew = taints.len() != old.len();
    let mut shrank = false;
    let mut missing = Vec::new();
    for one in removed {
        let before = taints.len();
        taints.retain(|taint| !one.is(taint));
        shrank = taints.len() != before;
        if !shrank {
            let effect = if one.effect.is_empty() { String::new() } else { format!(":{}", one.effect) };
            missing.push(format!("taint \"{}{effect}\" not found", one.key));
        }
    }
    if !missing.is_empty() {
        return Err(missing.join("\n"));
    }
    node["spec"]["taints"] = taints.into();
    Ok(match (grew, shrank, overwrite) {
        (true, true, _) | (_, _, true) => "modified",
        (true, false, false) => "tainted",
        (false, _, false) => "untainted",
    })
}

impl Verb for Taint {
    async fn run(self, kube: &Kube) -> Result<(), Error> {
        if self.all && !self.selector.is_empty() {
            return Err(Error::said("setting 'all' parameter with a non empty selector is prohibited"));
        }
        let (mut words, added, removed) = split(&self.words).map_err(Error::said)?;
        let Some(first) = words.first() else {
            return Err(Error::said("one or more resources must be specified as <resource> <name>"));
        };
        let kind = first.split('/').next().unwrap_or_default();
        let resource = kube.discovery().await?.find(kind)?;
        if resource.kind != "Node" {
            return Err(Error::said(format!("invalid resource type {kind}, only node types are supported")));
        }
        if self.all || !self.selector.is_empty() {
            words.truncate(1);
        } else if words.len() < 2 && !first.contains('/') {
            return Err(Error::said(
                "at least one resource name must be specified since 'all' parameter is not set",
            ));
        }
        let files = Files::default();
        let selection = Selection { labels: &self.selector, all: self.all, ..Selection::new(&words, &files) };
        let infos = resource_builder::resolve(kube, &selection).await?;
        changes::change_each(kube, &infos, &self.how, |node, _| {
            change(node, &added, &removed, self.overwrite)
                .map(|done| Some(done.to_owned()))
                .map_err(Error::said)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn taints_are_changed() {
        let node = json!({"metadata": {"name": "n"}, "spec": {"taints": [{"key": "a", "value": "1", "effect": "NoExecute"}]}});
        let table = [
            (&["b=2:NoSchedule"][..], false, Ok("tainted"), 2),
            (&["a-"][..], false, Ok("untainted"), 0),
            (&["a=3:NoExecute"][..], true, Ok("modified"), 1),
            (
                &["a=3:NoExecute"][..],
                false,
                Err("node n already has a taint(s) with same effect(s) and --overwrite is false"),
                1,
            ),
            (&["a:NoSchedule-"][..], false, Err("taint \"a:NoSchedule\" not found"), 1),
        ];
        for (changes, overwrite, expected, count) in table {
            let (_, added, removed) = split(&words(changes)).expect("reads");
            let mut node = node.clone();
            let done = change(&mut node, &added, &removed, overwrite);
            assert_eq!(done.as_deref().map_err(String::as_str), expected, "{changes:?}");
            assert_eq!(node["spec"]["taints"].as_array().map(Vec::len), Some(count));
        }
    }

    #[test]
    fn taints_are_read() {
        let (nodes, added, removed) = split(&words(&["node", "n", "a:NoExecute", "b-"])).expect("reads");
        assert_eq!(nodes, ["node", "n"]);
        assert_eq!(
            (added[0].to_json(), removed[0].key.as_str()),
            (json!({"key": "a", "effect": "NoExecute"}), "b")
        );
        for bad in [
            &["n", "a=1"][..],
            &["n", "a:Never"],
            &["n", "a:NoExecute", "a-"],
            &["n", "a=1:NoExecute", "x"],
            &["n"],
        ] {
            assert!(split(&words(bad)).is_err(), "{bad:?}");
        }
    }
}
