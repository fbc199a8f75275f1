//! Which authorizers are asked, and in which order: by flags, or by a file
//! (`AuthorizationConfiguration`, `apiserver.config.k8s.io`).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use daemon::{Clock, Shutdown, tasks};
use serde::Deserialize;
use serde_json::Value;

use super::webhook::{AccessWebhook, Asking};
use super::{Authorizer, Mode};
use crate::cache::WatchCache;
use crate::config::duration;

/// How long a webhook of the flags has to answer.
const LIMIT: Duration = Duration::from_secs(30);
/// How often the file is looked at.
const RELOAD: Duration = Duration::from_secs(60);
const DEFAULT: [&str; 2] = ["Node", "RBAC"];

/// Who is asked.
#[derive(Clone, Debug, Args)]
pub struct AuthorizationFlags {
    /// Authorizers in the order in which they are asked: Node, RBAC, Webhook, AlwaysAllow,
    /// AlwaysDeny. Node and RBAC where none is given.
    #[arg(long, value_delimiter = ',', value_name = "MODE")]
    pub authorization_mode: Vec<String>,
    /// Ask the server of this kubeconfig; with the mode Webhook.
    #[arg(long, value_name = "FILE")]
    pub authorization_webhook_config_file: Option<PathBuf>,
    /// The version of SubjectAccessReview that it speaks.
    #[arg(long, default_value = "v1beta1", value_name = "VERSION")]
    pub authorization_webhook_version: String,
    /// How long its yes is remembered.
    #[arg(long, default_value = "5m", value_parser = duration, value_name = "DURATION")]
    pub authorization_webhook_cache_authorized_ttl: Duration,
    /// How long its no is remembered.
    #[arg(long, default_value = "30s", value_parser = duration, value_name = "DURATION")]
    pub authorization_webhook_cache_unauthorized_ttl: Duration,
    /// An AuthorizationConfiguration, YAML, instead of the other flags.
    #[arg(long, value_name = "FILE")]
    pub authorization_config: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct Configuration {
    api_version: String,
    kind: String,
    authorizers: Vec<Entry>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct Entry {
    r#type: String,
    name: String,
    webhook: Option<WebhookEntry>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct WebhookEntry {
    #[serde(rename = "authorizedTTL")]
    authorized_ttl: String,
    #[serde(rename = "unauthorizedTTL")]
    unauthorized_ttl: String,
    cache_authorized_requests: Option<bool>,
    cache_unauthorized_requests: Option<bool>,
    timeout: String,
    subject_access_review_version: String,
    match_condition_subject_access_review_version: String,
    failure_policy: String,
    connection_info: Connection,
    match_conditions: Vec<Condition>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct Connection {
    r#type: String,
    kube_config_file: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct Condition {
    expression: String,
}

impl AuthorizationFlags {
    /// The authorizer that the flags ask for.
    ///
    /// # Errors
    /// Flags that make no sense, or files that cannot be used.
    pub fn open(&self, cache: &Arc<WatchCache>, clock: &Arc<dyn Clock>) -> anyhow::Result<Authorizer> {
        if let Some(path) = &self.authorization_config {
            ensure!(
                self.authorization_mode.is_empty() && self.authorization_webhook_config_file.is_none(),
                "--authorization-config can not be specified when --authorization-mode or --authorization-webhook-* flags are defined"
            );
            let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
            return Ok(Authorizer::of(modes(path, &text, cache, clock)?, cache));
        }
        let given: Vec<&str> = self.authorization_mode.iter().map(String::as_str).collect();
        let names = if given.is_empty() { &DEFAULT[..] } else { &given };
        let has_webhook = names.contains(&"Webhook");
        ensure!(
            has_webhook == self.authorization_webhook_config_file.is_some(),
            "--authorization-mode Webhook and --authorization-webhook-config-file need each other"
        );
        let mut modes = Vec::new();
        for (index, name) in names.iter().enumerate() {
            ensure!(!names[..index].contains(name), "--authorization-mode has {name:?} more than once");
            modes.push(match (*name, &self.authorization_webhook_config_file) {
                ("Webhook", Some(path)) => self.webhook(path, clock)?,
                (other, _) => plain(other, cache).context("--authorization-mode")?,
            });
        }
        Ok(Authorizer::of(modes, cache))
    }

    /// Follows the file of `--authorization-config`: a new one that makes sense counts
    /// within a minute, another is told and the old one stays.
    pub fn follow(
        &self,
        authorizer: &Arc<Authorizer>,
        cache: &Arc<WatchCache>,
        clock: &Arc<dyn Clock>,
        shutdown: Shutdown,
    ) {
        let Some(path) = self.authorization_config.clone() else { return };
        let (authorizer, cache, clock) = (Arc::clone(authorizer), Arc::clone(cache), Arc::clone(clock));
        tasks::spawn("authorization", async move {
            let mut known = std::fs::read_to_string(&path).unwrap_or_default();
            loop {
                tokio::select! {
                    () = shutdown.begun() => return,
                    () = tokio::time::sleep(RELOAD) => {}
                }
                match std::fs::read_to_string(&path) {
                    Ok(text) if text != known => {
                        authorizer.reload(modes(&path, &text, &cache, &clock));
                        known = text;
                    }
                    Ok(_) => {}
                    Err(error) => {
                        tracing::error!(path = %path.display(), %error, "cannot read the authorization configuration")
                    }
                }
            }
        });
    }

    fn webhook(&self, path: &Path, clock: &Arc<dyn Clock>) -> anyhow::Result<Mode> {
        let asking = Asking {
            name: "Webhook".to_owned(),
            version: self.authorization_webhook_version.clone(),
            timeout: LIMIT,
            authorized: self.authorization_webhook_cache_authorized_ttl,
            unauthorized: self.authorization_webhook_cache_unauthorized_ttl,
            denies_on_error: false,
        };
        Ok(Mode::Webhook(Box::new(AccessWebhook::load(path, asking, &[], Arc::clone(clock))?)))
    }
}

/// The authorizers that a file asks for.
fn modes(
    path: &Path,
    text: &str,
    cache: &Arc<WatchCache>,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Vec<Mode>> {
    let modes = parse(text).and_then(|config| config.modes(cache, clock));
    modes.with_context(|| format!("the authorization configuration {}", path.display()))
}

fn plain(name: &str, cache: &Arc<WatchCache>) -> anyhow::Result<Mode> {
    Ok(match name {
        "AlwaysAllow" => Mode::AlwaysAllow,
        "AlwaysDeny" => Mode::AlwaysDeny,
        "Node" => Mode::node(cache),
        "RBAC" => Mode::rbac(cache),
        "ABAC" => bail!("ABAC is not supported: use RBAC"),
        other => bail!(
            "{other:?} is not a valid mode, supported are \"AlwaysAllow\", \"AlwaysDeny\", \"Node\", \"RBAC\", \"Webhook\""
        ),
    })
}

fn parse(text: &str) -> anyhow::Result<Configuration> {
    let value: Value = api::yaml::parse(text).context("is no YAML")?;
    let found: Configuration = serde_json::from_value(value).context("has something that it cannot have")?;
    ensure!(
        found.kind == "AuthorizationConfiguration"
            && matches!(
                found.api_version.as_str(),
                "apiserver.config.k8s.io/v1" | "apiserver.config.k8s.io/v1beta1"
            ),
        "is no AuthorizationConfiguration, but {:?} of {:?}",
        found.kind,
        found.api_version
    );
    ensure!(
        !found.authorizers.is_empty(),
        "authorizers: Required value: at least one authorization mode must be defined"
    );
    for (index, one) in found.authorizers.iter().enumerate() {
        let (at, before) = (format!("authorizers[{index}]"), &found.authorizers[..index]);
        let is_again = one.r#type != "Webhook" && before.iter().any(|other| other.r#type == one.r#type);
        ensure!(!is_again, "{at}.type: Duplicate value: {:?}", one.r#type);
        ensure!(!one.name.is_empty(), "{at}.name: Required value");
        let wrong = resources::names::dns_subdomain(&one.name, false);
        ensure!(wrong.is_empty(), "{at}.name: authorizer name is invalid: {}", wrong.join(", "));
        ensure!(
            !before.iter().any(|other| other.name == one.name),
            "{at}.name: Duplicate value: {:?}",
            one.name
        );
        ensure!(
            (one.r#type == "Webhook") == one.webhook.is_some(),
            "{at}.webhook: required when type=Webhook, and only then"
        );
    }
    Ok(found)
}

impl Configuration {
    fn modes(&self, cache: &Arc<WatchCache>, clock: &Arc<dyn Clock>) -> anyhow::Result<Vec<Mode>> {
        let mode = |(index, one): (usize, &Entry)| {
            let at = || format!("authorizers[{index}]");
            match &one.webhook {
                Some(webhook) => webhook.mode(&one.name, clock).with_context(at),
                None => plain(&one.r#type, cache).with_context(at),
            }
        };
        self.authorizers.iter().enumerate().map(mode).collect()
    }
}

impl WebhookEntry {
    fn asking(&self, name: &str) -> anyhow::Result<Asking> {
        let time = |field: &str, text: &str| {
            ensure!(!text.is_empty(), "{field}: Required value");
            duration(text).map_err(|why| anyhow::anyhow!("{field}: {why}"))
        };
        let timeout = time("timeout", &self.timeout)?;
        ensure!(!timeout.is_zero() && timeout <= LIMIT, "timeout: must be > 0s and <= 30s");
        ensure!(
            self.match_conditions.is_empty() || self.match_condition_subject_access_review_version == "v1",
            "matchConditionSubjectAccessReviewVersion: must be v1 if match conditions are specified"
        );
        let keep = |is_wanted: Option<bool>, ttl: Duration| {
            if is_wanted == Some(false) { Duration::ZERO } else { ttl }
        };
        Ok(Asking {
            name: name.to_owned(),
            version: self.subject_access_review_version.clone(),
            timeout,
            authorized: keep(self.cache_authorized_requests, time("authorizedTTL", &self.authorized_ttl)?),
            unauthorized: keep(
                self.cache_unauthorized_requests,
                time("unauthorizedTTL", &self.unauthorized_ttl)?,
            ),
            denies_on_error: match self.failure_policy.as_str() {
                "NoOpinion" => false,
                "Deny" => true,
                other => bail!("failurePolicy: {other:?}: supported values: \"Deny\", \"NoOpinion\""),
            },
        })
    }

    fn mode(&self, name: &str, clock: &Arc<dyn Clock>) -> anyhow::Result<Mode> {
        let path = match (self.connection_info.r#type.as_str(), &self.connection_info.kube_config_file) {
            ("KubeConfigFile", Some(path)) if path.is_absolute() => path,
            ("KubeConfigFile", _) => bail!("connectionInfo.kubeConfigFile: must be an absolute path"),
            (other, _) => bail!("connectionInfo.type: {other:?}: only KubeConfigFile is supported"),
        };
        let conditions: Vec<String> =
            self.match_conditions.iter().map(|one| one.expression.clone()).collect();
        let webhook = AccessWebhook::load(path, self.asking(name)?, &conditions, Arc::clone(clock))?;
        Ok(Mode::Webhook(Box::new(webhook)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "
apiVersion: apiserver.config.k8s.io/v1
kind: AuthorizationConfiguration
authorizers:
- type: Webhook
  name: first
  webhook:
    authorizedTTL: 30s
    unauthorizedTTL: 30s
    timeout: 3s
    subjectAccessReviewVersion: v1
    matchConditionSubjectAccessReviewVersion: v1
    failurePolicy: Deny
    connectionInfo: {type: KubeConfigFile, kubeConfigFile: /etc/webhook.yaml}
    matchConditions: [{expression: has(request.resourceAttributes)}]
- {type: RBAC, name: rbac}
";

    #[test]
    fn a_configuration() {
        let found = parse(GOOD).expect("reads");
        let asking =
            found.authorizers[0].webhook.as_ref().expect("there").asking("first").expect("makes sense");
        assert!(asking.denies_on_error && asking.timeout == Duration::from_secs(3));
        for (from, to) in [
            ("name: rbac", "name: first"),
            ("name: rbac", "name: ''"),
            ("type: RBAC, name: rbac", "type: RBAC, name: rbac, webhook: {}"),
            ("kind: Auth", "kind: Other"),
            ("timeout: 3s", "time: 3s"),
        ] {
            assert!(parse(&GOOD.replacen(from, to, 1)).is_err(), "{to}");
        }
        for (from, to) in [
            ("timeout: 3s", "timeout: 31s"),
            ("timeout: 3s", "timeout: 0s"),
            ("failurePolicy: Deny", "failurePolicy: Allow"),
            ("authorizedTTL: 30s", "authorizedTTL: ''"),
            ("AccessReviewVersion: v1\n    fail", "AccessReviewVersion: v2\n    fail"),
        ] {
            let found = parse(&GOOD.replacen(from, to, 1)).expect("reads");
            let webhook = found.authorizers[0].webhook.as_ref().expect("there");
            assert!(webhook.asking("first").is_err(), "{to}");
        }
    }
}
