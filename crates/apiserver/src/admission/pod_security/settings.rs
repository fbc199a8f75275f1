//! The plugin's configuration (`pod-security.admission.config.k8s.io/v1`): what holds
//! for namespaces without labels, and who and what is not looked at.

use std::collections::BTreeSet;

use anyhow::{Context as _, ensure};
use serde::Deserialize;
use serde_json::Value;

use super::super::configuration::{from_value, take_kind};
use super::levels::{Level, Policy, Standard, Version};

const GROUP: &str = "pod-security.admission.config.k8s.io/v1";

/// The plugin's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Settings {
    pub(super) defaults: Policy,
    pub(super) exemptions: Exemptions,
}

/// Who and what is not looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(super) struct Exemptions {
    usernames: Names,
    runtime_classes: Names,
    namespaces: Names,
}

type Names = Vec<String>;

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
struct Defaults {
    enforce: String,
    enforce_version: String,
    audit: String,
    audit_version: String,
    warn: String,
    warn_version: String,
}

impl Default for Defaults {
    fn default() -> Self {
        let (level, version) = (|| "privileged".to_owned(), || "latest".to_owned());
        Self {
            enforce: level(),
            enforce_version: version(),
            audit: level(),
            audit_version: version(),
            warn: level(),
            warn_version: version(),
        }
    }
}

impl Settings {
    pub(in super::super) fn read(mut value: Value) -> anyhow::Result<Self> {
        #[derive(Default, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        struct File {
            defaults: Defaults,
            exemptions: Exemptions,
        }
        take_kind(&mut value, "PodSecurityConfiguration", &[GROUP])?;
        let File { defaults, exemptions } = from_value(value)?;
        let standard = |mode: &str, level: &str, version: &str| -> anyhow::Result<Standard> {
            let level = Level::parse(level).with_context(|| {
                format!("defaults.{mode}: must be one of privileged, baseline, restricted")
            })?;
            let version = Version::parse(version)
                .with_context(|| format!("defaults.{mode}-version: must be \"latest\" or \"v1.x\""))?;
            Ok(Standard { level, version })
        };
        let defaults = Policy {
            enforce: standard("enforce", &defaults.enforce, &defaults.enforce_version)?,
            audit: standard("audit", &defaults.audit, &defaults.audit_version)?,
            warn: standard("warn", &defaults.warn, &defaults.warn_version)?,
        };
        exemptions.check()?;
        Ok(Self { defaults, exemptions })
    }
}

impl Exemptions {
    fn check(&self) -> anyhow::Result<()> {
        let lists = [
            ("usernames", &self.usernames),
            ("runtimeClasses", &self.runtime_classes),
            ("namespaces", &self.namespaces),
        ];
        for (field, names) in lists {
            let mut seen = BTreeSet::new();
            for name in names {
                ensure!(!name.is_empty(), "exemptions.{field}: a name must not be empty");
                ensure!(seen.insert(name), "exemptions.{field}: duplicate value {name:?}");
            }
        }
        Ok(())
    }

    pub(super) fn namespace(&self, name: &str) -> bool {
        self.namespaces.iter().any(|one| one == name)
    }

    /// Whose requests, and in which namespaces: by which of both.
    pub(super) fn request(&self, namespace: &str, user: &str) -> Option<&'static str> {
        if self.namespace(namespace) {
            Some("namespace")
        } else {
            self.usernames.iter().any(|one| one == user).then_some("user")
        }
    }

    /// A pod of an exempt runtime class.
    pub(super) fn runtime_class(&self, pod_spec: &Value) -> bool {
        self.runtime_classes.iter().any(|one| pod_spec["runtimeClassName"] == one.as_str())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(mut file: Value) -> Result<Settings, String> {
        file["apiVersion"] = GROUP.into();
        file["kind"] = "PodSecurityConfiguration".into();
        Settings::read(file).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn files_are_read() {
        let found = read(json!({
            "defaults": {"enforce": "baseline", "enforce-version": "v1.30"},
            "exemptions": {"usernames": ["u"], "namespaces": ["n"], "runtimeClasses": ["r"]},
        }))
        .expect("reads");
        assert_eq!(found.defaults.enforce.to_string(), "baseline:v1.30");
        assert_eq!(found.defaults.warn.to_string(), "privileged:latest");
        let exempt = &found.exemptions;
        assert_eq!(
            [("n", "x"), ("x", "u"), ("n", "u"), ("x", "x")].map(|(space, user)| exempt.request(space, user)),
            [Some("namespace"), Some("user"), Some("namespace"), None]
        );
        assert!(exempt.runtime_class(&json!({"runtimeClassName": "r"})) && !exempt.runtime_class(&json!({})));
        for (file, why) in [
            (json!({"defaults": {"enforce": "bad"}}), "defaults.enforce: must be one of"),
            (json!({"defaults": {"warn-version": "1.2"}}), "defaults.warn-version: must be"),
            (json!({"exemptions": {"usernames": ["a", "a"]}}), "duplicate value \"a\""),
            (json!({"exemption": {}}), "unknown field `exemption`"),
        ] {
            let told = read(file).expect_err("an error");
            assert!(told.contains(why), "{told}");
        }
    }
}
