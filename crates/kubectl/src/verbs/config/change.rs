//! What changes kubeconfig files.

use std::path::Path;

use base64::Engine as _;
use clap::Args;
use serde_json::{Map, Value, json};

use super::file::{self, content_of};
use crate::error::Error;
use crate::kube::Kube;
use crate::output;

#[derive(Args)]
pub(super) struct SetContext {
    /// The context
    name: Option<String>,
    /// The current one
    #[arg(long)]
    current: bool,
    /// Its cluster
    #[arg(long)]
    cluster: Option<String>,
    /// Its user
    #[arg(long)]
    user: Option<String>,
}

#[derive(Args)]
pub(super) struct SetCluster {
    /// The cluster
    name: String,
    /// The address of its API server
    #[arg(long)]
    server: Option<String>,
    /// Its certificate authority
    #[arg(id = "certificate-authority", long)]
    authority: Option<String>,
    /// Put the certificate authority in
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    embed_certs: Option<bool>,
    /// Do not check the server's certificate (for other clients; this one always does)
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    insecure_skip_tls_verify: Option<bool>,
    /// The name in the server's certificate
    #[arg(id = "tls-server-name", long)]
    server_name: Option<String>,
    /// A proxy (for other clients)
    #[arg(long)]
    proxy_url: Option<String>,
}

#[derive(Args)]
pub(super) struct SetCredentials {
    /// The user
    name: String,
    /// A certificate
    #[arg(id = "client-certificate", long)]
    certificate: Option<String>,
    /// Its key
    #[arg(id = "client-key", long)]
    key: Option<String>,
    /// A bearer token
    #[arg(long)]
    token: Option<String>,
    /// A name (for other clients)
    #[arg(long)]
    username: Option<String>,
    /// A password (for other clients)
    #[arg(long)]
    password: Option<String>,
    /// Put certificate and key in
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    embed_certs: Option<bool>,
}

#[derive(Args)]
pub(super) struct Set {
    /// The property
    property: String,
    /// Its value
    value: String,
    /// The value of a -data property is not base64 yet
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    set_raw_bytes: Option<bool>,
}

/// The content of an entry, which is made if it is not there, and whether it was.
fn entry<'a>(config: &'a mut Value, section: &str, name: &str) -> (&'a mut Value, bool) {
    if !config[section].is_array() {
        config[section] = json!([]);
    }
    let content = content_of(section);
    let known = file::entries(config, section).position(|one| one["name"] == *name);
    let list = &mut config[section];
    let (index, was) = match known {
        Some(index) => (index, true),
        None => {
            let count = list.as_array().map_or(0, Vec::len);
            if let Some(list) = list.as_array_mut() {
                list.push(json!({content: {}, "name": name}));
            }
            (count, false)
        }
    };
    let one = &mut list[index];
    if !one[content].is_object() {
        one[content] = json!({});
    }
    (&mut one[content], was)
}

/// Sets a field, or removes it where the value is empty.
fn put(content: &mut Value, field: &str, value: Option<&String>) {
    let (Some(value), Some(map)) = (value, content.as_object_mut()) else { return };
    if value.is_empty() {
        map.remove(field);
    } else {
        map.insert(field.to_owned(), value.clone().into());
    }
}

/// Sets a file's path or its content, and removes the other.
fn put_file(content: &mut Value, field: &str, path: Option<&String>, embed: bool) -> Result<(), Error> {
    let (Some(path), Some(map)) = (path, content.as_object_mut()) else { return Ok(()) };
    let data = format!("{field}-data");
    if embed {
        let bytes = std::fs::read(path)
            .map_err(|error| Error::said(format!("could not stat {field} file {path}: {error}")))?;
        map.insert(data, base64::engine::general_purpose::STANDARD.encode(bytes).into());
        map.remove(field);
    } else {
        let absolute = std::path::absolute(path)?;
        map.insert(field.to_owned(), absolute.display().to_string().into());
        map.remove(&data);
    }
    Ok(())
}

impl SetContext {
    pub(super) fn run(&self, kube: &Kube) -> Result<(), Error> {
        let name = match (&self.name, self.current) {
            (Some(_), true) => {
                return Err(Error::said("you cannot specify both a context name and --current"));
            }
            (Some(name), false) if !name.is_empty() => name.clone(),
            (None, true) => match file::merged(kube)?["current-context"].as_str() {
                Some(name) if !name.is_empty() => name.to_owned(),
                _ => return Err(Error::said("no current context is set")),
            },
            _ => return Err(Error::said("you must specify a non-empty context name or --current")),
        };
        let namespace = kube.demanded_namespace().map(str::to_owned);
        let was = file::update(&file::path_of(kube, "contexts", &name)?, |config| {
            let (content, was) = entry(config, "contexts", &name);
            put(content, "cluster", self.cluster.as_ref());
            put(content, "user", self.user.as_ref());
            put(content, "namespace", namespace.as_ref());
            for field in ["cluster", "user"] {
                if content[field].is_null() {
                    content[field] = "".into();
                }
            }
            Ok(was)
        })?;
        output::line(format!("Context {name:?} {}.", if was { "modified" } else { "created" }))
    }
}

impl SetCluster {
    pub(super) fn run(&self, kube: &Kube) -> Result<(), Error> {
        let embed = self.embed_certs == Some(true);
        if embed && self.authority.is_none() {
            return Err(Error::said("you must specify a --certificate-authority to embed"));
        }
        if self.insecure_skip_tls_verify == Some(true) && self.authority.is_some() {
            return Err(Error::said(
                "you cannot specify a certificate authority and insecure mode at the same time",
            ));
        }
        file::update(&file::path_of(kube, "clusters", &self.name)?, |config| {
            let (content, _) = entry(config, "clusters", &self.name);
            put(content, "server", self.server.as_ref());
            put(content, "tls-server-name", self.server_name.as_ref());
            put(content, "proxy-url", self.proxy_url.as_ref());
            if let (Some(insecure), Some(map)) = (self.insecure_skip_tls_verify, content.as_object_mut()) {
                map.insert("insecure-skip-tls-verify".into(), insecure.into());
                if insecure {
                    map.remove("certificate-authority");
                    map.remove("certificate-authority-data");
                }
            }
            put_file(content, "certificate-authority", self.authority.as_ref(), embed)?;
            if content["server"].is_null() {
                content["server"] = "".into();
            }
            Ok(())
        })?;
        output::line(format!("Cluster {:?} set.", self.name))
    }
}

impl SetCredentials {
    pub(super) fn run(&self, kube: &Kube) -> Result<(), Error> {
        let embed = self.embed_certs == Some(true);
        if embed && self.certificate.is_none() && self.key.is_none() {
            return Err(Error::said("you must specify a --client-certificate or --client-key to embed"));
        }
        let set = |value: &Option<String>| value.as_ref().is_some_and(|value| !value.is_empty());
        if set(&self.token) && (set(&self.username) || set(&self.password)) {
            return Err(Error::said(
                "you cannot specify more than one authentication method at the same time: token, basicAuth",
            ));
        }
        file::update(&file::path_of(kube, "users", &self.name)?, |config| {
            let (content, _) = entry(config, "users", &self.name);
            put_file(content, "client-certificate", self.certificate.as_ref(), embed)?;
            put_file(content, "client-key", self.key.as_ref(), embed)?;
            put(content, "token", self.token.as_ref());
            put(content, "username", self.username.as_ref());
            put(content, "password", self.password.as_ref());
            if let Some(map) = content.as_object_mut() {
                // One way to prove who one is takes the place of the other.
                if set(&self.token) {
                    map.remove("username");
                    map.remove("password");
                    map.remove("tokenFile");
                } else if set(&self.username) || set(&self.password) {
                    map.remove("token");
                    map.remove("tokenFile");
                }
            }
            Ok(())
        })?;
        output::line(format!("User {:?} set.", self.name))
    }
}

/// Where a property is.
#[derive(Debug, PartialEq, Eq)]
enum Property {
    /// A field of the file.
    Top(String),
    /// A section, an entry, and the path below it; no path for the whole entry.
    Below(&'static str, String, Vec<String>),
}

/// Reads `contexts.NAME.namespace`; names may have dots, so that those that
/// are there are looked for first.
fn locate(config: &Value, property: &str) -> Result<Property, Error> {
    let (first, rest) = property.split_once('.').unwrap_or((property, ""));
    let section = match first {
        "clusters" => "clusters",
        "contexts" => "contexts",
        "users" => "users",
        _ => return Ok(Property::Top(property.to_owned())),
    };
    if rest.is_empty() {
        return Err(Error::said(format!("{property:?} names no entry")));
    }
    let below = |tail: &str| tail.split('.').filter(|part| !part.is_empty()).map(str::to_owned).collect();
    let mut names: Vec<&str> =
        file::entries(config, section).filter_map(|one| one["name"].as_str()).collect();
    names.sort_by_key(|name| std::cmp::Reverse(name.len()));
    for name in names {
        match rest.strip_prefix(name) {
            Some("") => return Ok(Property::Below(section, name.to_owned(), Vec::new())),
            Some(tail) if tail.starts_with('.') => {
                return Ok(Property::Below(section, name.to_owned(), below(tail)));
            }
            _ => {}
        }
    }
    Ok(match rest.rsplit_once('.') {
        Some((name, field)) => Property::Below(section, name.to_owned(), vec![field.to_owned()]),
        None => Property::Below(section, rest.to_owned(), Vec::new()),
    })
}

impl Set {
    pub(super) fn run(&self, kube: &Kube) -> Result<(), Error> {
        let (property, value) = (&self.property, &self.value);
        if property.ends_with('-') {
            return Err(Error::said("you cannot use set to unset a property"));
        }
        let place = locate(&file::merged(kube)?, property)?;
        let (section, name) = match &place {
            Property::Top(field) if field == "current-context" => ("current-context", ""),
            Property::Top(_) => ("preferences", ""),
            Property::Below(section, name, _) => (*section, name.as_str()),
        };
        file::update(&file::path_of(kube, section, name)?, |config| {
            match &place {
                Property::Top(path) => {
                    set_path(config, &path.split('.').map(str::to_owned).collect::<Vec<_>>(), typed(value))
                }
                Property::Below(_, _, path) if path.is_empty() => {
                    return Err(Error::said(format!("can't set a map to a value: {property}")));
                }
                Property::Below(section, name, path) => {
                    let is_data = path.last().is_some_and(|field| field.ends_with("-data"));
                    let value = match (is_data, self.set_raw_bytes == Some(true)) {
                        (true, true) => json!(base64::engine::general_purpose::STANDARD.encode(value)),
                        (true, false) => {
                            base64::engine::general_purpose::STANDARD.decode(value).map_err(|error| {
                                Error::said(format!("error decoding input value: {error}"))
                            })?;
                            json!(value)
                        }
                        (false, _)
                            if path.last().is_some_and(|field| field == "insecure-skip-tls-verify") =>
                        {
                            typed(value)
                        }
                        (false, _) => json!(value),
                    };
                    set_path(entry(config, section, name).0, path, value);
                }
            }
            Ok(())
        })?;
        output::line(format!("Property {property:?} set."))
    }
}

/// Truth values as such, all else as text.
fn typed(text: &str) -> Value {
    match text {
        "true" => true.into(),
        "false" => false.into(),
        _ => text.into(),
    }
}

fn set_path(value: &mut Value, path: &[String], new: Value) {
    match path.split_first() {
        None => *value = new,
        Some((first, rest)) => {
            if !value.is_object() {
                *value = Value::Object(Map::new());
            }
            set_path(&mut value[first.as_str()], rest, new);
        }
    }
}

fn remove_path(value: &mut Value, path: &[String]) {
    match path {
        [] => {}
        [last] => {
            if let Some(map) = value.as_object_mut() {
                map.remove(last);
            }
        }
        [first, rest @ ..] => {
            if let Some(below) = value.get_mut(first.as_str()) {
                remove_path(below, rest);
            }
        }
    }
}

pub(super) fn unset(kube: &Kube, property: &str) -> Result<(), Error> {
    let section = property.split('.').next().unwrap_or_default();
    let whole = ["clusters", "contexts", "users"].contains(&property);
    let place = if whole { None } else { Some(locate(&file::merged(kube)?, property)?) };
    let name = match &place {
        Some(Property::Below(_, name, _)) => name.as_str(),
        _ => "",
    };
    file::update(&file::path_of(kube, section, name)?, |config| {
        match &place {
            None => config[property] = Value::Null,
            Some(Property::Top(path)) if path == "current-context" => config["current-context"] = "".into(),
            Some(Property::Top(path)) => {
                remove_path(config, &path.split('.').map(str::to_owned).collect::<Vec<_>>());
            }
            Some(Property::Below(section, name, path)) if path.is_empty() => {
                remove_entry(config, section, name);
            }
            Some(Property::Below(section, name, path)) => {
                let known = file::entries(config, section).position(|one| one["name"] == **name);
                let Some(index) = known else {
                    return Err(Error::said(format!("current map key `{name}` is invalid")));
                };
                remove_path(&mut config[*section][index][content_of(section)], path);
            }
        }
        Ok(())
    })?;
    output::line(format!("Property {property:?} unset."))
}

/// Whether there was one.
fn remove_entry(config: &mut Value, section: &str, name: &str) -> bool {
    let Some(list) = config[section].as_array_mut() else { return false };
    let before = list.len();
    list.retain(|one| one["name"] != *name);
    let removed = list.len() < before;
    if list.is_empty() {
        config[section] = Value::Null;
    }
    removed
}

pub(super) fn use_context(kube: &Kube, name: &str) -> Result<(), Error> {
    if name.is_empty() {
        return Err(Error::said("empty context names are not allowed"));
    }
    let config = file::merged(kube)?;
    if !file::entries(&config, "contexts").any(|one| one["name"] == *name) {
        return Err(Error::said(format!("no context exists with the name: {name:?}")));
    }
    file::update(&file::path_of(kube, "current-context", "")?, |config| {
        config["current-context"] = name.into();
        Ok(())
    })?;
    output::line(format!("Switched to context {name:?}."))
}

pub(super) fn delete(kube: &Kube, what: &str, name: &str) -> Result<(), Error> {
    let section = format!("{what}s");
    let path = file::path_of(kube, &section, name)?;
    let shown = |path: &Path| path.display().to_string();
    let current = file::merged(kube)?["current-context"] == *name;
    file::update(&path, |config| {
        if remove_entry(config, &section, name) {
            Ok(())
        } else {
            Err(Error::said(format!("cannot delete {what} {name}, not in {}", shown(&path))))
        }
    })?;
    if what == "context" && current {
        eprintln!(
            "warning: this removed your active context, use \"kubectl config use-context\" to select a different one"
        );
    }
    output::line(format!("deleted {what} {name} from {}", shown(&path)))
}

pub(super) fn rename(kube: &Kube, old: &str, new: &str) -> Result<(), Error> {
    if new.is_empty() {
        return Err(Error::said("You must specify a new non-empty context name"));
    }
    let path = file::path_of(kube, "contexts", old)?;
    let merged = file::merged(kube)?;
    let has = |name: &str| file::entries(&merged, "contexts").any(|one| one["name"] == *name);
    if !has(old) {
        return Err(Error::said(format!(
            "cannot rename the context {old:?}, it's not in {}",
            path.display()
        )));
    }
    if has(new) {
        return Err(Error::said(format!(
            "cannot rename the context {old:?}, the context {new:?} already exists in {}",
            path.display()
        )));
    }
    file::update(&path, |config| {
        for one in config["contexts"].as_array_mut().into_iter().flatten() {
            if one["name"] == *old {
                one["name"] = new.into();
            }
        }
        if config["current-context"] == *old {
            config["current-context"] = new.into();
        }
        Ok(())
    })?;
    output::line(format!("Context {old:?} renamed to {new:?}."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_are_located() {
        let config = json!({"contexts": [{"name": "a.b"}], "users": [{"name": "u"}]});
        let below = |section, name: &str, path: &[&str]| {
            Property::Below(section, name.to_owned(), path.iter().map(|part| (*part).to_owned()).collect())
        };
        let table = [
            ("current-context", Property::Top("current-context".into())),
            ("contexts.a.b.namespace", below("contexts", "a.b", &["namespace"])),
            ("contexts.a.b", below("contexts", "a.b", &[])),
            ("clusters.new.io.server", below("clusters", "new.io", &["server"])),
            ("users.u.auth-provider.name", below("users", "u", &["auth-provider", "name"])),
        ];
        for (property, expected) in table {
            assert_eq!(locate(&config, property).expect(property), expected);
        }
        assert!(locate(&config, "users").is_err());
    }

    #[test]
    fn entries_are_made_changed_and_removed() {
        let mut config = json!({});
        let (content, was) = entry(&mut config, "users", "u");
        assert!(!was);
        put(content, "token", Some(&"t".to_owned()));
        assert_eq!(config["users"], json!([{"name": "u", "user": {"token": "t"}}]));
        let (content, was) = entry(&mut config, "users", "u");
        put(content, "token", Some(&String::new()));
        assert!(was);
        assert_eq!(config["users"][0]["user"], json!({}));
        assert!(remove_entry(&mut config, "users", "u") && !remove_entry(&mut config, "users", "u"));
        assert_eq!(config["users"], Value::Null);
    }

    #[test]
    fn paths_are_set_and_removed() {
        let mut value = json!({});
        let path: Vec<String> = ["a", "b"].map(str::to_owned).into();
        set_path(&mut value, &path, typed("true"));
        assert_eq!(value, json!({"a": {"b": true}}));
        remove_path(&mut value, &path);
        assert_eq!(value, json!({"a": {}}));
    }
}
