//! Query parameters, and what they mean for reads and writes.

use api::{Reason, Status};

use crate::gate::{field_selector, label_selector};
use crate::registry::{FieldValidation, ListQuery, Matching, WatchQuery};

/// The parameters in the order given.
#[derive(Clone, Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads a query string.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        Self(form_urlencoded::parse(text.as_bytes()).into_owned().collect())
    }

    /// A parameter's first value.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A parameter's values.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A parameter that is a switch: there and neither `false` nor `0`.
    #[must_use]
    pub fn flag(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| !matches!(value, "false" | "0" | "False"))
    }

    /// A parameter that is a number.
    ///
    /// # Errors
    /// It is none.
    pub fn number(&self, name: &str) -> Result<Option<i64>, Status> {
        match self.get(name) {
            None | Some("") => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|_| {
                Status::bad_request(format!(
                    "unable to parse query parameter {name}: {text:?} is not a whole number"
                ))
            }),
        }
    }

    fn text(&self, name: &str) -> String {
        self.get(name).unwrap_or_default().to_owned()
    }

    fn matching(&self) -> Result<Matching, Status> {
        match self.get("resourceVersionMatch") {
            None | Some("") => Ok(Matching::Unset),
            Some("NotOlderThan") => Ok(Matching::NotOlderThan),
            Some("Exact") => Ok(Matching::Exact),
            Some(other) => Err(Status::new(
                Reason::Invalid,
                format!(
                    "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Unsupported value: {other:?}: supported values: \"Exact\", \"NotOlderThan\", \"\""
                ),
            )),
        }
    }

    /// What a list asks for.
    ///
    /// # Errors
    /// A parameter that makes no sense.
    pub fn list(&self) -> Result<ListQuery, Status> {
        Ok(ListQuery {
            labels: label_selector(self.get("labelSelector").unwrap_or_default())?,
            fields: field_selector(self.get("fieldSelector").unwrap_or_default())?,
            limit: usize::try_from(self.number("limit")?.unwrap_or(0)).unwrap_or(0),
            continue_token: self.text("continue"),
            resource_version: self.text("resourceVersion"),
            matching: self.matching()?,
        })
    }

    /// What a watch asks for.
    ///
    /// # Errors
    /// A parameter that makes no sense.
    pub fn watch(&self) -> Result<WatchQuery, Status> {
        Ok(WatchQuery {
            labels: label_selector(self.get("labelSelector").unwrap_or_default())?,
            fields: field_selector(self.get("fieldSelector").unwrap_or_default())?,
            resource_version: self.text("resourceVersion"),
            matching: self.matching()?,
            send_initial_events: self.get("sendInitialEvents").map(|_| self.flag("sendInitialEvents")),
        })
    }

    /// Whether to do everything but store.
    ///
    /// # Errors
    /// A value other than `All`.
    pub fn dry_run(&self) -> Result<bool, Status> {
        match self.get("dryRun") {
            None => Ok(false),
            Some("All") => Ok(true),
            Some(other) => Err(Status::new(
                Reason::Invalid,
                format!("dryRun: Unsupported value: {other:?}: supported values: \"All\""),
            )),
        }
    }

    /// What happens to unknown fields.
    ///
    /// # Errors
    /// A value that is none of the three.
    pub fn field_validation(&self) -> Result<FieldValidation, Status> {
        match self.get("fieldValidation") {
            None | Some("" | "Warn") => Ok(FieldValidation::Warn),
            Some("Ignore") => Ok(FieldValidation::Ignore),
            Some("Strict") => Ok(FieldValidation::Strict),
            Some(other) => Err(Status::new(
                Reason::Invalid,
                format!(
                    "fieldValidation: Unsupported value: {other:?}: supported values: \"Ignore\", \"Strict\", \"Warn\""
                ),
            )),
        }
    }
}
