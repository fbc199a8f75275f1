//! Roles, of namespaces and of the cluster.

use serde_json::Value;

use super::Subject;
use super::text::{Text, items, text};

pub(super) fn write(out: &mut Text, subject: &Subject<'_>) {
    let object = subject.object;
    out.field("Name", text(&object["metadata"]["name"]));
    out.metadata(object);
    out.line(0, "PolicyRule:");
    out.line(1, "Resources\tNon-Resource URLs\tResource Names\tVerbs");
    out.line(1, "---------\t-----------------\t--------------\t-----");
    for line in compact_lines(items(&object["rules"])) {
        out.line(1, line);
    }
}

/// Rules as lines of four columns, for all who show rules.
pub(in super::super) fn compact_lines<'a>(rules: impl Iterator<Item = &'a Value>) -> Vec<String> {
    compact(rules).iter().map(Rule::line).collect()
}

/// A rule about one resource or one path.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    group: String,
    resource: String,
    name: Option<String>,
    url: Option<String>,
    verbs: Vec<String>,
}

impl Rule {
    /// The four columns.
    fn line(&self) -> String {
        let list = |one: &Option<String>| format!("[{}]", one.as_deref().unwrap_or_default());
        let (resource, below) = match self.resource.split_once('/') {
            Some((resource, below)) => (resource, format!("/{below}")),
            None => (self.resource.as_str(), String::new()),
        };
        let group = if self.group.is_empty() { String::new() } else { format!(".{}", self.group) };
        format!(
            "{resource}{group}{below}\t{}\t{}\t[{}]",
            list(&self.url),
            list(&self.name),
            self.verbs.join(" ")
        )
    }

    /// What upstream sorts rules by: the text of all fields, verbs first.
    fn order(&self) -> String {
        let list = |one: &str, set: bool| format!("[{}]", if set { one } else { "" });
        let is_url = self.url.is_some();
        format!(
            "[{}],{},{},{},{}",
            self.verbs.join(" "),
            list(&self.group, !is_url),
            list(&self.resource, !is_url),
            list(self.name.as_deref().unwrap_or_default(), true),
            list(self.url.as_deref().unwrap_or_default(), true)
        )
    }
}

/// Rules taken apart, so that each is about one thing, and put together again
/// by that thing, with all its verbs.
fn compact<'a>(rules: impl Iterator<Item = &'a Value>) -> Vec<Rule> {
    let mut found: Vec<Rule> = Vec::new();
    for rule in rules {
        let texts = |field: &str| items(&rule[field]).map(|one| text(one).to_owned()).collect::<Vec<_>>();
        let names: Vec<Option<String>> = match texts("resourceNames") {
            none if none.is_empty() => vec![None],
            names => names.into_iter().map(Some).collect(),
        };
        for (group, resource, name) in combined(&texts("apiGroups"), &texts("resources"), &names) {
            let known = found.iter_mut().find(|one| {
                one.url.is_none() && one.group == group && one.resource == resource && one.name == name
            });
            match known {
                Some(known) => {
                    let new: Vec<String> =
                        texts("verbs").into_iter().filter(|verb| !known.verbs.contains(verb)).collect();
                    known.verbs.extend(new);
                }
                None => found.push(Rule { group, resource, name, url: None, verbs: texts("verbs") }),
            }
        }
        for url in texts("nonResourceURLs") {
            for verb in texts("verbs") {
                found.push(Rule {
                    group: String::new(),
                    resource: String::new(),
                    name: None,
                    url: Some(url.clone()),
                    verbs: vec![verb],
                });
            }
        }
    }
    found.sort_by_cached_key(Rule::order);
    found
}

fn combined(
    groups: &[String],
    resources: &[String],
    names: &[Option<String>],
) -> Vec<(String, String, Option<String>)> {
    let mut all = Vec::new();
    for group in groups {
        for resource in resources {
            all.extend(names.iter().map(|name| (group.clone(), resource.clone(), name.clone())));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rules_are_put_together() {
        let rules = [
            json!({"apiGroups": ["", "apps"], "resources": ["pods/log"], "verbs": ["get", "list"]}),
            json!({"apiGroups": [""], "resources": ["pods/log"], "verbs": ["watch", "get"]}),
            json!({"apiGroups": ["*"], "resources": ["*"], "resourceNames": ["a"], "verbs": ["*"]}),
            json!({"nonResourceURLs": ["/x"], "verbs": ["get"]}),
        ];
        let lines: Vec<String> = compact(rules.iter()).iter().map(Rule::line).collect();
        assert_eq!(
            lines,
            [
                "*.*\t[]\t[a]\t[*]",
                "pods/log\t[]\t[]\t[get list watch]",
                "pods.apps/log\t[]\t[]\t[get list]",
                "\t[/x]\t[]\t[get]"
            ]
        );
    }
}
