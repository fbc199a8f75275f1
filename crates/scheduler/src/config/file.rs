//! `KubeSchedulerConfiguration`, `kubescheduler.config.k8s.io/v1`, as it is written.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;
use serde_json::Value;

use super::duration;
use crate::queue::Backoff;

const API_VERSION: &str = "kubescheduler.config.k8s.io/v1";
const KIND: &str = "KubeSchedulerConfiguration";

/// The whole file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Configuration {
    api_version: String,
    kind: String,
    /// Who leads.
    pub leader_election: LeaderElection,
    /// How to reach the API server.
    pub client_connection: ClientConnection,
    /// The schedulers, by name.
    pub profiles: Vec<Profile>,
    /// Servers that have a say.
    pub extenders: Vec<Extender>,
    /// The share of nodes to find fitting, percent; 0: it depends on their number.
    pub percentage_of_nodes_to_score: Option<i64>,
    /// Seconds until the second attempt.
    pub pod_initial_backoff_seconds: Option<u64>,
    /// Seconds between late attempts.
    pub pod_max_backoff_seconds: Option<u64>,
    /// Taken for compatibility: decisions are quick enough for one thread.
    parallelism: Option<i64>,
    /// Taken for compatibility.
    enable_profiling: Option<bool>,
    /// Taken for compatibility.
    enable_contention_profiling: Option<bool>,
    /// Taken for compatibility: a standby always follows the cluster.
    delay_cache_until_active: bool,
}

/// `leaderElection`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct LeaderElection {
    /// Whether to work only while holding the lease.
    pub leader_elect: Option<bool>,
    /// How long the lease lasts.
    #[serde(with = "duration")]
    pub lease_duration: Option<Duration>,
    /// How long a holder tries to renew it.
    #[serde(with = "duration")]
    pub renew_deadline: Option<Duration>,
    /// Time between tries.
    #[serde(with = "duration")]
    pub retry_period: Option<Duration>,
    resource_lock: Option<String>,
    /// The name of the lease.
    pub resource_name: Option<String>,
    /// The namespace of the lease.
    pub resource_namespace: Option<String>,
}

/// `clientConnection`. Only the kubeconfig matters: our requests are gRPC, and
/// the API server limits them.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct ClientConnection {
    /// The file that says how to reach the API server.
    pub kubeconfig: Option<std::path::PathBuf>,
    accept_content_types: Option<String>,
    content_type: Option<String>,
    qps: Option<f64>,
    burst: Option<i64>,
}

/// A scheduler.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Profile {
    /// The name by which pods ask for it.
    pub scheduler_name: Option<String>,
    /// See [`Configuration::percentage_of_nodes_to_score`], which it wins over.
    pub percentage_of_nodes_to_score: Option<i64>,
    /// Which plugins do what.
    pub plugins: Plugins,
    /// Their arguments.
    pub plugin_config: Vec<PluginConfig>,
}

/// The plugins at each point.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "the points are upstream's")]
pub struct Plugins {
    pub multi_point: PluginSet,
    pub pre_enqueue: PluginSet,
    pub queue_sort: PluginSet,
    pub pre_filter: PluginSet,
    pub filter: PluginSet,
    pub post_filter: PluginSet,
    pub pre_score: PluginSet,
    pub score: PluginSet,
    pub reserve: PluginSet,
    pub permit: PluginSet,
    pub pre_bind: PluginSet,
    pub bind: PluginSet,
    pub post_bind: PluginSet,
    pub placement_generate: PluginSet,
    pub placement_score: PluginSet,
}

/// What is switched on and off at a point.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PluginSet {
    /// On, beside the default.
    pub enabled: Vec<PluginEntry>,
    /// Off; `*`: all that are on by default.
    pub disabled: Vec<PluginEntry>,
}

/// A plugin in a set.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PluginEntry {
    /// Its name.
    pub name: String,
    /// How much its score counts.
    #[serde(default)]
    pub weight: Option<i64>,
}

/// Arguments of a plugin.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PluginConfig {
    /// Its name.
    pub name: String,
    /// The arguments.
    #[serde(default)]
    pub args: Value,
}

/// A server that has a say.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are upstream's")]
pub struct Extender {
    pub url_prefix: String,
    pub filter_verb: String,
    pub preempt_verb: String,
    pub prioritize_verb: String,
    pub weight: i64,
    pub bind_verb: String,
    #[serde(rename = "enableHTTPS")]
    pub enable_https: bool,
    pub tls_config: Option<ExtenderTls>,
    #[serde(rename = "httpTimeout", with = "duration")]
    pub http_timeout: Option<Duration>,
    pub node_cache_capable: bool,
    pub managed_resources: Vec<ManagedResource>,
    pub ignorable: bool,
}

/// The client side of an extender's TLS.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are upstream's")]
pub struct ExtenderTls {
    pub insecure: bool,
    pub server_name: Option<String>,
    pub cert_file: Option<String>,
    pub key_file: Option<String>,
    pub ca_file: Option<String>,
    pub cert_data: Option<String>,
    pub key_data: Option<String>,
    pub ca_data: Option<String>,
}

/// A resource that an extender looks after.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ManagedResource {
    /// Its name.
    pub name: String,
    /// Whether nodes need not have enough of it as far as filters know.
    #[serde(default)]
    pub ignored_by_scheduler: bool,
}

impl Configuration {
    /// Reads a file; `None`: it is another kind of file.
    ///
    /// # Errors
    /// It cannot be read, or says what cannot be done.
    pub fn read(path: &Path) -> anyhow::Result<Option<Self>> {
        let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("configuration {}", path.display()))
    }

    /// Reads a text; `None`: it is another kind of file.
    ///
    /// # Errors
    /// It says what cannot be done, and what to write instead.
    pub fn parse(text: &str) -> anyhow::Result<Option<Self>> {
        let value: Value = serde_saphyr::from_str(text).context("this is no YAML")?;
        if value.get("kind").and_then(Value::as_str) != Some(KIND) {
            return Ok(None);
        }
        let configuration: Self = serde_json::from_value(value)?;
        configuration.check()?;
        Ok(Some(configuration))
    }

    fn check(&self) -> anyhow::Result<()> {
        ensure!(
            self.api_version == API_VERSION,
            "apiVersion {:?} is not known: write {API_VERSION}",
            self.api_version
        );
        debug_assert_eq!(self.kind, KIND, "only this kind is read");
        if self.parallelism.is_some_and(|parallelism| parallelism <= 0) {
            bail!("parallelism must be greater than zero, or be left out");
        }
        if let Some(lock) = self.leader_election.resource_lock.as_deref().filter(|lock| *lock != "leases") {
            bail!("leaderElection.resourceLock {lock:?} is not known: write leases, or leave it out");
        }
        let Backoff { first, longest } = self.backoff();
        ensure!(!first.is_zero(), "podInitialBackoffSeconds must be greater than zero");
        ensure!(first <= longest, "podMaxBackoffSeconds must not be less than podInitialBackoffSeconds");
        Ok(())
    }

    /// How long pods wait between attempts.
    #[must_use]
    pub fn backoff(&self) -> Backoff {
        let usual = Backoff::default();
        let seconds = |given: Option<u64>, usual| given.map_or(usual, Duration::from_secs);
        Backoff {
            first: seconds(self.pod_initial_backoff_seconds, usual.first),
            longest: seconds(self.pod_max_backoff_seconds, usual.longest),
        }
    }
}
