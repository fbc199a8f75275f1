//! YAML as kubectl reads and writes it: YAML 1.1 habits for numbers, several
//! documents in one text, and output that any YAML reader reads back the same.

use serde_json::Value;
use serde_saphyr::options::DuplicateKeyPolicy;

/// A text that is not YAML.
#[derive(Debug, thiserror::Error)]
#[error("parse YAML")]
pub struct YamlError(#[from] serde_saphyr::Error);

/// A value that cannot be written as YAML.
#[derive(Debug, thiserror::Error)]
#[error("write YAML")]
pub struct YamlWriteError(#[from] serde_saphyr::SerializeError);

fn options() -> serde_saphyr::Options {
    serde_saphyr::options! { legacy_octal_numbers: true, duplicate_keys: DuplicateKeyPolicy::LastWins }
}

/// The first key of a document that is said twice in its map, in upstream's words.
#[must_use]
pub fn repeated(text: &str) -> Option<String> {
    let strict = serde_saphyr::options! {
        legacy_octal_numbers: true, duplicate_keys: DuplicateKeyPolicy::Error, with_snippet: false
    };
    match serde_saphyr::from_str_with_options::<Value>(text, strict) {
        Err(serde_saphyr::Error::DuplicateMappingKey { key, location }) => {
            let key = key.unwrap_or_default();
            Some(format!("line {}: key {key:?} already set in map", location.line()))
        }
        _ => None,
    }
}

/// Reads one document, YAML or JSON; of a key that is said twice, the last word counts.
///
/// # Errors
/// Text that is neither.
pub fn parse(text: &str) -> Result<Value, YamlError> {
    Ok(serde_saphyr::from_str_with_options(text, options())?)
}

/// Reads all documents of a text; empty ones are left out.
///
/// # Errors
/// Text that is not YAML.
pub fn parse_all(text: &str) -> Result<Vec<Value>, YamlError> {
    let documents: Vec<Value> = serde_saphyr::from_multiple_with_options(text, options())?;
    Ok(documents.into_iter().filter(|document| !document.is_null()).collect())
}

/// Writes one document.
///
/// # Errors
/// A value that YAML cannot hold.
pub fn format(value: &Value) -> Result<String, YamlWriteError> {
    Ok(serde_saphyr::to_string(value)?)
}

/// Whether a typed value can be read from a document.
///
/// # Errors
/// The first field that does not fit.
pub fn from_value<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, serde_json::Error> {
    T::deserialize(value)
}
