//! The columns of a custom resource's table.

use api::jsonpath::Template;
use jiff::Timestamp;
use serde_json::Value;

use crate::fields::Fields;
use crate::{Column, metadata};

/// A column and where its cells come from.
pub(super) struct Printed {
    pub(super) heading: Column,
    source: Source,
}

enum Source {
    Name,
    Path(Template),
}

/// The name, then what the version asks for, or else the age.
pub(super) fn of(version: &Value) -> Result<Vec<Printed>, String> {
    let heading = |name: &str, kind: &str, format: &str, priority: i64| Column {
        name: name.to_owned(),
        kind: kind.to_owned(),
        format: format.to_owned(),
        priority: i32::try_from(priority).unwrap_or_default(),
    };
    let mut columns = vec![Printed { heading: heading("Name", "string", "name", 0), source: Source::Name }];
    let wanted = version.list("additionalPrinterColumns");
    for one in wanted {
        columns.push(Printed {
            heading: heading(
                one.text("name"),
                one.text("type"),
                one.text("format"),
                one.int("priority").unwrap_or(0),
            ),
            source: Source::Path(super::path(one.text("jsonPath"))?),
        });
    }
    if wanted.is_empty() {
        let source = Source::Path(super::path(".metadata.creationTimestamp")?);
        columns.push(Printed { heading: heading("Age", "date", "", 0), source });
    }
    Ok(columns)
}

impl Printed {
    /// The cell of an object.
    pub(super) fn cell(&self, object: &Value, now: Timestamp) -> Value {
        let template = match &self.source {
            Source::Name => return object.below(&["metadata", "name"]).clone(),
            Source::Path(template) => template,
        };
        let Some(found) = template.values(object).first().map(|found| (*found).clone()) else {
            return Value::Null;
        };
        match (self.heading.kind.as_str(), found) {
            ("date", Value::String(text)) => metadata::since(&text, now).into(),
            ("integer", Value::Number(number)) => {
                number.as_i64().or_else(|| number.as_f64().map(|number| number as i64)).into()
            }
            ("number", value @ Value::Number(_))
            | ("boolean", value @ Value::Bool(_))
            | ("string", value @ Value::String(_)) => value,
            ("string", Value::Null) => Value::Null,
            ("string", other) => other.to_string().into(),
            _ => Value::Null,
        }
    }
}
