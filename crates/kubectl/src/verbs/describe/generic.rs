//! Every kind without a layout of its own: field by field.

use serde_json::{Map, Value};

use super::Subject;
use super::text::{Text, text};
use crate::gotemplate::shown;

/// Fields that are shown apart, or not at all.
const SKIPPED: [&str; 5] = [
    ".metadata.managedFields",
    ".metadata.name",
    ".metadata.namespace",
    ".metadata.labels",
    ".metadata.annotations",
];
const ACRONYMS: [&str; 4] = ["API", "URL", "UID", "GUID"];

pub(super) fn write(out: &mut Text, subject: &Subject<'_>) {
    let object = subject.object;
    out.field("Name", text(&object["metadata"]["name"]));
    out.field("Namespace", text(&object["metadata"]["namespace"]));
    out.metadata(object);
    if let Some(fields) = object.as_object() {
        fields_of(out, 0, fields, "");
    }
}

fn fields_of(out: &mut Text, level: usize, fields: &Map<String, Value>, path: &str) {
    for (field, value) in fields {
        let path = format!("{path}.{field}");
        if SKIPPED.contains(&path.as_str()) {
            continue;
        }
        let title = title_of(field);
        match value {
            Value::Object(below) => {
                out.line(level, format_args!("{title}:"));
                fields_of(out, level + 1, below, &path);
            }
            Value::Array(list) => {
                out.line(level, format_args!("{title}:"));
                for one in list {
                    match one {
                        Value::Object(below) => fields_of(out, level + 1, below, &path),
                        other => out.line(level + 1, shown(other)),
                    }
                }
            }
            other => out.field_at(level, &title, shown(other)),
        }
    }
}

/// `creationTimestamp` as `Creation Timestamp`; acronyms stay whole, and
/// names that are no words stay as they are.
fn title_of(field: &str) -> String {
    if field.chars().any(|c| !c.is_alphabetic() && c != '-') {
        return field.to_owned();
    }
    let titled = |word: String| {
        if ACRONYMS.contains(&word.to_uppercase().as_str()) {
            word.to_uppercase()
        } else if word.to_lowercase() == word {
            let mut chars = word.chars();
            chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
        } else {
            word
        }
    };
    let mut words = words(field);
    // `CID` and `Rs` are `CIDRs`: a plural is no word of its own.
    let mut index = 0;
    while index + 1 < words.len() {
        let is_acronym = words[index].len() >= 2 && words[index].chars().all(char::is_uppercase);
        if is_acronym && words[index + 1].starts_with(char::is_uppercase) {
            let next = words.remove(index + 1);
            words[index].push_str(&next);
        }
        index += 1;
    }
    words.into_iter().map(titled).collect::<Vec<_>>().join(" ")
}

/// Parts a name where its case changes: `podCIDR` is `pod`, `CIDR`, and the
/// last capital before small letters starts a word.
fn words(name: &str) -> Vec<String> {
    #[derive(PartialEq, Clone, Copy)]
    enum Case {
        Lower,
        Upper,
        Other,
    }
    let case = |c: char| match c {
        c if c.is_lowercase() => Case::Lower,
        c if c.is_uppercase() => Case::Upper,
        _ => Case::Other,
    };
    let mut runs: Vec<(Case, String)> = Vec::new();
    for c in name.chars() {
        match runs.last_mut() {
            Some((last, run)) if *last == case(c) => run.push(c),
            _ => runs.push((case(c), c.to_string())),
        }
    }
    for index in 1..runs.len() {
        if runs[index - 1].0 == Case::Upper
            && runs[index].0 == Case::Lower
            && let Some(capital) = runs[index - 1].1.pop()
        {
            runs[index].1.insert(0, capital);
        }
    }
    runs.into_iter().map(|(_, run)| run).filter(|run| !run.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_are_made_of_names() {
        let table = [
            ("kind", "Kind"),
            ("apiVersion", "API Version"),
            ("creationTimestamp", "Creation Timestamp"),
            ("uid", "UID"),
            ("podIP", "Pod IP"),
            ("kubeProxyVersion", "Kube Proxy Version"),
            ("f:spec", "f:spec"),
            ("podCIDRs", "Pod CIDRs"),
        ];
        for (field, title) in table {
            assert_eq!(title_of(field), title);
        }
    }
}
