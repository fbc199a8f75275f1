//! What descriptions are written with: indented lines whose tabs end cells,
//! and the pieces that many kinds share.

use std::fmt::Display;
use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Map, Value};

/// A description that grows. Its tabs become columns at the end.
#[derive(Default)]
pub(super) struct Text(String);

/// Longer annotations get lines of their own, and are cut.
const ANNOTATION: usize = 140;

impl Text {
    /// A line, two blanks deeper for each level.
    pub(super) fn line(&mut self, level: usize, text: impl Display) {
        let _ = writeln!(self.0, "{}{text}", "  ".repeat(level));
    }

    /// `Name:` and a value.
    pub(super) fn field(&mut self, name: &str, value: impl Display) {
        let _ = writeln!(self.0, "{name}:\t{value}");
    }

    /// `Name:` and a value, deeper.
    pub(super) fn field_at(&mut self, level: usize, name: &str, value: impl Display) {
        let _ = writeln!(self.0, "{}{name}:\t{value}", "  ".repeat(level));
    }

    /// A title and `KEY=VALUE` lines in a column.
    pub(super) fn labels(&mut self, title: &str, labels: &Value) {
        self.column(title, entries(labels).map(|(key, value)| format!("{key}={}", text(value))));
    }

    /// A title and lines in a column, or `<none>`.
    pub(super) fn column(&mut self, title: &str, lines: impl IntoIterator<Item = String>) {
        let mut title = format!("{title}:");
        for line in lines {
            let _ = writeln!(self.0, "{title}\t{line}");
            title.clear();
        }
        if !title.is_empty() {
            let _ = writeln!(self.0, "{title}\t<none>");
        }
    }

    /// Annotations, but for the one that `apply` keeps.
    pub(super) fn annotations(&mut self, title: &str, annotations: &Value) {
        let mut lines = Vec::new();
        for (key, value) in entries(annotations) {
            if key == crate::three_way::LAST_APPLIED {
                continue;
            }
            let value = text(value).strip_suffix('\n').unwrap_or(text(value));
            if value.len() + key.len() + 2 > ANNOTATION || value.contains('\n') {
                lines.push(format!("{key}:"));
                lines.extend(value.split('\n').map(|line| format!("  {}", shortened(line, ANNOTATION - 2))));
            } else {
                lines.push(format!("{key}: {value}"));
            }
        }
        self.column(title, lines);
    }

    /// Labels and annotations of an object.
    pub(super) fn metadata(&mut self, object: &Value) {
        self.labels("Labels", &object["metadata"]["labels"]);
        self.annotations("Annotations", &object["metadata"]["annotations"]);
    }

    /// A table of conditions: title, type, status, reason.
    pub(super) fn conditions(&mut self, conditions: &Value) {
        if items(conditions).next().is_none() {
            return;
        }
        self.line(0, "Conditions:\n  Type\tStatus\tReason");
        self.line(1, "----\t------\t------");
        for one in items(conditions) {
            self.line(
                1,
                format_args!("{} \t{}\t{}", text(&one["type"]), text(&one["status"]), text(&one["reason"])),
            );
        }
    }

    /// The text with its tabs as they are.
    pub(super) fn raw(self) -> String {
        self.0
    }

    /// The text in columns.
    pub(super) fn laid_out(&self) -> String {
        crate::output::aligned::format(&self.0)
    }
}

fn shortened(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let end = (0..=limit).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
    format!("{}...", &text[..end])
}

/// A text, or nothing.
pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// A number, or zero.
pub(super) fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or_default()
}

/// A text, or a stand-in for an empty one.
pub(super) fn text_or<'a>(value: &'a Value, default: &'a str) -> &'a str {
    value.as_str().filter(|text| !text.is_empty()).unwrap_or(default)
}

/// A list's elements.
pub(super) fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// A map's entries, ordered.
pub(super) fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

/// A list of texts, joined.
pub(super) fn joined(value: &Value, between: &str) -> String {
    items(value).map(text).collect::<Vec<_>>().join(between)
}

/// A list of texts in brackets.
pub(super) fn bracketed(value: &Value) -> String {
    format!("[{}]", joined(value, " "))
}

/// `True`, `False`, or a stand-in.
pub(super) fn flag(value: &Value, default: &'static str) -> &'static str {
    match value.as_bool() {
        Some(true) => "True",
        Some(false) => "False",
        None => default,
    }
}

/// `a=1,b=2`, or `<none>`.
pub(super) fn inline_labels(labels: &Value) -> String {
    let pairs: Vec<String> = entries(labels).map(|(key, value)| format!("{key}={}", text(value))).collect();
    if pairs.is_empty() { "<none>".into() } else { pairs.join(",") }
}

/// A selector as it is shown: `<none>` where it selects all.
pub(super) fn selector(selector: &Value) -> String {
    let text = crate::pods::selector_text(selector);
    if text.is_empty() { "<none>".into() } else { text }
}

/// A time as descriptions show it, in the zone of this machine.
pub(super) fn time(value: &Value) -> String {
    match value.as_str().and_then(api::time::parse) {
        Some(time) => time.to_zoned(TimeZone::system()).strftime("%a, %d %b %Y %H:%M:%S %z").to_string(),
        None => "Mon, 01 Jan 0001 00:00:00 +0000".into(),
    }
}

/// How long ago a time is.
pub(super) fn age(value: &Value, now: Timestamp) -> String {
    crate::clock::age(text(value), now)
}

/// `Deployment/web`, of the owner that controls.
pub(super) fn controller(object: &Value) -> Option<String> {
    let owner = items(&object["metadata"]["ownerReferences"]).find(|one| one["controller"] == true)?;
    Some(format!("{}/{}", text(&owner["kind"]), text(&owner["name"])))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn annotations_are_cut_and_broken() {
        let mut out = Text::default();
        out.annotations(
            "Annotations",
            &json!({"a": "1", "b": "x\ny\n", "c": "z".repeat(150),
            "kubectl.kubernetes.io/last-applied-configuration": "{}"}),
        );
        let expected = format!(
            "Annotations:  a: 1\n              b:\n                x\n                y\n              c:\n                {}...\n",
            "z".repeat(138)
        );
        assert_eq!(out.laid_out(), expected);
        let mut out = Text::default();
        out.annotations("Annotations", &Value::Null);
        out.labels("Labels", &json!({"a": "b", "c": ""}));
        assert_eq!(out.laid_out(), "Annotations:  <none>\nLabels:       a=b\n              c=\n");
    }

    #[test]
    fn pieces_are_shown() {
        assert_eq!(flag(&Value::Null, "<unset>"), "<unset>");
        assert_eq!(inline_labels(&json!({"a": "1", "b": "2"})), "a=1,b=2");
        assert_eq!(selector(&json!({})), "<none>");
        assert_eq!(time(&Value::Null), "Mon, 01 Jan 0001 00:00:00 +0000");
        assert_eq!(bracketed(&json!(["a", "b"])), "[a b]");
    }
}
