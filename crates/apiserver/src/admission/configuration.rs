//! The file behind `--admission-control-config-file`: what single plugins are told
//! (`AdmissionConfiguration` of `apiserver.config.k8s.io/v1`).
//!
//! A plugin's configuration stands in the file itself or in one of its own, and is
//! the plugin's to read. Names of plugins without one, unknown fields and wrong
//! values are errors.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use daemon::Clock;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::event_rate_limit::Limits;
use super::image_policy::ImagePolicy;
use super::pod_node_selector::NodeSelectors;
use super::pod_security::Settings as PodSecurity;
use super::pod_tolerations::Tolerations;

/// What plugins are told.
#[derive(Default)]
pub struct Configuration {
    pub(super) pod_security: PodSecurity,
    pub(super) event_limits: Limits,
    pub(super) image_policy: Option<ImagePolicy>,
    pub(super) node_selectors: NodeSelectors,
    pub(super) tolerations: Tolerations,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    api_version: String,
    kind: String,
    #[serde(default)]
    plugins: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    #[serde(default)]
    path: PathBuf,
    #[serde(default)]
    configuration: Value,
}

impl Configuration {
    /// Reads the file, and those that it names.
    ///
    /// # Errors
    /// What cannot be read, or makes no sense; with the file and the plugin.
    pub fn load(path: &Path, clock: &Arc<dyn Clock>) -> anyhow::Result<Self> {
        let read = || -> anyhow::Result<Self> {
            let file: File = from_value(read_yaml(path)?)?;
            ensure!(
                file.api_version == "apiserver.config.k8s.io/v1" && file.kind == "AdmissionConfiguration",
                "is {} {}, not apiserver.config.k8s.io/v1 AdmissionConfiguration",
                file.api_version,
                file.kind
            );
            let directory = path.parent().unwrap_or(Path::new("."));
            let mut configuration = Self::default();
            for entry in file.plugins {
                let name = entry.name.clone();
                configuration.take(entry, directory, clock).with_context(|| format!("plugin {name:?}"))?;
            }
            Ok(configuration)
        };
        read().with_context(|| format!("--admission-control-config-file {}", path.display()))
    }

    fn take(&mut self, entry: Entry, directory: &Path, clock: &Arc<dyn Clock>) -> anyhow::Result<()> {
        let value = match (entry.path.as_os_str().is_empty(), entry.configuration) {
            (true, Value::Null) => return Ok(()),
            (true, value) => value,
            (false, Value::Null) => read_yaml(&directory.join(&entry.path))?,
            (false, _) => bail!("has a path and a configuration; only one of them can be"),
        };
        match entry.name.as_str() {
            "PodSecurity" => self.pod_security = PodSecurity::read(value)?,
            "ImagePolicyWebhook" => self.image_policy = Some(ImagePolicy::read(value, directory, clock)?),
            "EventRateLimit" => self.event_limits = Limits::read(value)?,
            "PodNodeSelector" => self.node_selectors = NodeSelectors::read(value)?,
            "PodTolerationRestriction" => self.tolerations = Tolerations::read(value)?,
            _ => bail!("takes no configuration"),
        }
        Ok(())
    }
}

fn read_yaml(path: &Path) -> anyhow::Result<Value> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    api::yaml::parse(&text).with_context(|| format!("{} is no YAML", path.display()))
}

/// A value as what it should be.
pub(super) fn from_value<T: DeserializeOwned>(value: Value) -> anyhow::Result<T> {
    serde_json::from_value(value).context("does not read")
}

/// Takes the kind off a plugin's configuration, which must be one of these groups.
pub(super) fn take_kind(value: &mut Value, kind: &str, groups: &[&str]) -> anyhow::Result<()> {
    let mut take = |field: &str| match value.as_object_mut().and_then(|object| object.remove(field)) {
        Some(Value::String(text)) => text,
        _ => String::new(),
    };
    let (api_version, found) = (take("apiVersion"), take("kind"));
    ensure!(
        found == kind && groups.contains(&api_version.as_str()),
        "is {api_version:?} {found:?}, not {} {kind}",
        groups.join(" or ")
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Configuration, String> {
        let clock: Arc<dyn Clock> = Arc::new(daemon::SystemClock);
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("admission.yaml");
        std::fs::write(&path, text).expect("write");
        let other = "podNodeSelectorPluginConfig: {clusterDefaultNodeSelector: zone=a}\n";
        std::fs::write(directory.path().join("other.yaml"), other).expect("write");
        Configuration::load(&path, &clock).map_err(|error| format!("{error:#}"))
    }

    const HEAD: &str = "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins:\n";

    #[test]
    fn plugins_are_told() {
        let found = load(&format!("{HEAD}- {{name: PodNodeSelector, path: other.yaml}}\n")).expect("reads");
        assert_eq!(
            found.node_selectors,
            NodeSelectors::read(serde_json::json!({
                "podNodeSelectorPluginConfig": {"clusterDefaultNodeSelector": "zone=a"}
            }))
            .expect("reads")
        );
        for (entry, why) in [
            ("- {name: Priority, configuration: {}}", "plugin \"Priority\": takes no configuration"),
            (
                "- {name: PodNodeSelector, path: other.yaml, configuration: {}}",
                "has a path and a configuration",
            ),
            ("- {name: PodNodeSelector, path: absent.yaml}", "absent.yaml"),
            ("- {name: PodSecurity, configuration: {kind: Other}}", "PodSecurityConfiguration"),
            ("- {nome: PodSecurity}", "unknown field `nome`"),
        ] {
            let told = load(&format!("{HEAD}{entry}\n")).err().expect("an error");
            assert!(told.contains("admission.yaml") && told.contains(why), "{told}");
        }
    }
}
