//! What is printed: objects in the formats of `-o`, tables, YAML.

pub(crate) mod aligned;
pub(crate) mod table;
pub(crate) mod yaml;

use std::io::Write as _;

use serde::Serialize as _;
use serde_json::{Value, json};

use crate::error::Error;
use crate::gotemplate::GoTemplate;
use crate::jsonpath::Template;

/// A format of `-o`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Format {
    /// The server's table, or the verb's own words.
    Human,
    Wide,
    Json,
    Yaml,
    Name,
    JsonPath(Template),
    /// What a path finds, as a JSON list.
    JsonPathAsJson(Template),
    GoTemplate(GoTemplate),
    /// Headers and paths.
    Columns(Vec<(String, Template)>),
}

impl Format {
    /// Reads `-o`'s value; empty for none.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let (name, argument) = text.split_once('=').unwrap_or((text, ""));
        let from_file = |path: &str| {
            std::fs::read_to_string(path)
                .map_err(|error| Error::said(format!("error reading {path}: {error}")))
        };
        match name {
            "" => Ok(Self::Human),
            "wide" => Ok(Self::Wide),
            "json" => Ok(Self::Json),
            "yaml" => Ok(Self::Yaml),
            "name" => Ok(Self::Name),
            "jsonpath" if argument.is_empty() => {
                Err(Error::said("template format specified but no template given"))
            }
            "jsonpath" => Ok(Self::JsonPath(Template::parse(argument)?)),
            "jsonpath-file" => Ok(Self::JsonPath(Template::parse(from_file(argument)?.trim_end())?)),
            "jsonpath-as-json" if argument.is_empty() => {
                Err(Error::said("template format specified but no template given"))
            }
            "jsonpath-as-json" => Ok(Self::JsonPathAsJson(Template::parse(argument)?)),
            "go-template" | "template" if argument.is_empty() => {
                Err(Error::said("template format specified but no template given"))
            }
            "go-template" | "template" => Ok(Self::GoTemplate(GoTemplate::parse(argument)?)),
            "go-template-file" | "templatefile" => {
                Ok(Self::GoTemplate(GoTemplate::parse(&from_file(argument)?)?))
            }
            "custom-columns-file" => Ok(Self::Columns(columns_of_file(&from_file(argument)?)?)),
            "custom-columns" if argument.is_empty() => {
                Err(Error::said("custom-columns format specified but no custom columns given"))
            }
            "custom-columns" => Ok(Self::Columns(columns(argument)?)),
            other => Err(Error::said(format!(
                "unable to match a printer suitable for the output format {other:?}, allowed formats are: \
                 custom-columns,custom-columns-file,go-template,go-template-file,json,jsonpath,jsonpath-as-json,jsonpath-file,name,template,templatefile,wide,yaml"
            ))),
        }
    }

    pub(crate) const fn is_table(&self) -> bool {
        matches!(self, Self::Human | Self::Wide)
    }

    /// The text of one object, or of a list of objects.
    pub(crate) fn print(&self, value: &Value, headers: bool) -> Result<String, Error> {
        Ok(match self {
            Self::Human | Self::Wide => String::new(),
            Self::Json => json_text(value)?,
            Self::Yaml => yaml::format(value),
            Self::Name => items(value).into_iter().map(|one| format!("{}\n", name_of(one))).collect(),
            Self::JsonPath(template) => template.print(value),
            Self::GoTemplate(template) => template.print(value)?,
            Self::JsonPathAsJson(template) => json_text(&json!(template.values(value)))?,
            Self::Columns(columns) => {
                let mut lines = table::Lines::default();
                if headers {
                    lines.push(columns.iter().map(|(header, _)| header.clone()));
                }
                for item in items(value) {
                    lines.push(columns.iter().map(|(_, template)| {
                        let found: Vec<String> =
                            template.values(item).into_iter().map(crate::jsonpath::plain).collect();
                        if found.is_empty() { "<none>".to_owned() } else { found.join(",") }
                    }));
                }
                lines.take()
            }
        })
    }
}

fn columns(text: &str) -> Result<Vec<(String, Template)>, Error> {
    text.split(',')
        .map(|column| {
            let (header, path) =
                column.split_once(':').filter(|(_, path)| !path.is_empty()).ok_or_else(|| {
                    Error::said(format!(
                        "unexpected custom-columns spec: {column}, expected <header>:<json-path-expr>"
                    ))
                })?;
            Ok((header.to_owned(), Template::parse(path)?))
        })
        .collect()
}

/// A file with a line of headers and a line of paths.
fn columns_of_file(text: &str) -> Result<Vec<(String, Template)>, Error> {
    let mut lines = text.lines().map(str::split_whitespace);
    let (Some(headers), Some(paths)) = (lines.next(), lines.next()) else {
        return Err(Error::said(
            "invalid template, missing spec line. Expected format is one line of space separated column headers, one line of space separated column specs",
        ));
    };
    let (headers, paths): (Vec<&str>, Vec<&str>) = (headers.collect(), paths.collect());
    if headers.len() != paths.len() {
        return Err(Error::said(format!(
            "number of headers ({}) and field specifications ({}) don't match",
            headers.len(),
            paths.len()
        )));
    }
    headers
        .iter()
        .zip(paths)
        .map(|(header, path)| Ok(((*header).to_owned(), Template::parse(path)?)))
        .collect()
}

fn items(value: &Value) -> Vec<&Value> {
    match value["items"].as_array() {
        Some(items) if value["kind"].as_str().is_some_and(|kind| kind.ends_with("List")) => {
            items.iter().collect()
        }
        _ => vec![value],
    }
}

/// `deployment.apps/web`, from the object alone.
pub(crate) fn name_of(object: &Value) -> String {
    let kind = object["kind"].as_str().unwrap_or_default().to_lowercase();
    let group =
        object["apiVersion"].as_str().and_then(|text| text.split_once('/')).map_or("", |(group, _)| group);
    format!(
        "{}/{}",
        api::status::qualified(group, &kind),
        object["metadata"]["name"].as_str().unwrap_or_default()
    )
}

/// JSON with four spaces, as kubectl indents it.
pub(crate) fn json_text(value: &Value) -> Result<String, Error> {
    let mut bytes = Vec::new();
    let indent = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, indent))?;
    bytes.push(b'\n');
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A `v1` `List` of objects.
pub(crate) fn list_of(items: Vec<Value>) -> Value {
    json!({"apiVersion": "v1", "items": items, "kind": "List", "metadata": {"resourceVersion": ""}})
}

/// Writes to standard output at once.
pub(crate) fn write(text: &str) -> Result<(), Error> {
    write_bytes(text.as_bytes())
}

/// Writes to standard output at once.
pub(crate) fn write_bytes(bytes: &[u8]) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes)?;
    Ok(out.flush()?)
}

/// Writes to standard error at once.
pub(crate) fn error_bytes(bytes: &[u8]) -> Result<(), Error> {
    let mut out = std::io::stderr().lock();
    out.write_all(bytes)?;
    Ok(out.flush()?)
}

/// Writes one line to standard output.
pub(crate) fn line(text: impl std::fmt::Display) -> Result<(), Error> {
    write(&format!("{text}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_read_and_used() {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}});
        let web = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "w"}});
        let list = list_of(vec![pod.clone(), web]);
        let print = |format: &str, value: &Value| {
            Format::parse(format).expect(format).print(value, true).expect("prints")
        };
        assert_eq!(print("name", &list), "pod/p\ndeployment.apps/w\n");
        assert_eq!(print("jsonpath={.metadata.name}", &pod), "p");
        assert_eq!(
            print("jsonpath-as-json={.items[*].metadata.name}", &list),
            "[\n    \"p\",\n    \"w\"\n]\n"
        );
        let file = columns_of_file("NAME NODE\n.metadata.name .spec.nodeName\n").expect("columns");
        assert_eq!(Format::Columns(file).print(&pod, true).expect("prints"), "NAME   NODE\np      <none>\n");
        assert!(columns_of_file("A B\n.a\n").is_err());
        assert_eq!(
            print("custom-columns=NAME:.metadata.name,NODE:.spec.nodeName", &list),
            "NAME   NODE\np      <none>\nw      <none>\n"
        );
        assert!(print("json", &pod).starts_with("{\n    \"apiVersion\": \"v1\",\n"));
        assert!(Format::parse("xml").is_err());
        assert!(Format::parse("custom-columns=A").is_err());
    }
}
