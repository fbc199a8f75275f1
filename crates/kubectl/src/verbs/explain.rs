//! `explain`: kinds and fields, from the server's OpenAPI documents, in the
//! layout of kubectl's plain text.

use std::fmt::Write as _;
use std::sync::Arc;

use clap::Args;
use serde_json::Value;

use super::Verb;
use crate::discovery::{Discovery, Resource};
use crate::error::Error;
use crate::kube::Kube;
use crate::output;
use crate::schema::Schema;

#[derive(Args)]
pub(crate) struct Explain {
    /// TYPE[.FIELD[.FIELD...]]
    words: Vec<String>,
    /// All fields below, without their descriptions
    #[arg(long)]
    recursive: bool,
    /// The version to explain, such as apps/v1
    #[arg(long, default_value = "")]
    api_version: String,
    /// plaintext
    #[arg(short = 'o', long, default_value = "plaintext")]
    output: String,
}

impl Verb for Explain {
    async fn run(self, kube: &Kube) -> Result<(), Error> {
        let word = match self.words.as_slice() {
            [word] => word.trim_end_matches('.'),
            [] => {
                return Err(Error::said(
                    "You must specify the type of resource to explain. Use \"kubectl api-resources\" for a complete \
                     list of supported resources.",
                ));
            }
            _ => return Err(Error::said("We accept only this format: explain RESOURCE")),
        };
        if self.output != "plaintext" && self.output != "plaintext-openapiv2" {
            return Err(Error::said(format!("unrecognized format: {}", self.output)));
        }
        let (resource, path) = locate(kube.discovery().await?, word, &self.api_version)?;
        let Resource { group, version, kind, .. } = &*resource;
        let missing = || {
            Error::said(format!(
                "GVR ({}, Resource={}) not found in OpenAPI schema",
                resource.api_version(),
                resource.plural
            ))
        };
        let schema = kube.schema(group, version).await?.ok_or_else(missing)?;
        let top = schema.kind(group, version, kind).ok_or_else(missing)?;
        let fields: Vec<&str> = path.iter().map(String::as_str).collect();
        let page = Page { schema: &schema, recursive: self.recursive };
        let body = page.below(top, &fields, &[]).ok_or_else(|| {
            Error::said(format!("field \"{}\" does not exist", fields.last().unwrap_or(&"")))
        })?;
        let mut text = String::new();
        if !group.is_empty() {
            let _ = writeln!(text, "GROUP:      {group}");
        }
        let _ = writeln!(text, "KIND:       {kind}\nVERSION:    {version}\n\n{body}");
        output::write(&text)
    }
}

/// The resource that the longest part of a word means, and the fields behind it.
fn locate(
    discovery: &Discovery,
    word: &str,
    api_version: &str,
) -> Result<(Arc<Resource>, Vec<String>), Error> {
    let parts: Vec<&str> = word.split('.').collect();
    for count in (1..=parts.len()).rev() {
        let Ok(found) = discovery.find(&parts[..count].join(".")) else { continue };
        let resource = match api_version {
            "" => found,
            wanted => {
                let fits = |one: &&Arc<Resource>| one.api_version() == wanted && one.plural == found.plural;
                discovery.resources.iter().find(fits).cloned().ok_or_else(|| {
                    Error::said(format!("couldn't find resource for \"{wanted}, Resource={}\"", found.plural))
                })?
            }
        };
        return Ok((resource, parts[count..].iter().map(|part| (*part).to_owned()).collect()));
    }
    discovery.find(parts[0]).map(|resource| (resource, Vec::new()))
}

struct Page<'a> {
    schema: &'a Schema,
    recursive: bool,
}

/// The map of values that a schema has, if its shape is known.
fn values_of(schema: &Value) -> Option<&Value> {
    schema.get("additionalProperties").filter(|values| values.is_object())
}

fn all_of(schema: &Value) -> impl Iterator<Item = &Value> {
    schema["allOf"].as_array().into_iter().flatten()
}

impl<'a> Page<'a> {
    /// What a schema is where it is a reference, and the reference.
    fn resolved(&self, schema: &'a Value) -> (&'a Value, Option<&'a str>) {
        let reference = schema["$ref"].as_str();
        (reference.and_then(|name| self.schema.referred(name)).unwrap_or(schema), reference)
    }

    /// Goes down a path of fields and describes what is there; `None` where
    /// there is no such field.
    fn below(&self, schema: &'a Value, path: &[&str], seen: &[&'a str]) -> Option<String> {
        let (resolved, reference) = self.resolved(schema);
        let Some((first, rest)) = path.split_first() else {
            return Some(self.description_and_fields(resolved));
        };
        if reference.is_some_and(|reference| seen.contains(&reference)) {
            return None;
        }
        if let Some(field) = resolved["properties"].get(first) {
            let mut text = String::new();
            if rest.is_empty() {
                let _ = writeln!(text, "FIELD: {first} <{}>", self.type_of(field));
                text.push_str(&enumeration(field, None));
                text.push_str("\n\n");
            }
            text.push_str(&self.below(field, rest, &[])?);
            return Some(text);
        }
        let mut seen = seen.to_vec();
        seen.extend(reference);
        if let Some(items) = resolved.get("items") {
            return self.below(items, path, &seen);
        }
        if let Some(values) = values_of(resolved) {
            return self.below(values, path, &seen);
        }
        all_of(resolved).find_map(|one| self.below(one, path, &seen))
    }

    fn description_and_fields(&self, resolved: &'a Value) -> String {
        let mut description = String::new();
        self.describe(resolved, &mut description);
        if description.is_empty() {
            description.push_str("<empty>");
        }
        let mut text = format!("DESCRIPTION:\n{}\n", indented(&wrapped(&description, 76), 4));
        if let Some(documents) = resolved.get("externalDocs") {
            let _ = write!(text, "\n{}", external(documents, 0));
        }
        let mut fields = String::new();
        self.fields(resolved, 1, &[], &mut fields);
        if !fields.is_empty() {
            let _ = write!(text, "FIELDS:\n{fields}");
        }
        text
    }

    /// The descriptions of a schema and of all that it is made of.
    fn describe(&self, schema: &'a Value, out: &mut String) {
        let (resolved, _) = self.resolved(schema);
        if let Some(text) = resolved["description"].as_str().filter(|text| !text.is_empty()) {
            let _ = writeln!(out, "{text}");
        }
        for one in all_of(resolved).chain(resolved.get("items")).chain(values_of(resolved)) {
            self.describe(one, out);
        }
    }

    fn fields(&self, schema: &'a Value, level: usize, seen: &[&'a str], out: &mut String) {
        let (resolved, reference) = self.resolved(schema);
        if reference.is_some_and(|reference| seen.contains(&reference)) {
            return;
        }
        let mut seen = seen.to_vec();
        seen.extend(reference);
        for (name, field) in resolved["properties"].as_object().into_iter().flatten() {
            self.field(resolved, name, field, level, out);
            if self.recursive {
                self.fields(field, level + 1, &seen, out);
            }
        }
        for one in all_of(resolved).chain(resolved.get("items")).chain(values_of(resolved)) {
            self.fields(one, level, &seen, out);
        }
    }

    fn field(&self, of: &'a Value, name: &str, field: &'a Value, level: usize, out: &mut String) {
        let indent = level * 2;
        let _ = write!(out, "{}{name}\t<{}>", " ".repeat(indent), self.type_of(field));
        if of["required"].as_array().is_some_and(|list| list.iter().any(|one| one == name)) {
            out.push_str(" -required-");
        }
        out.push_str(&enumeration(field, Some(indent)));
        out.push('\n');
        if self.recursive {
            return;
        }
        let description = match field["description"].as_str() {
            Some(text) if !text.is_empty() => text,
            _ => "<no description>",
        };
        let _ = writeln!(out, "{}", indented(&wrapped(description, 78 - indent), indent + 2));
        if let Some(documents) = field.get("externalDocs") {
            let _ = write!(out, "\n{}", external(documents, indent + 2));
        }
        out.push('\n');
    }

    /// `string`, `[]Container`, `map[string]string`.
    fn type_of(&self, schema: &'a Value) -> String {
        let primitive = |schema: &Value| schema["type"].as_str().map(str::to_owned);
        if let Some(items) = schema.get("items") {
            return format!("[]{}", self.type_of(items));
        }
        if let Some(values) = values_of(schema) {
            return format!("map[string]{}", self.type_of(values));
        }
        let mut parts = all_of(schema);
        if let (Some(only), None, None) = (parts.next(), parts.next(), schema.get("properties")) {
            return self.type_of(only);
        }
        if let Some(reference) = schema["$ref"].as_str() {
            return match self.schema.referred(reference).and_then(primitive) {
                Some(kind) if kind != "object" => kind,
                _ => reference.rsplit(['/', '.']).next().unwrap_or("Object").to_owned(),
            };
        }
        match primitive(schema) {
            Some(kind) if kind != "object" => kind,
            _ => "Object".into(),
        }
    }
}

/// The values that a field may have: some of them in a line of their own at
/// an indent, or all, a line each.
fn enumeration(field: &Value, short: Option<usize>) -> String {
    const SHOWN: usize = 4;
    let Some(values) = field["enum"].as_array() else { return String::new() };
    let shown = |value: &Value| match value.as_str() {
        Some("") => "\"\"".to_owned(),
        _ => crate::jsonpath::plain(value),
    };
    match short {
        Some(indent) => {
            let some: Vec<String> = values.iter().take(SHOWN).map(shown).collect();
            let more = if values.len() > SHOWN { ", ...." } else { "" };
            format!("\n{}enum: {}{more}", " ".repeat(indent), some.join(", "))
        }
        None => values.iter().fold("ENUM:".to_owned(), |text, value| format!("{text}\n    {}", shown(value))),
    }
}

fn external(documents: &Value, indent: usize) -> String {
    let mut text = format!("{}\n", indented("EXTERNAL DOCS:", indent));
    if let Some(description) = documents["description"].as_str() {
        let _ = writeln!(text, "{}", indented(&wrapped(description, 76 - indent), indent + 4));
    }
    if let Some(url) = documents["url"].as_str() {
        let _ = writeln!(text, "{}", indented(&format!("URL: {url}"), indent + 4));
    }
    text
}

fn indented(text: &str, indent: usize) -> String {
    let margin = " ".repeat(indent);
    format!("{margin}{}", text.replace('\n', &format!("\n{margin}")))
}

/// Breaks lines at blanks so that none is longer, if its words allow. Blanks
/// at a break are dropped, others are kept.
fn wrapped(text: &str, width: usize) -> String {
    let mut lines = Vec::new();
    for paragraph in text.split('\n') {
        let mut line = String::new();
        let mut rest = paragraph;
        while !rest.is_empty() {
            let word_at = rest.find(|c: char| !c.is_whitespace()).unwrap_or(rest.len());
            let (blanks, after) = rest.split_at(word_at);
            let (word, next) = after.split_at(after.find(char::is_whitespace).unwrap_or(after.len()));
            let length = line.chars().count() + blanks.chars().count() + word.chars().count();
            if length > width && !line.is_empty() && word.chars().count() < width {
                lines.push(std::mem::take(&mut line));
                line.push_str(word);
            } else {
                line.push_str(blanks);
                line.push_str(word);
            }
            rest = next;
        }
        lines.push(line);
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sample() -> Schema {
        let of = |name: &str| json!({"$ref": format!("#/components/schemas/{name}")});
        Schema::new(json!({"components": {"schemas": {
            "x.v1.Thing": {"description": "A thing.", "type": "object", "required": ["spec"], "properties": {
                "kind": {"type": "string", "description": "What it is.", "enum": ["", "a"]},
                "spec": {"allOf": [of("x.v1.Spec")], "description": "Its wish."}}},
            "x.v1.Spec": {"type": "object", "description": "A wish.", "properties": {
                "list": {"type": "array", "items": of("x.v1.Spec")},
                "size": of("x.Quantity"),
                "labels": {"type": "object", "additionalProperties": {"type": "string"}}}},
            "x.Quantity": {"type": "string"}}}}))
    }

    fn explain(path: &[&str], recursive: bool) -> Option<String> {
        let schema = sample();
        let top = schema.referred("#/components/schemas/x.v1.Thing").expect("thing");
        Page { schema: &schema, recursive }.below(top, path, &[])
    }

    #[test]
    fn kinds_are_explained() {
        assert_eq!(
            explain(&[], false).expect("thing"),
            "DESCRIPTION:\n    A thing.\n    \nFIELDS:\n  kind\t<string>\n  enum: \"\", a\n    What it is.\n\n  \
             spec\t<Spec> -required-\n    Its wish.\n\n"
        );
    }

    #[test]
    fn fields_are_explained() {
        assert_eq!(
            explain(&["spec", "list", "labels"], false).expect("field"),
            "FIELD: labels <map[string]string>\n\n\nDESCRIPTION:\n    <empty>\n"
        );
        assert_eq!(explain(&["kind"], false).expect("field").lines().nth(1), Some("ENUM:"));
        assert!(
            explain(&["spec"], true)
                .expect("spec")
                .ends_with("FIELDS:\n  labels\t<map[string]string>\n  list\t<[]Spec>\n  size\t<string>\n")
        );
        assert_eq!(explain(&["spec", "nothing"], false), None);
    }

    #[test]
    fn lines_are_broken_at_blanks() {
        assert_eq!(wrapped("aaa bbb ccc", 7), "aaa bbb\nccc");
        assert_eq!(wrapped("aaaaaaaaaa bb", 4), "aaaaaaaaaa\nbb");
        assert_eq!(wrapped("a\n\nb  c", 10), "a\n\nb  c");
    }
}
