//! Short words for reporting field errors.

use api::{ErrorList, FieldError, Path};
use serde_json::Value;

use crate::fields::Fields;

/// Adds errors to a list.
pub(crate) trait Report {
    /// Adds one error.
    fn add(&mut self, error: FieldError);

    /// A value that must be given is not.
    fn required(&mut self, path: &Path<'_>, detail: &str) {
        self.add(FieldError::required(path, detail));
    }

    /// A value breaks a rule.
    fn invalid(&mut self, path: &Path<'_>, value: impl Into<Value>, detail: impl Into<String>) {
        self.add(FieldError::invalid(path, value, detail));
    }

    /// A text breaks several rules.
    fn invalid_all(&mut self, path: &Path<'_>, value: &str, messages: Vec<String>) {
        for message in messages {
            self.add(FieldError::invalid(path, value, message));
        }
    }

    /// A field that must not be set.
    fn forbidden(&mut self, path: &Path<'_>, detail: impl Into<String>) {
        self.add(FieldError::forbidden(path, detail));
    }

    /// A value seen before.
    fn duplicate(&mut self, path: &Path<'_>, value: impl Into<Value>) {
        self.add(FieldError::duplicate(path, value));
    }

    /// An error about a struct, which upstream prints as Go's JSON of its internal
    /// type: capital names in the order of their declaration.
    fn add_shown(&mut self, mut error: FieldError, shown: &str) {
        error.value = None;
        error.detail =
            if error.detail.is_empty() { shown.to_owned() } else { format!("{shown}: {}", error.detail) };
        self.add(error);
    }

    /// A reference to nothing.
    fn not_found(&mut self, path: &Path<'_>, value: &str) {
        self.add(FieldError::not_found(path, value));
    }

    /// A text that must be one of `allowed`, where it is given.
    fn one_of(&mut self, path: &Path<'_>, value: &str, allowed: &[&str]) {
        if !allowed.contains(&value) {
            self.add(FieldError::not_supported(path, value, allowed));
        }
    }

    /// A text that must be given and be one of `allowed`.
    fn required_one_of(&mut self, path: &Path<'_>, value: &str, allowed: &[&str]) {
        if value.is_empty() {
            self.required(path, "");
        } else {
            self.one_of(path, value, allowed);
        }
    }

    /// A text field that must not be empty.
    fn required_text(&mut self, of: &Value, name: &str, path: &Path<'_>) {
        if of.text(name).is_empty() {
            self.required(&path.child(name), "");
        }
    }

    /// A number that must be one of a port.
    fn port(&mut self, path: &Path<'_>, number: i64) {
        for message in crate::names::port_number(number) {
            self.invalid(path, number, message);
        }
    }

    /// A number field that must not be below zero.
    fn not_negative(&mut self, of: &Value, name: &str, path: &Path<'_>) {
        if let Some(number) = of.int(name).filter(|number| *number < 0) {
            self.invalid(&path.child(name), number, crate::metadata::NOT_NEGATIVE);
        }
    }
}

impl Report for ErrorList {
    fn add(&mut self, error: FieldError) {
        self.push(error);
    }
}
