//! `config view`: the kubeconfig, without its secrets unless they are wanted.

use base64::Engine as _;
use clap::Args;
use serde_json::{Value, json};

use super::file::{self, content_of};
use crate::error::Error;
use crate::kube::Kube;
use crate::output::{self, Format};

/// Fields whose values are not shown, and what is shown instead.
const SECRETS: [(&str, &str, &str); 5] = [
    ("clusters", "certificate-authority-data", "DATA+OMITTED"),
    ("users", "client-certificate-data", "DATA+OMITTED"),
    ("users", "client-key-data", "DATA+OMITTED"),
    ("users", "token", "REDACTED"),
    ("users", "password", "REDACTED"),
];

#[derive(Args)]
pub(super) struct View {
    /// Only what the current context uses
    #[arg(long)]
    minify: bool,
    /// Put the content of files in
    #[arg(long)]
    flatten: bool,
    /// Show certificates, keys and tokens
    #[arg(long)]
    raw: bool,
    /// json, yaml, jsonpath=...
    #[arg(short = 'o', long, default_value = "yaml")]
    output: String,
}

impl View {
    pub(super) fn run(&self, kube: &Kube) -> Result<(), Error> {
        let format = Format::parse(&self.output)?;
        let mut config = filled(file::merged(kube)?);
        if let Some(context) = &kube.context {
            config["current-context"] = context.clone().into();
        }
        if self.minify {
            minify(&mut config)?;
        }
        if self.flatten {
            flatten(&mut config)?;
        } else if !self.raw {
            redact(&mut config);
        }
        output::write(&format.print(&config, true)?)
    }
}

/// With all fields, as an empty one would be written.
fn filled(mut config: Value) -> Value {
    let empty = [
        ("apiVersion", json!("v1")),
        ("clusters", Value::Null),
        ("contexts", Value::Null),
        ("current-context", json!("")),
        ("kind", json!("Config")),
        ("preferences", json!({})),
        ("users", Value::Null),
    ];
    if let Some(map) = config.as_object_mut() {
        for (field, value) in empty {
            map.entry(field).or_insert(value);
        }
    }
    config
}

fn contents<'a>(config: &'a mut Value, section: &str) -> impl Iterator<Item = &'a mut Value> {
    let content = content_of(section);
    config[section].as_array_mut().into_iter().flatten().filter_map(move |one| one.get_mut(content))
}

fn redact(config: &mut Value) {
    for (section, field, instead) in SECRETS {
        for content in contents(config, section) {
            if let Some(value) = content.get_mut(field)
                && value.as_str().is_some_and(|text| !text.is_empty())
            {
                *value = instead.into();
            }
        }
    }
}

fn minify(config: &mut Value) -> Result<(), Error> {
    let current = config["current-context"].as_str().unwrap_or_default().to_owned();
    if current.is_empty() {
        return Err(Error::said("current-context must exist in order to minify"));
    }
    let context = file::entries(config, "contexts").find(|one| one["name"] == *current);
    let Some(context) = context.cloned() else {
        return Err(Error::said(format!("cannot locate context {current}")));
    };
    for (section, name) in [
        ("contexts", &context["name"]),
        ("clusters", &context["context"]["cluster"]),
        ("users", &context["context"]["user"]),
    ] {
        if let Some(list) = config[section].as_array_mut() {
            list.retain(|one| one["name"] == *name);
            if list.is_empty() {
                config[section] = Value::Null;
            }
        }
    }
    Ok(())
}

fn flatten(config: &mut Value) -> Result<(), Error> {
    for (section, _, field) in file::FILES.iter().filter(|(_, _, field)| *field != "tokenFile") {
        for content in contents(config, section) {
            let Some(path) = content[*field].as_str().filter(|path| !path.is_empty()).map(str::to_owned)
            else {
                continue;
            };
            let bytes = std::fs::read(&path).map_err(|error| Error::said(format!("open {path}: {error}")))?;
            content[format!("{field}-data")] = base64::engine::general_purpose::STANDARD.encode(bytes).into();
            if let Some(map) = content.as_object_mut() {
                map.remove(*field);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Value {
        filled(json!({"current-context": "a",
            "contexts": [{"name": "a", "context": {"cluster": "c", "user": "u"}}, {"name": "b", "context": {}}],
            "clusters": [{"name": "c", "cluster": {"server": "s", "certificate-authority-data": "x"}}, {"name": "d"}],
            "users": [{"name": "u", "user": {"token": "t", "client-key-data": "k"}}, {"name": "v"}]}))
    }

    #[test]
    fn secrets_are_not_shown() {
        let mut config = sample();
        redact(&mut config);
        assert_eq!(
            config["users"][0]["user"],
            json!({"token": "REDACTED", "client-key-data": "DATA+OMITTED"})
        );
        assert_eq!(config["clusters"][0]["cluster"]["certificate-authority-data"], "DATA+OMITTED");
        assert_eq!(config["clusters"][0]["cluster"]["server"], "s");
    }

    #[test]
    fn what_is_not_used_is_left_out() {
        let mut config = sample();
        minify(&mut config).expect("minifies");
        for section in ["contexts", "clusters", "users"] {
            assert_eq!(config[section].as_array().map(Vec::len), Some(1), "{section}");
        }
        config["current-context"] = "z".into();
        assert!(minify(&mut config).is_err());
    }

    #[test]
    fn files_are_put_in() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("ca");
        std::fs::write(&path, "pem").expect("file");
        let mut config = json!({"clusters": [{"name": "c", "cluster": {"certificate-authority": path}}]});
        flatten(&mut config).expect("flattens");
        assert_eq!(config["clusters"][0]["cluster"], json!({"certificate-authority-data": "cGVt"}));
    }
}
