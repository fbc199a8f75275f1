//! Calling CNI plugins as the specification (1.0) has it: a list of plugins,
//! each an executable that gets its configuration on standard input and the
//! operation in the environment, each given the result of the one before.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

/// A plugin that does not come to an end is ended.
const LONGEST_CALL: Duration = Duration::from_secs(60);

/// A network operation that failed.
#[derive(Debug, thiserror::Error)]
pub enum CniError {
    /// There is no configuration yet.
    #[error("no CNI configuration in {}", .0.display())]
    NoConfiguration(PathBuf),
    /// A configuration is malformed.
    #[error("CNI configuration {}: {why}", path.display())]
    Configuration {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// There is no such plugin.
    #[error("CNI plugin {0} is in none of the plugin directories")]
    NoPlugin(String),
    /// A plugin said no.
    #[error("CNI plugin {plugin} failed ({operation}): {why}")]
    Plugin {
        /// Its name.
        plugin: String,
        /// What it was to do.
        operation: &'static str,
        /// Its message.
        why: String,
    },
    /// A result makes no sense.
    #[error("CNI result: {0}")]
    Result(String),
    /// A file.
    #[error("CNI file {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// A configuration: plugins to call in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkList {
    /// The network's name.
    pub name: String,
    /// Version of the specification that it is written for.
    pub version: String,
    /// The plugins' configurations.
    pub plugins: Vec<Value>,
    /// Whether the network forbids CHECK.
    pub is_check_disabled: bool,
}

impl NetworkList {
    /// Reads a `.conflist`, or a `.conf` with a single plugin.
    ///
    /// # Errors
    /// When the file is malformed.
    pub fn read(path: &Path) -> Result<Self, CniError> {
        let text = std::fs::read(path).map_err(|source| CniError::Io { path: path.to_owned(), source })?;
        let bad = |why: String| CniError::Configuration { path: path.to_owned(), why };
        let value: Value = serde_json::from_slice(&text).map_err(|error| bad(error.to_string()))?;
        Self::from_value(&value).ok_or_else(|| bad("name or plugins are missing".to_owned()))
    }

    fn from_value(value: &Value) -> Option<Self> {
        let plugins = match value["plugins"].as_array() {
            Some(plugins) => plugins.clone(),
            None => vec![value.clone()],
        };
        let all_typed = plugins.iter().all(|plugin| plugin["type"].is_string());
        (all_typed && !plugins.is_empty()).then_some(())?;
        Some(Self {
            name: value["name"].as_str()?.to_owned(),
            version: value["cniVersion"].as_str().unwrap_or("0.1.0").to_owned(),
            plugins,
            is_check_disabled: value["disableCheck"] == true,
        })
    }

    fn to_value(&self) -> Value {
        json!({
            "name": self.name, "cniVersion": self.version, "plugins": self.plugins,
            "disableCheck": self.is_check_disabled,
        })
    }
}

/// What is to be connected.
#[derive(Clone, Debug)]
pub struct Attachment {
    /// The sandbox.
    pub container_id: String,
    /// Its network namespace.
    pub namespace: PathBuf,
    /// The interface's name inside.
    pub interface: String,
    /// `CNI_ARGS`.
    pub arguments: Vec<(String, String)>,
    /// Values for plugins that declare the capability.
    pub capabilities: BTreeMap<String, Value>,
    /// Where plugins are.
    pub bin_dirs: Vec<PathBuf>,
    /// Where results are kept.
    pub cache_dir: PathBuf,
}

impl Attachment {
    fn cache_file(&self) -> PathBuf {
        self.cache_dir.join("results").join(format!("{}-{}", self.container_id, self.interface))
    }
}

/// Connects; gives the last plugin's result, which is kept for [`delete`].
///
/// # Errors
/// When a plugin fails. The plugins called so far are undone by [`delete`].
pub async fn add(network: &NetworkList, attachment: &Attachment) -> Result<Value, CniError> {
    // Kept before the first call, so that a crash half-way can be undone.
    keep(network, attachment, &Value::Null)?;
    let mut result = Value::Null;
    for plugin in &network.plugins {
        result = call(network, plugin, "ADD", attachment, &result).await?;
    }
    keep(network, attachment, &result)?;
    Ok(result)
}

/// Disconnects, in reverse order, with the configuration that was used to
/// connect. Harmless if nothing is known of the attachment.
///
/// # Errors
/// When a plugin fails.
pub async fn delete(attachment: &Attachment) -> Result<(), CniError> {
    let Some((network, kept, result)) = recall(attachment) else { return Ok(()) };
    for plugin in network.plugins.iter().rev() {
        call(&network, plugin, "DEL", &kept, &result).await?;
    }
    let file = attachment.cache_file();
    match std::fs::remove_file(&file) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(CniError::Io { path: file, source })
        }
        _ => Ok(()),
    }
}

/// Asks the plugins whether all is still as they made it.
///
/// # Errors
/// When one says that it is not.
pub async fn check(attachment: &Attachment) -> Result<(), CniError> {
    let Some((network, kept, result)) = recall(attachment) else {
        return Err(CniError::Result(format!("nothing is known of {}", attachment.container_id)));
    };
    // Plugins know CHECK since version 0.4.
    if network.is_check_disabled || network.version.starts_with("0.1") || network.version.starts_with("0.3") {
        return Ok(());
    }
    for plugin in &network.plugins {
        call(&network, plugin, "CHECK", &kept, &result).await?;
    }
    Ok(())
}

/// The addresses in a result.
#[must_use]
pub fn addresses(result: &Value) -> Vec<IpAddr> {
    let ips = result["ips"].as_array().into_iter().flatten();
    ips.filter_map(|ip| ip["address"].as_str()?.split('/').next()?.parse().ok()).collect()
}

/// The sandboxes with a kept result.
#[must_use]
pub fn cached(cache_dir: &Path) -> Vec<String> {
    std::fs::read_dir(cache_dir.join("results"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some(entry.file_name().to_str()?.rsplit_once('-')?.0.to_owned()))
        .collect()
}

fn keep(network: &NetworkList, attachment: &Attachment, result: &Value) -> Result<(), CniError> {
    let file = attachment.cache_file();
    let io = |source| CniError::Io { path: file.clone(), source };
    if let Some(directory) = file.parent() {
        std::fs::create_dir_all(directory).map_err(io)?;
    }
    let document = json!({
        "network": network.to_value(), "result": result,
        "namespace": attachment.namespace, "arguments": attachment.arguments,
        "capabilities": attachment.capabilities,
    });
    std::fs::write(&file, document.to_string()).map_err(io)
}

fn recall(attachment: &Attachment) -> Option<(NetworkList, Attachment, Value)> {
    let text = std::fs::read(attachment.cache_file()).ok()?;
    let document: Value = serde_json::from_slice(&text).ok()?;
    let kept = Attachment {
        arguments: serde_json::from_value(document["arguments"].clone()).ok()?,
        capabilities: serde_json::from_value(document["capabilities"].clone()).ok()?,
        ..attachment.clone()
    };
    Some((NetworkList::from_value(&document["network"])?, kept, document["result"].clone()))
}

/// The configuration that one plugin gets.
fn input(network: &NetworkList, plugin: &Value, attachment: &Attachment, previous: &Value) -> Value {
    let mut input = plugin.clone();
    input["name"] = network.name.clone().into();
    input["cniVersion"] = network.version.clone().into();
    let declared = plugin["capabilities"].as_object().into_iter().flatten();
    let runtime: serde_json::Map<String, Value> = declared
        .filter(|(_, is_wanted)| **is_wanted == true)
        .filter_map(|(name, _)| Some((name.clone(), attachment.capabilities.get(name)?.clone())))
        .collect();
    if !runtime.is_empty() {
        input["runtimeConfig"] = Value::Object(runtime);
    }
    if let Some(object) = input.as_object_mut() {
        object.remove("capabilities");
    }
    if !previous.is_null() {
        input["prevResult"] = previous.clone();
    }
    input
}

async fn call(
    network: &NetworkList,
    plugin: &Value,
    operation: &'static str,
    attachment: &Attachment,
    previous: &Value,
) -> Result<Value, CniError> {
    let name = plugin["type"].as_str().unwrap_or_default();
    let failed = |why: String| CniError::Plugin { plugin: name.to_owned(), operation, why };
    let path = attachment
        .bin_dirs
        .iter()
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
        .ok_or_else(|| CniError::NoPlugin(name.to_owned()))?;
    let arguments: Vec<String> =
        attachment.arguments.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let search = std::env::join_paths(&attachment.bin_dirs).unwrap_or_default();
    let mut child = tokio::process::Command::new(&path)
        .env("CNI_COMMAND", operation)
        .env("CNI_CONTAINERID", &attachment.container_id)
        .env("CNI_NETNS", &attachment.namespace)
        .env("CNI_IFNAME", &attachment.interface)
        .env("CNI_ARGS", arguments.join(";"))
        .env("CNI_PATH", search)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    let text = input(network, plugin, attachment, previous).to_string();
    if let Some(mut stdin) = child.stdin.take() {
        // A plugin that does not read its input says why by itself.
        let _ignored = stdin.write_all(text.as_bytes()).await;
    }
    let output = tokio::time::timeout(LONGEST_CALL, child.wait_with_output())
        .await
        .map_err(|_| failed(format!("no answer within {LONGEST_CALL:?}")))?
        .map_err(|error| failed(error.to_string()))?;
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    if !output.status.success() {
        let message = answer["msg"].as_str().unwrap_or_default();
        let details = answer["details"].as_str().unwrap_or_default();
        let raw = String::from_utf8_lossy(&output.stderr);
        let parts = [message, details, raw.trim()];
        return Err(failed(parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": ")));
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attachment(dir: &Path) -> Attachment {
        Attachment {
            container_id: "box".to_owned(),
            namespace: "/ns".into(),
            interface: "eth0".to_owned(),
            arguments: vec![("A".to_owned(), "1".to_owned())],
            capabilities: BTreeMap::from([("portMappings".to_owned(), json!([1]))]),
            bin_dirs: vec![dir.to_owned()],
            cache_dir: dir.join("cache"),
        }
    }

    fn plugin(dir: &Path, name: &str, script: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let path = dir.join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}")).expect("write");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("chmod");
    }

    #[tokio::test]
    async fn plugins_are_chained_and_undone_in_reverse() {
        let dir = tempfile::tempdir().expect("temp dir");
        let log = dir.path().join("log");
        let record = format!("cat >> {0}; echo \" $CNI_COMMAND $CNI_ARGS\" >> {0};", log.display());
        plugin(
            dir.path(),
            "first",
            &format!("{record} echo '{{\"ips\":[{{\"address\":\"10.0.0.5/24\"}}]}}'"),
        );
        plugin(
            dir.path(),
            "second",
            &format!("{record} echo '{{\"ips\":[{{\"address\":\"10.0.0.5/24\"}}],\"x\":1}}'"),
        );
        let network = NetworkList::from_value(&json!({"name": "n", "cniVersion": "1.0.0", "plugins": [
            {"type": "first"}, {"type": "second", "capabilities": {"portMappings": true}}
        ]}))
        .expect("a network");
        let attachment = attachment(dir.path());
        let result = add(&network, &attachment).await.expect("add");
        assert_eq!(addresses(&result), ["10.0.0.5".parse::<IpAddr>().expect("an address")]);
        assert_eq!(cached(&attachment.cache_dir), ["box"]);
        delete(&attachment).await.expect("delete");
        delete(&attachment).await.expect("delete again");
        assert!(cached(&attachment.cache_dir).is_empty());
        let text = std::fs::read_to_string(log).expect("read");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert!(lines[1].contains("prevResult") && lines[1].contains("runtimeConfig"), "{}", lines[1]);
        assert!(!lines[0].contains("prevResult") && lines[0].ends_with("ADD A=1"));
        assert!(lines[2].contains("second") && lines[2].ends_with("DEL A=1") && lines[3].contains("first"));
    }

    #[tokio::test]
    async fn a_plugins_error_is_reported() {
        let dir = tempfile::tempdir().expect("temp dir");
        plugin(dir.path(), "bad", "echo '{\"code\":11,\"msg\":\"no addresses left\"}'; exit 1");
        let network = NetworkList::from_value(&json!({"name": "n", "type": "bad"})).expect("a network");
        let error = add(&network, &attachment(dir.path())).await.expect_err("fails");
        assert!(error.to_string().contains("no addresses left"), "{error}");
        let absent = NetworkList::from_value(&json!({"name": "n", "type": "absent"})).expect("a network");
        assert!(matches!(add(&absent, &attachment(dir.path())).await, Err(CniError::NoPlugin(_))));
    }
}
