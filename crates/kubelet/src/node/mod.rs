//! The machine as a node of the cluster: registered once, its lease renewed,
//! its status reported when it changes.

pub mod facts;
pub mod thresholds;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use api::metav1::MicroTime;
use api::types::coordination::v1::{Lease, LeaseSpec};
use api::types::core::v1::{Node, NodeCondition};
use serde_json::{Value, json};

use crate::cluster::{Cluster, ClusterError, Happening};
use crate::config::Flags;
use crate::network::Network;
use crate::status::api_time;
use crate::worker::pods::Pods;
use thresholds::Thresholds;

const LEASES: &str = "kube-node-lease";
const LEASE_EVERY: Duration = Duration::from_secs(10);
const LEASE_LASTS: i32 = 40;
const STATUS_EVERY: Duration = Duration::from_secs(10);
const STATUS_AT_LEAST_EVERY: Duration = Duration::from_secs(300);

/// What a node is, as far as it does not change.
#[derive(Clone, Debug)]
pub struct Identity {
    name: String,
    labels: BTreeMap<String, String>,
    taints: Vec<Value>,
    addresses: Vec<IpAddr>,
    port: u16,
    max_pods: u32,
    root: PathBuf,
    containerd: String,
    thresholds: Thresholds,
}

impl Identity {
    /// From the flags.
    ///
    /// # Errors
    /// When labels or taints are malformed.
    pub fn of(flags: &Flags, name: &str, addresses: &[IpAddr], containerd: String) -> anyhow::Result<Self> {
        let architecture = crate::images::store::architecture();
        let mut labels: BTreeMap<String, String> = [
            ("kubernetes.io/hostname", name),
            ("kubernetes.io/os", "linux"),
            ("kubernetes.io/arch", architecture),
            ("beta.kubernetes.io/os", "linux"),
            ("beta.kubernetes.io/arch", architecture),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
        for label in &flags.node_labels {
            let (key, value) =
                label.split_once('=').with_context(|| format!("node label {label:?} is not NAME=VALUE"))?;
            labels.insert(key.to_owned(), value.to_owned());
        }
        let taints =
            flags.register_with_taints.iter().map(|taint| parse_taint(taint)).collect::<Result<_, _>>()?;
        Ok(Self {
            name: name.to_owned(),
            labels,
            taints,
            addresses: addresses.to_vec(),
            port: flags.port,
            max_pods: flags.max_pods,
            root: flags.root_dir.clone(),
            containerd,
            thresholds: flags.eviction_hard.clone(),
        })
    }
}

fn parse_taint(text: &str) -> anyhow::Result<Value> {
    let (pair, effect) = text.rsplit_once(':').with_context(|| format!("taint {text:?} has no effect"))?;
    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
    Ok(json!({"key": key, "value": value, "effect": effect}))
}

/// Reports a node.
pub struct Reporter {
    identity: Identity,
    cluster: Arc<dyn Cluster>,
    network: Network,
    pods: Arc<Pods>,
}

impl Reporter {
    /// A reporter that has not begun.
    #[must_use]
    pub fn new(
        identity: Identity,
        cluster: Arc<dyn Cluster>,
        network: Network,
        pods: Arc<Pods>,
    ) -> Arc<Self> {
        Arc::new(Self { identity, cluster, network, pods })
    }

    /// Registers the node, then reports it and renews its lease for ever.
    pub async fn run(self: Arc<Self>) {
        self.register().await;
        tokio::join!(Arc::clone(&self).report(), self.renew_lease());
    }

    /// Registers the node, or brings its labels up to date; tries until it works.
    pub async fn register(&self) {
        let mut pause = Duration::from_millis(100);
        while let Err(error) = self.try_to_register().await {
            tracing::warn!(node = self.identity.name, error = %error, "node not registered yet");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(7));
        }
        let message = "Starting kubelet.".to_owned();
        self.cluster.tell_node(
            &self.identity.name,
            Happening { is_warning: false, reason: "Starting", message, field_path: None },
        );
    }

    async fn try_to_register(&self) -> Result<(), ClusterError> {
        let identity = &self.identity;
        let node: Node = serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": identity.name, "labels": identity.labels,
                "annotations": {"volumes.kubernetes.io/controller-managed-attach-detach": "true"}},
            "spec": {"taints": if identity.taints.is_empty() { Value::Null } else { json!(identity.taints) }},
        }))
        .map_err(|error| ClusterError::Other(error.to_string()))?;
        match self.cluster.create_node(&node).await {
            Err(ClusterError::AlreadyExists { .. }) => {
                let patch = json!({"metadata": {"labels": identity.labels}});
                self.cluster.patch_node(&identity.name, &patch).await
            }
            other => other,
        }
    }

    /// Renews the node's lease for ever.
    pub async fn renew_lease(self: Arc<Self>) {
        let mut held: Option<Lease> = None;
        let mut ticks = tokio::time::interval(LEASE_EVERY);
        loop {
            ticks.tick().await;
            if held.is_none() {
                held = self.cluster.lease(LEASES, &self.identity.name).await.ok();
            }
            let mut lease = held.take().unwrap_or_default();
            lease.metadata.name = Some(self.identity.name.clone());
            lease.metadata.namespace = Some(LEASES.to_owned());
            lease.spec = Some(LeaseSpec {
                holder_identity: Some(self.identity.name.clone()),
                lease_duration_seconds: Some(LEASE_LASTS),
                renew_time: Some(MicroTime(crate::time::now())),
                ..lease.spec.unwrap_or_default()
            });
            match self.cluster.put_lease(&lease).await {
                Ok(renewed) => held = Some(renewed),
                Err(error) => {
                    tracing::warn!(node = self.identity.name, error = %error, "lease not renewed");
                    ticks.reset_after(Duration::from_secs(1));
                }
            }
        }
    }

    /// Reports the status for ever: when it changed, and now and then.
    pub async fn report(self: Arc<Self>) {
        let mut last: Option<(Value, std::time::Instant)> = None;
        let mut ticks = tokio::time::interval(STATUS_EVERY);
        loop {
            ticks.tick().await;
            let node = match self.cluster.node(&self.identity.name).await {
                Ok(node) => node,
                Err(ClusterError::NotFound { .. }) => {
                    self.register().await;
                    ticks.reset_immediately();
                    continue;
                }
                Err(error) => {
                    tracing::warn!(node = self.identity.name, error = %error, "node not read");
                    ticks.reset_after(Duration::from_secs(1));
                    continue;
                }
            };
            let is_network_ready = self.configure_network(&node);
            let status = self.status(&node, is_network_ready).await;
            let is_due = last.as_ref().is_none_or(|(old, at)| {
                essence(old) != essence(&status) || at.elapsed() >= STATUS_AT_LEAST_EVERY
            });
            if is_due {
                match self.cluster.patch_node_status(&self.identity.name, &json!({"status": status})).await {
                    Ok(()) => last = Some((status, crate::time::monotonic())),
                    Err(error) => {
                        tracing::warn!(node = self.identity.name, error = %error, "node status not written");
                        ticks.reset_after(Duration::from_secs(1));
                    }
                }
            }
            if !is_network_ready {
                // The pod range comes from a controller, and soon.
                ticks.reset_after(Duration::from_millis(500));
            }
        }
    }

    /// Configures the pod network as soon as the node has a range.
    fn configure_network(&self, node: &Node) -> bool {
        let spec = node.spec.clone().unwrap_or_default();
        let ranges =
            spec.pod_cidrs.filter(|ranges| !ranges.is_empty()).or_else(|| Some(vec![spec.pod_cidr?]));
        let ranges: Vec<ipnet::IpNet> =
            ranges.into_iter().flatten().filter_map(|range| range.parse().ok()).collect();
        self.network.ensure_configuration(&ranges).unwrap_or_else(|error| {
            tracing::error!(error = %error, "pod network not configured");
            false
        })
    }

    async fn status(&self, node: &Node, is_network_ready: bool) -> Value {
        let identity = &self.identity;
        let capacity = self.capacity();
        let images = self.pods.tools().images.store().list().await.unwrap_or_default();
        let images: Vec<Value> = images
            .into_iter()
            .take(50)
            .map(|(name, _, size)| json!({"names": [name], "sizeBytes": size}))
            .collect();
        let mut addresses: Vec<Value> = identity
            .addresses
            .iter()
            .map(|address| json!({"type": "InternalIP", "address": address.to_string()}))
            .collect();
        addresses.push(json!({"type": "Hostname", "address": identity.name}));
        json!({
            "capacity": capacity,
            "allocatable": capacity,
            "addresses": addresses,
            "conditions": conditions(node, is_network_ready, Shortages::of(identity)),
            "daemonEndpoints": {"kubeletEndpoint": {"Port": identity.port}},
            "images": images,
            "nodeInfo": facts::node_info(&identity.containerd),
        })
    }

    fn capacity(&self) -> Value {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        json!({
            "cpu": cores.to_string(),
            "memory": format!("{}Ki", facts::memory() / 1024),
            "pods": self.identity.max_pods.to_string(),
            "ephemeral-storage": format!("{}Ki", facts::disk(&self.identity.root).0 / 1024),
        })
    }
}

/// What a node is short of.
#[derive(Clone, Copy, Debug, Default)]
struct Shortages {
    memory: bool,
    disk: bool,
}

impl Shortages {
    fn of(identity: &Identity) -> Self {
        let (total, available) = facts::disk(&identity.root);
        Self {
            memory: identity.thresholds.is_memory_short(facts::memory_available(), facts::memory()),
            disk: identity.thresholds.is_disk_short(available, total),
        }
    }
}

/// A status without what changes all the time.
fn essence(status: &Value) -> Value {
    let mut status = status.clone();
    for condition in status["conditions"].as_array_mut().into_iter().flatten() {
        condition["lastHeartbeatTime"] = Value::Null;
    }
    status
}

/// The conditions, with the times of those that did not change.
fn conditions(node: &Node, is_network_ready: bool, short: Shortages) -> Vec<NodeCondition> {
    let now = api_time(crate::time::now());
    let old = node.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    let pressure =
        |kind: &'static str,
         is_true: bool,
         yes: (&'static str, &'static str),
         no: (&'static str, &'static str)| { (kind, is_true, if is_true { yes } else { no }) };
    let list = [
        pressure(
            "MemoryPressure",
            short.memory,
            ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
            ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ),
        pressure(
            "DiskPressure",
            short.disk,
            ("KubeletHasDiskPressure", "kubelet has disk pressure"),
            ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ),
        pressure(
            "PIDPressure",
            facts::processes_are_short(),
            ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
            ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ),
        pressure(
            "Ready",
            is_network_ready,
            ("KubeletReady", "kubelet is posting ready status"),
            (
                "KubeletNotReady",
                "container runtime network not ready: no CNI configuration, and the node has no pod range yet",
            ),
        ),
    ];
    list.into_iter()
        .map(|(kind, is_true, (reason, message))| {
            let status = if is_true { "True" } else { "False" };
            let before = old.iter().find(|condition| condition.type_ == kind && condition.status == status);
            NodeCondition {
                type_: kind.to_owned(),
                status: status.to_owned(),
                reason: Some(reason.to_owned()),
                message: Some(message.to_owned()),
                last_heartbeat_time: Some(now.clone()),
                last_transition_time: before
                    .and_then(|c| c.last_transition_time.clone())
                    .or_else(|| Some(now.clone())),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_keep_their_times() {
        let first = conditions(&Node::default(), false, Shortages::default());
        let ready = first.iter().find(|condition| condition.type_ == "Ready").expect("ready");
        assert_eq!((ready.status.as_str(), ready.reason.as_deref()), ("False", Some("KubeletNotReady")));
        let mut node = Node::default();
        let mut old = first.clone();
        let long_ago = api_time(jiff::Timestamp::from_second(1000).expect("a time"));
        old.iter_mut().for_each(|condition| condition.last_transition_time = Some(long_ago.clone()));
        node.status = Some(api::types::core::v1::NodeStatus { conditions: Some(old), ..Default::default() });
        let second = conditions(&node, true, Shortages { memory: true, disk: false });
        for condition in second {
            let is_kept = condition.last_transition_time == Some(long_ago.clone());
            let changed = matches!(condition.type_.as_str(), "Ready" | "MemoryPressure");
            assert_eq!(is_kept, !changed, "{}", condition.type_);
        }
    }

    #[test]
    fn taints() {
        assert_eq!(
            parse_taint("a=b:NoSchedule").expect("parses"),
            json!({"key": "a", "value": "b", "effect": "NoSchedule"})
        );
        assert_eq!(
            parse_taint("a:NoExecute").expect("parses"),
            json!({"key": "a", "value": "", "effect": "NoExecute"})
        );
        assert!(parse_taint("a").is_err());
    }
}
