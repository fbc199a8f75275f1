//! `EncryptionConfiguration` of `apiserver.config.k8s.io/v1`, read from a file.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use base64::Engine as _;
use serde::Deserialize;

/// Which resources are encrypted, and how.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Configuration {
    api_version: String,
    kind: String,
    pub(super) resources: Vec<Rule>,
}

/// The providers of some resources: the first one writes, all of them read.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Rule {
    pub(super) resources: Vec<String>,
    pub(super) providers: Vec<Provider>,
}

/// One way to encrypt; exactly one field is set.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Provider {
    pub(super) aesgcm: Option<Keys>,
    pub(super) aescbc: Option<Keys>,
    pub(super) secretbox: Option<Keys>,
    pub(super) identity: Option<Identity>,
    pub(super) kms: Option<Kms>,
}

/// Nothing is encrypted.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Identity {}

/// Keys of a provider: the first one writes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Keys {
    pub(super) keys: Vec<Key>,
}

/// A key.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Key {
    pub(super) name: String,
    secret: String,
}

/// A key management service, version 2.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Kms {
    #[serde(default)]
    api_version: String,
    pub(super) name: String,
    pub(super) endpoint: String,
    #[serde(default)]
    timeout: Option<String>,
    /// Only version 1 has it.
    #[serde(default)]
    cachesize: Option<i64>,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Key {
    /// The key's bytes, which have to be of one of the lengths.
    pub(super) fn bytes(&self, lengths: &[usize]) -> anyhow::Result<Vec<u8>> {
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(self.secret.trim())
            // The error would show a byte of the secret.
            .map_err(|_| anyhow::anyhow!("the secret of key {:?} is not base64", self.name))?;
        ensure!(
            lengths.contains(&bytes.len()),
            "the secret of key {:?} has {} bytes, expected one of {lengths:?}",
            self.name,
            bytes.len()
        );
        Ok(bytes)
    }
}

impl Kms {
    /// How long a call may take.
    pub(super) fn timeout(&self) -> anyhow::Result<Duration> {
        let Some(text) = &self.timeout else { return Ok(Duration::from_secs(3)) };
        let parsed: jiff::SignedDuration =
            text.parse().with_context(|| format!("the timeout {text:?} of {:?}", self.name))?;
        let timeout = Duration::try_from(parsed).ok().filter(|timeout| !timeout.is_zero());
        timeout.with_context(|| format!("the timeout {text:?} of {:?} is not positive", self.name))
    }
}

/// Reads the text of the file.
pub(super) fn parse(text: &str) -> anyhow::Result<Configuration> {
    let value = api::yaml::parse(text).map_err(|error| anyhow::anyhow!("{error}"))?;
    // A provider without anything may be written as nothing: `identity:`.
    let configuration: Configuration = serde_json::from_value(value)?;
    let kind = (configuration.api_version.as_str(), configuration.kind.as_str());
    ensure!(
        kind == ("apiserver.config.k8s.io/v1", "EncryptionConfiguration"),
        "expected apiserver.config.k8s.io/v1, Kind=EncryptionConfiguration, found {}, Kind={}",
        kind.0,
        kind.1
    );
    ensure!(!configuration.resources.is_empty(), "resources: at least one is needed");
    for (index, rule) in configuration.resources.iter().enumerate() {
        check(rule).with_context(|| format!("resources[{index}]"))?;
    }
    Ok(configuration)
}

fn check(rule: &Rule) -> anyhow::Result<()> {
    ensure!(!rule.resources.is_empty(), "resources: at least one is needed");
    ensure!(!rule.providers.is_empty(), "providers: at least one is needed");
    for name in &rule.resources {
        match name.as_str() {
            "" | "*" => bail!("resources: {name:?} is not supported, use '*.' for the core group or '*.*'"),
            name if name.contains('/') => bail!("resources: {name:?} names a subresource"),
            name if name != name.to_lowercase() => bail!("resources: {name:?} is not in lower case"),
            _ => {}
        }
    }
    let mut names: Vec<&str> = Vec::new();
    for (index, provider) in rule.providers.iter().enumerate() {
        let lists = [&provider.aesgcm, &provider.aescbc, &provider.secretbox];
        let given = lists.iter().filter(|keys| keys.is_some()).count()
            + usize::from(provider.identity.is_some())
            + usize::from(provider.kms.is_some());
        ensure!(given == 1, "providers[{index}]: expected exactly one provider, found {given}");
        for keys in lists.into_iter().flatten() {
            ensure!(!keys.keys.is_empty(), "providers[{index}]: at least one key is needed");
            let mut seen: Vec<&str> = Vec::new();
            for key in &keys.keys {
                let is_plain = !key.name.is_empty() && !key.name.contains(':');
                ensure!(is_plain, "providers[{index}]: the key name {:?} is empty or has a colon", key.name);
                ensure!(
                    !seen.contains(&key.name.as_str()),
                    "providers[{index}]: two keys are {:?}",
                    key.name
                );
                seen.push(&key.name);
            }
        }
        if let Some(kms) = &provider.kms {
            ensure!(
                kms.api_version == "v2",
                "providers[{index}]: kms: apiVersion {:?} is not supported, only v2 is",
                kms.api_version
            );
            ensure!(kms.cachesize.is_none(), "providers[{index}]: kms: cachesize is not supported in v2");
            let is_plain = !kms.name.is_empty() && !kms.name.contains(':');
            ensure!(is_plain, "providers[{index}]: kms: the name {:?} is empty or has a colon", kms.name);
            ensure!(!names.contains(&kms.name.as_str()), "providers[{index}]: kms: two are {:?}", kms.name);
            names.push(&kms.name);
            let is_socket = kms.endpoint.strip_prefix("unix://").is_some_and(|path| path.starts_with('/'));
            ensure!(is_socket, "providers[{index}]: kms: endpoint {:?} is not unix:///PATH", kms.endpoint);
            kms.timeout()?;
        }
    }
    Ok(())
}

impl Rule {
    /// Whether the rule is for a resource.
    pub(super) fn covers(&self, group: &str, resource: &str) -> bool {
        self.resources.iter().any(|pattern| {
            let (name, of) = pattern.split_once('.').unwrap_or((pattern, ""));
            match (name, of) {
                ("*", "*") => true,
                ("*", of) => of == group,
                (name, of) => name == resource && of == group,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\n";

    fn told(rest: &str) -> String {
        format!("{:#}", parse(&format!("{HEAD}{rest}")).expect_err("an error"))
    }

    #[test]
    fn rules_cover_resources() {
        let text = format!(
            "{HEAD}resources:\n- resources: [secrets, '*.apps', events.events.k8s.io]\n  providers: [identity: {{}}]\n- resources: ['*.*']\n  providers: [identity: {{}}]\n"
        );
        let read = parse(&text).expect("reads");
        for (group, resource, first) in [
            ("", "secrets", true),
            ("", "configmaps", false),
            ("apps", "deployments", true),
            ("events.k8s.io", "events", true),
            ("", "events", false),
        ] {
            assert_eq!(read.resources[0].covers(group, resource), first, "{group}/{resource}");
            assert!(read.resources[1].covers(group, resource));
        }
    }

    #[test]
    fn mistakes_are_told_without_secrets() {
        for (rest, wanted) in [
            ("resources: []", "resources: at least one is needed"),
            ("resources: [{resources: ['*'], providers: [identity: {}]}]", "use '*.' for the core group"),
            (
                "resources: [{resources: [secrets], providers: [{}]}]",
                "expected exactly one provider, found 0",
            ),
            (
                "resources: [{resources: [secrets], providers: [{aesgcm: {keys: []}}]}]",
                "at least one key is needed",
            ),
            (
                "resources: [{resources: [secrets], providers: [{kms: {apiVersion: v1, name: a, endpoint: 'unix:///x'}}]}]",
                "only v2 is",
            ),
            (
                "resources: [{resources: [secrets], providers: [{kms: {apiVersion: v2, name: a, endpoint: 'tcp://x'}}]}]",
                "is not unix:///PATH",
            ),
            ("resources: [{resources: [secrets], providers: [{rot13: {}}]}]", "unknown field `rot13`"),
        ] {
            let told = told(rest);
            assert!(told.contains(wanted), "{wanted} in {told}");
        }
        let key = Key { name: "k".to_owned(), secret: "c2VjcmV0".to_owned() };
        let told = key.bytes(&[32]).expect_err("too short").to_string();
        assert_eq!(told, "the secret of key \"k\" has 6 bytes, expected one of [32]");
        assert!(!format!("{key:?}").contains("c2Vj"));
    }
}
