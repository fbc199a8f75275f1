//! Flags, then file, then defaults, parsed once into one typed value.
//!
//! `--config FILE` names a YAML file whose keys are the names of flags:
//!
//! ```yaml
//! cluster-dns: 10.96.0.10
//! node-labels: [zone=a, disk=ssd]
//! ```
//!
//! The file's entries are put before the command line's, so that a flag wins
//! over the file, and an unknown key is an error like an unknown flag.

use std::ffi::OsString;
use std::path::Path;

use anyhow::{Context as _, bail};
use clap::Parser;
use serde_json::Value;

/// Parses the process's arguments, and the file that `--config` names.
///
/// # Errors
/// A file that cannot be read, or an entry that is no flag.
pub fn parse<F: Parser>() -> anyhow::Result<F> {
    parse_from(std::env::args_os().collect())
}

/// [`parse`] on given arguments, the first being the program's name.
///
/// # Errors
/// As [`parse`].
pub fn parse_from<F: Parser>(mut arguments: Vec<OsString>) -> anyhow::Result<F> {
    if let Some(path) = config_path(&arguments) {
        let file = read_file(Path::new(&path))?;
        let rest = arguments.split_off(1.min(arguments.len()));
        arguments.extend(file.into_iter().map(OsString::from));
        arguments.extend(rest);
    }
    let command = F::command().args_override_self(true);
    let matches = command.try_get_matches_from(arguments);
    match matches.and_then(|matches| F::from_arg_matches(&matches)) {
        Ok(flags) => Ok(flags),
        // Help, version and usage errors are clap's to print.
        Err(error) => error.exit(),
    }
}

fn config_path(arguments: &[OsString]) -> Option<OsString> {
    let mut arguments = arguments.iter().skip(1);
    let mut found = None;
    while let Some(argument) = arguments.next() {
        if argument == "--config" {
            found = arguments.next().cloned();
        } else if let Some(path) = argument.to_str().and_then(|text| text.strip_prefix("--config=")) {
            found = Some(path.into());
        }
    }
    found
}

fn read_file(path: &Path) -> anyhow::Result<Vec<String>> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("read configuration {shown}"))?;
    let value: Value =
        serde_saphyr::from_str(&text).with_context(|| format!("parse configuration {shown}"))?;
    flags_of(&value).with_context(|| format!("configuration {shown}"))
}

fn flags_of(value: &Value) -> anyhow::Result<Vec<String>> {
    let entries = match value {
        Value::Null => return Ok(Vec::new()),
        Value::Object(entries) => entries,
        other => bail!("expected a map of flag names, found {other}"),
    };
    let mut flags = Vec::new();
    for (name, value) in entries {
        let items = match value {
            Value::Array(items) => items.as_slice(),
            single => std::slice::from_ref(single),
        };
        for item in items {
            match item {
                Value::Bool(true) => flags.push(format!("--{name}")),
                Value::Bool(false) | Value::Null => {}
                Value::String(text) => flags.push(format!("--{name}={text}")),
                Value::Number(number) => flags.push(format!("--{name}={number}")),
                Value::Array(_) | Value::Object(_) => {
                    bail!("{name}: expected a text, a number or a list of these")
                }
            }
        }
    }
    Ok(flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Parser, Debug)]
    struct Flags {
        #[arg(long)]
        config: Option<String>,
        #[arg(long, default_value = "default")]
        a: String,
        #[arg(long)]
        b: Vec<String>,
        #[arg(long)]
        on: bool,
    }

    fn with_file(text: &str, more: &[&str]) -> Flags {
        let file = tempfile::NamedTempFile::new().expect("temp file");
        std::fs::write(file.path(), text).expect("write");
        let mut arguments: Vec<OsString> = vec!["x".into(), "--config".into(), file.path().into()];
        arguments.extend(more.iter().map(OsString::from));
        parse_from(arguments).expect("parses")
    }

    #[test]
    fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
        let flags = with_file("a: file\nb: [x, z]\non: true\n", &[]);
        assert_eq!((flags.a.as_str(), flags.b.len(), flags.on), ("file", 2, true));
        assert_eq!(with_file("a: file", &["--a=flag"]).a, "flag");
        assert_eq!(with_file("", &[]).a, "default");
        assert!(flags.config.is_some());
    }

    #[test]
    fn nested_values_are_refused() {
        assert!(flags_of(&serde_json::json!({"a": {"b": 1}})).is_err());
        assert!(flags_of(&serde_json::json!([1])).is_err());
    }
}
