//! Errors about one field of an object, and the path that names the field.
//!
//! The texts follow upstream's `k8s.io/apimachinery/pkg/util/validation/field`,
//! because clients and conformance tests read them.

use std::fmt;

use serde_json::Value;

/// Where a field is, as a chain of borrowed steps: rendering costs only when an
/// error is reported.
#[derive(Clone, Copy, Debug)]
pub struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    Root,
    Name(&'a str),
    Index(usize),
    Key(&'a str),
}

impl<'a> Path<'a> {
    /// The whole object, rendered as `<nil>` where an error names it.
    pub const ROOT: Path<'static> = Path { parent: None, step: Step::Root };

    /// A field of the whole object.
    #[must_use]
    pub const fn new(name: &'a str) -> Self {
        Self { parent: None, step: Step::Name(name) }
    }

    /// A field below this one: `spec.replicas`.
    #[must_use]
    pub const fn child(&'a self, name: &'a str) -> Self {
        Self { parent: Some(self), step: Step::Name(name) }
    }

    /// An element of this list: `containers[0]`.
    #[must_use]
    pub const fn index(&'a self, index: usize) -> Self {
        Self { parent: Some(self), step: Step::Index(index) }
    }

    /// An entry of this map: `labels[app]`.
    #[must_use]
    pub const fn key(&'a self, key: &'a str) -> Self {
        Self { parent: Some(self), step: Step::Key(key) }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut has_parent = false;
        if let Some(parent) = self.parent
            && !matches!(parent.step, Step::Root)
        {
            has_parent = true;
            parent.fmt(f)?;
        }
        match self.step {
            Step::Root => f.write_str("<nil>"),
            Step::Name(name) if has_parent => write!(f, ".{name}"),
            Step::Name(name) => f.write_str(name),
            Step::Index(index) => write!(f, "[{index}]"),
            Step::Key(key) => write!(f, "[{key}]"),
        }
    }
}

/// What is wrong with a field; the value is the `reason` of a status cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// A reference to something that is not there.
    NotFound,
    /// A value that must be given is not.
    Required,
    /// A value that must be unique is not.
    Duplicate,
    /// A value breaks a rule.
    Invalid,
    /// A value is none of those allowed.
    NotSupported,
    /// The field must not be set here.
    Forbidden,
    /// A string or a blob is too long.
    TooLong,
    /// A list or map has too many elements.
    TooMany,
    /// The server failed to check.
    Internal,
    /// The value has the wrong type.
    TypeInvalid,
}

impl ErrorKind {
    /// The machine-readable name, as in `status.details.causes[].reason`.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::NotFound => "FieldValueNotFound",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::Internal => "InternalError",
            Self::TypeInvalid => "FieldValueTypeInvalid",
        }
    }

    const fn text(self) -> &'static str {
        match self {
            Self::NotFound => "Not found",
            Self::Required => "Required value",
            Self::Duplicate => "Duplicate value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::Internal => "Internal error",
        }
    }
}

/// One error about one field.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    /// What is wrong.
    pub kind: ErrorKind,
    /// The rendered path.
    pub field: String,
    /// The offending value, where the text shows one.
    pub value: Option<Value>,
    /// The rule that was broken.
    pub detail: String,
}

impl FieldError {
    fn build(kind: ErrorKind, path: &Path<'_>, value: Option<Value>, detail: impl Into<String>) -> Self {
        Self { kind, field: path.to_string(), value, detail: detail.into() }
    }

    /// A value that must be given is not.
    pub fn required(path: &Path<'_>, detail: impl Into<String>) -> Self {
        Self::build(ErrorKind::Required, path, None, detail)
    }

    /// A value breaks a rule.
    pub fn invalid(path: &Path<'_>, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::build(ErrorKind::Invalid, path, Some(value.into()), detail)
    }

    /// A value is none of those allowed; `allowed` is shown in the order given.
    pub fn not_supported(path: &Path<'_>, value: impl Into<Value>, allowed: &[&str]) -> Self {
        let detail = if allowed.is_empty() {
            String::new()
        } else {
            let quoted: Vec<String> = allowed.iter().map(|one| format!("{one:?}")).collect();
            format!("supported values: {}", quoted.join(", "))
        };
        Self::build(ErrorKind::NotSupported, path, Some(value.into()), detail)
    }

    /// The field must not be set here.
    pub fn forbidden(path: &Path<'_>, detail: impl Into<String>) -> Self {
        Self::build(ErrorKind::Forbidden, path, None, detail)
    }

    /// A value that must be unique is not.
    pub fn duplicate(path: &Path<'_>, value: impl Into<Value>) -> Self {
        Self::build(ErrorKind::Duplicate, path, Some(value.into()), "")
    }

    /// A reference to something that is not there.
    pub fn not_found(path: &Path<'_>, value: impl Into<Value>) -> Self {
        Self::build(ErrorKind::NotFound, path, Some(value.into()), "")
    }

    /// A value longer than `max` bytes.
    pub fn too_long(path: &Path<'_>, max: usize) -> Self {
        Self::build(ErrorKind::TooLong, path, None, format!("may not be more than {max} bytes"))
    }

    /// A collection of `actual` elements where `max` are allowed.
    pub fn too_many(path: &Path<'_>, actual: usize, max: usize) -> Self {
        let items = if max == 1 { "item" } else { "items" };
        let detail = format!("must have at most {max} {items}");
        Self::build(ErrorKind::TooMany, path, Some(actual.into()), detail)
    }

    /// The server failed to check the field.
    pub fn internal(path: &Path<'_>, detail: impl Into<String>) -> Self {
        Self::build(ErrorKind::Internal, path, None, detail)
    }

    /// The text without the field, as in `status.details.causes[].message`.
    #[must_use]
    pub fn body(&self) -> String {
        let mut text = self.kind.text().to_owned();
        if let Some(value) = &self.value {
            text.push_str(": ");
            text.push_str(&render(value));
        }
        if !self.detail.is_empty() {
            text.push_str(": ");
            text.push_str(&self.detail);
        }
        text
    }
}

/// A value as Go prints it in an error: strings quoted, the rest as JSON.
fn render(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{text:?}"),
        other => other.to_string(),
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.body())
    }
}

/// All errors found in one object.
pub type ErrorList = Vec<FieldError>;

/// The list as one text: a single error as it is, several in brackets.
#[must_use]
pub fn aggregate(errors: &[FieldError]) -> String {
    let mut texts: Vec<String> = Vec::with_capacity(errors.len());
    for error in errors {
        let text = error.to_string();
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    match texts.as_slice() {
        [one] => one.clone(),
        several => format!("[{}]", several.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_read_as_upstreams() {
        let spec = Path::new("spec");
        let containers = spec.child("containers");
        let first = containers.index(0);
        let labels = Path::new("metadata");
        let labels = labels.child("labels");
        let table = [
            (FieldError::required(&first.child("image"), ""), "spec.containers[0].image: Required value"),
            (
                FieldError::invalid(&labels.key("a/b/c"), "x y", "bad"),
                r#"metadata.labels[a/b/c]: Invalid value: "x y": bad"#,
            ),
            (
                FieldError::not_supported(&spec.child("type"), "X", &["A", "B"]),
                r#"spec.type: Unsupported value: "X": supported values: "A", "B""#,
            ),
            (
                FieldError::invalid(&spec.child("replicas"), -1, "neg"),
                "spec.replicas: Invalid value: -1: neg",
            ),
            (FieldError::too_long(&spec.child("x"), 63), "spec.x: Too long: may not be more than 63 bytes"),
            (FieldError::too_many(&spec.child("x"), 3, 1), "spec.x: Too many: 3: must have at most 1 item"),
        ];
        for (error, text) in table {
            assert_eq!(error.to_string(), text);
        }
    }

    #[test]
    fn several_errors_are_bracketed_once_each() {
        let path = Path::new("a");
        let one = FieldError::required(&path, "");
        assert_eq!(aggregate(std::slice::from_ref(&one)), "a: Required value");
        let other = FieldError::forbidden(&path, "no");
        assert_eq!(aggregate(&[one.clone(), other, one]), "[a: Required value, a: Forbidden: no]");
    }
}
