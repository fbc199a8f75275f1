//! Kubeconfig files as values: read, joined, and written back.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::error::Error;
use crate::kube::Kube;
use crate::output;

/// Fields that name files, by section.
pub(super) const FILES: [(&str, &str, &str); 4] = [
    ("clusters", "cluster", "certificate-authority"),
    ("users", "user", "client-certificate"),
    ("users", "user", "client-key"),
    ("users", "user", "tokenFile"),
];

/// The field of an entry with its content, by section.
pub(super) fn content_of(section: &str) -> &'static str {
    match section {
        "clusters" => "cluster",
        "users" => "user",
        _ => "context",
    }
}

/// The entries of a section.
pub(super) fn entries<'a>(config: &'a Value, section: &str) -> impl Iterator<Item = &'a Value> {
    config[section].as_array().into_iter().flatten()
}

/// A file's content; one that is not there is empty.
fn read(path: &Path) -> Result<Value, Error> {
    match std::fs::read_to_string(path) {
        Ok(text) if text.trim().is_empty() => Ok(json!({})),
        Ok(text) => {
            let value = api::yaml::parse(&text).map_err(|error| {
                Error::said(format!("error loading config file {:?}: {error}", path.display().to_string()))
            })?;
            if value.is_object() {
                Ok(value)
            } else {
                Err(Error::said(format!(
                    "error loading config file {:?}: not a map",
                    path.display().to_string()
                )))
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(json!({})),
        Err(error) => Err(Error::said(format!("open {}: {error}", path.display()))),
    }
}

/// All files as one: the first that says something wins. Paths in them are
/// absolute then.
pub(super) fn merged(kube: &Kube) -> Result<Value, Error> {
    let mut whole = json!({});
    for path in kube.config_paths() {
        let mut config = read(&path)?;
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        for (section, content, field) in FILES {
            for one in config[section].as_array_mut().into_iter().flatten() {
                if let Some(path) = one[content].get_mut(field)
                    && let Some(text) = path.as_str().filter(|text| !text.is_empty())
                {
                    *path = folder.join(text).display().to_string().into();
                }
            }
        }
        join(&mut whole, config);
    }
    Ok(whole)
}

fn join(whole: &mut Value, more: Value) {
    let Value::Object(more) = more else { return };
    for (key, value) in more {
        match (&mut whole[key.as_str()], value) {
            (Value::Array(known), Value::Array(list)) => {
                for one in list {
                    if !known.iter().any(|have| have["name"] == one["name"]) {
                        known.push(one);
                    }
                }
            }
            (have, value) if have.is_null() || *have == "" => *have = value,
            _ => {}
        }
    }
}

/// The file to change: the one that has an entry, or the first.
pub(super) fn path_of(kube: &Kube, section: &str, name: &str) -> Result<PathBuf, Error> {
    let paths = kube.config_paths();
    for path in &paths {
        let config = read(path)?;
        let has = match section {
            "current-context" => config["current-context"].as_str().is_some_and(|text| !text.is_empty()),
            _ => entries(&config, section).any(|one| one["name"] == *name),
        };
        if has {
            return Ok(path.clone());
        }
    }
    paths.into_iter().next().ok_or_else(|| Error::said("no kubeconfig is named"))
}

/// Changes a file; a new one is made if there is none.
pub(super) fn update<T>(
    path: &Path,
    change: impl FnOnce(&mut Value) -> Result<T, Error>,
) -> Result<T, Error> {
    let mut config = read(path)?;
    let outcome = change(&mut config)?;
    for (field, value) in [("apiVersion", "v1"), ("kind", "Config")] {
        if config[field].is_null() {
            config[field] = value.into();
        }
    }
    for (field, value) in [
        ("clusters", Value::Null),
        ("contexts", Value::Null),
        ("current-context", "".into()),
        ("preferences", json!({})),
        ("users", Value::Null),
    ] {
        if let Some(map) = config.as_object_mut() {
            map.entry(field).or_insert(value);
        }
    }
    write(path, &output::yaml::format(&config))?;
    Ok(outcome)
}

/// Writes a whole file at once, so that no reader sees a part: keys are in it.
fn write(path: &Path, text: &str) -> Result<(), Error> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    };
    std::fs::create_dir_all(&folder)?;
    // Through a link to where the file is.
    let target = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let folder = target.parent().map_or(folder, Path::to_owned);
    let mode = std::fs::metadata(&target)
        .map_or(0o600, |about| std::os::unix::fs::PermissionsExt::mode(&about.permissions()) & 0o777);
    let new =
        folder.join(format!(".{}.{}", target.file_name().unwrap_or_default().display(), std::process::id()));
    let outcome = (|| {
        let mut file =
            std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&new, &target)
    })();
    if outcome.is_err() {
        // Nothing may be left there; if it cannot be removed, the first error says more.
        std::fs::remove_file(&new).ok();
    }
    outcome.map_err(|error| Error::said(format!("write {}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_joined_and_changed() {
        let mut whole =
            json!({"contexts": [{"name": "a", "context": {"cluster": "x"}}], "current-context": ""});
        join(&mut whole, json!({"contexts": [{"name": "a"}, {"name": "b"}], "current-context": "b"}));
        assert_eq!(whole["current-context"], "b");
        assert_eq!(whole["contexts"][0]["context"]["cluster"], "x");
        assert_eq!(whole["contexts"].as_array().map(Vec::len), Some(2));

        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("deep/config");
        update(&path, |config| {
            config["current-context"] = "c".into();
            Ok(())
        })
        .expect("writes");
        let text = std::fs::read_to_string(&path).expect("text");
        assert!(
            text.starts_with("apiVersion: v1\nclusters: null\n") && text.contains("current-context: c\n")
        );
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).expect("there").permissions());
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(path.parent().expect("parent")).expect("folder").count(), 1);
    }
}
