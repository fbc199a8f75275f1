//! Questions about a pod's specification that several parts of the kubelet
//! ask: its identity, its containers in order, its quality-of-service class,
//! its restart policies.
//!
//! Everything here is a pure function of the pod.

use std::borrow::Cow;
use std::collections::BTreeMap;

use api::types::core::v1::{Container, Pod, PodSpec, ResourceRequirements};
use sha2::{Digest, Sha256};

/// Annotation that names where a pod came from (`api` or `file`).
pub const CONFIG_SOURCE: &str = "kubernetes.io/config.source";
/// Annotation that ties a mirror pod to the static pod it shows.
pub const CONFIG_MIRROR: &str = "kubernetes.io/config.mirror";
/// Annotation that holds the hash of a static pod's manifest.
pub const CONFIG_HASH: &str = "kubernetes.io/config.hash";

/// Annotation that holds the time when a static pod was first read.
pub const CONFIG_SEEN: &str = "kubernetes.io/config.seen";

/// What a pod is called: enough to find it at the API server.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodId {
    /// The pod's uid.
    pub uid: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl std::fmt::Display for PodId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{} ({})", self.namespace, self.name, self.uid)
    }
}

/// The role that a container has in its pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Runs to completion before the next one.
    Init,
    /// An init container with restart policy Always: started in order, runs
    /// as long as the pod.
    Sidecar,
    /// An ordinary container.
    Main,
    /// Added to a running pod, to look into it; started once.
    Ephemeral,
}

impl Role {
    /// The word used in container labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::Sidecar => "sidecar",
            Self::Main => "main",
            Self::Ephemeral => "ephemeral",
        }
    }
}

/// Quality-of-service class of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum QosClass {
    /// Every container's limits equal its requests, for CPU and memory.
    Guaranteed,
    /// Something is requested or limited.
    Burstable,
    /// Nothing is.
    BestEffort,
}

impl QosClass {
    /// The word used in the pod's status.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }
}

/// The pod's identity.
#[must_use]
pub fn id(pod: &Pod) -> PodId {
    PodId {
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        namespace: pod.metadata.namespace.clone().unwrap_or_else(|| "default".to_owned()),
        name: pod.metadata.name.clone().unwrap_or_default(),
    }
}

/// The pod's specification; a pod without one behaves as an empty pod.
#[must_use]
pub fn spec(pod: &Pod) -> &PodSpec {
    static EMPTY: std::sync::OnceLock<PodSpec> = std::sync::OnceLock::new();
    pod.spec.as_ref().unwrap_or_else(|| EMPTY.get_or_init(PodSpec::default))
}

/// Init containers and sidecars, in order.
#[must_use]
pub fn init_containers(pod: &Pod) -> &[Container] {
    spec(pod).init_containers.as_deref().unwrap_or_default()
}

/// All containers with their role that a pod is made of: init containers and
/// sidecars in their order, then the others. Ephemeral ones are not among them:
/// a pod owes them nothing.
pub fn containers(pod: &Pod) -> impl Iterator<Item = (Role, &Container)> {
    init_containers(pod)
        .iter()
        .map(|container| (init_role(container), container))
        .chain(spec(pod).containers.iter().map(|container| (Role::Main, container)))
}

/// The ephemeral containers, as containers.
pub fn ephemeral_containers(pod: &Pod) -> impl Iterator<Item = Container> {
    spec(pod).ephemeral_containers.iter().flatten().map(|ephemeral| Container {
        args: ephemeral.args.clone(),
        command: ephemeral.command.clone(),
        env: ephemeral.env.clone(),
        env_from: ephemeral.env_from.clone(),
        image: ephemeral.image.clone(),
        image_pull_policy: ephemeral.image_pull_policy.clone(),
        name: ephemeral.name.clone(),
        security_context: ephemeral.security_context.clone(),
        stdin: ephemeral.stdin,
        stdin_once: ephemeral.stdin_once,
        termination_message_path: ephemeral.termination_message_path.clone(),
        termination_message_policy: ephemeral.termination_message_policy.clone(),
        tty: ephemeral.tty,
        volume_devices: ephemeral.volume_devices.clone(),
        volume_mounts: ephemeral.volume_mounts.clone(),
        working_dir: ephemeral.working_dir.clone(),
        // The API allows an ephemeral container nothing else.
        ..Container::default()
    })
}

/// The container of that name, with its role.
#[must_use]
pub fn container<'a>(pod: &'a Pod, name: &str) -> Option<(Role, Cow<'a, Container>)> {
    let own = containers(pod).find(|(_, container)| container.name == name);
    own.map(|(role, container)| (role, Cow::Borrowed(container))).or_else(|| {
        let ephemeral = ephemeral_containers(pod).find(|container| container.name == name);
        ephemeral.map(|container| (Role::Ephemeral, Cow::Owned(container)))
    })
}

/// Whether an entry of `initContainers` is a sidecar.
#[must_use]
pub fn init_role(container: &Container) -> Role {
    if container.restart_policy.as_deref() == Some("Always") { Role::Sidecar } else { Role::Init }
}

/// An annotation's value.
#[must_use]
pub fn annotation<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

/// Whether the pod comes from a manifest on this node.
#[must_use]
pub fn is_static(pod: &Pod) -> bool {
    annotation(pod, CONFIG_SOURCE).is_some_and(|source| source != "api")
}

/// Whether the pod is the API server's picture of a static pod.
#[must_use]
pub fn is_mirror(pod: &Pod) -> bool {
    annotation(pod, CONFIG_MIRROR).is_some()
}

/// Whether the pod shares the node's network.
#[must_use]
pub fn uses_host_network(pod: &Pod) -> bool {
    spec(pod).host_network == Some(true)
}

/// The host name that the pod's containers see (upstream truncates at 63
/// characters, without a trailing dot or dash).
#[must_use]
pub fn hostname(pod: &Pod) -> String {
    let wanted = spec(pod).hostname_override.as_ref().or(spec(pod).hostname.as_ref());
    let name = wanted.or(pod.metadata.name.as_ref()).cloned().unwrap_or_default();
    let cut: String = name.chars().take(63).collect();
    cut.trim_end_matches(['-', '.']).to_owned()
}

/// Whether a container that ended with `exit_code` is started again.
#[must_use]
pub fn should_restart(pod: &Pod, role: Role, container: &Container, exit_code: i32) -> bool {
    match role {
        Role::Sidecar => return true,
        Role::Ephemeral => return false,
        Role::Init | Role::Main => {}
    }
    for rule in container.restart_policy_rules.iter().flatten() {
        let Some(codes) = &rule.exit_codes else { continue };
        let listed = codes.values.iter().flatten().any(|value| *value == exit_code);
        let matches = if codes.operator == "NotIn" { !listed } else { listed };
        if matches && rule.action == "Restart" {
            return true;
        }
    }
    let policy =
        container.restart_policy.as_deref().or(spec(pod).restart_policy.as_deref()).unwrap_or("Always");
    match policy {
        "Never" => false,
        // An init container that succeeded is done under every policy.
        "Always" => role == Role::Main || exit_code != 0,
        _ => exit_code != 0,
    }
}

/// The time that a pod's containers get to stop, in seconds, at least one.
#[must_use]
pub fn grace_seconds(pod: &Pod) -> i64 {
    pod.metadata
        .deletion_grace_period_seconds
        .filter(|_| pod.metadata.deletion_timestamp.is_some())
        .or(spec(pod).termination_grace_period_seconds)
        .unwrap_or(30)
        .max(1)
}

/// The value of a resource in a list, as a quantity; absent and malformed are
/// both `None` (the API server has validated it).
#[must_use]
pub fn amount(
    list: Option<&BTreeMap<String, api::openapi::apimachinery::pkg::api::resource::Quantity>>,
    name: &str,
) -> Option<api::Quantity> {
    list?.get(name)?.0.parse().ok()
}

/// Requests, with limits standing in where no request is given (as API
/// defaulting does).
#[must_use]
pub fn request(resources: Option<&ResourceRequirements>, name: &str) -> Option<api::Quantity> {
    let resources = resources?;
    amount(resources.requests.as_ref(), name).or_else(|| amount(resources.limits.as_ref(), name))
}

/// A container's limit.
#[must_use]
pub fn limit(resources: Option<&ResourceRequirements>, name: &str) -> Option<api::Quantity> {
    amount(resources?.limits.as_ref(), name)
}

/// The pod's quality-of-service class, by upstream's rule.
#[must_use]
pub fn qos_class(pod: &Pod) -> QosClass {
    let mut anything = false;
    let mut guaranteed = true;
    for (_, container) in containers(pod) {
        for name in ["cpu", "memory"] {
            let request = request(container.resources.as_ref(), name).filter(|q| !q.is_zero());
            let limit = limit(container.resources.as_ref(), name).filter(|q| !q.is_zero());
            anything |= request.is_some() || limit.is_some();
            guaranteed &= match (request, limit) {
                (Some(request), Some(limit)) => request.to_f64() == limit.to_f64(),
                _ => false,
            };
        }
    }
    match (anything, guaranteed) {
        (false, _) => QosClass::BestEffort,
        (true, true) => QosClass::Guaranteed,
        (true, false) => QosClass::Burstable,
    }
}

/// A short hash of what makes a container what it is; a change of it means
/// that the container must be replaced (only the image can change in place).
#[must_use]
pub fn container_hash(container: &Container) -> String {
    let text = format!("{}\n{}", container.name, container.image.as_deref().unwrap_or_default());
    hex(&Sha256::digest(text.as_bytes())[..8])
}

/// The 32 hexadecimal digits that every container id of a pod starts with, so
/// that an event about a container leads to its pod without a look-up.
#[must_use]
pub fn id_prefix(uid: &str) -> String {
    let digits: String = uid.chars().filter(char::is_ascii_hexdigit).collect::<String>().to_lowercase();
    if digits.len() == 32 { digits } else { hex(&Sha256::digest(uid.as_bytes())[..16]) }
}

/// Bytes as lower-case hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes every write");
        text
    })
}

/// The directory name of a pod's logs under the log root, as upstream names it.
#[must_use]
pub fn log_directory(id: &PodId) -> String {
    format!("{}_{}_{}", id.namespace, id.name, id.uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": spec
        }))
        .expect("a pod")
    }

    #[test]
    fn qos() {
        let cases = [
            (serde_json::json!({}), QosClass::BestEffort),
            (serde_json::json!({"requests": {"cpu": "1"}}), QosClass::Burstable),
            (serde_json::json!({"limits": {"cpu": "1", "memory": "1Gi"}}), QosClass::Guaranteed),
            (
                serde_json::json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1024Mi"}}),
                QosClass::Guaranteed,
            ),
            (
                serde_json::json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}),
                QosClass::Burstable,
            ),
            (serde_json::json!({"limits": {"memory": "1Gi"}}), QosClass::Burstable),
            (serde_json::json!({"requests": {"cpu": "0"}}), QosClass::BestEffort),
        ];
        for (resources, expected) in cases {
            let pod = pod(serde_json::json!({"containers": [{"name": "c", "resources": resources}]}));
            assert_eq!(qos_class(&pod), expected, "{resources}");
        }
    }

    #[test]
    fn restart_rules() {
        let cases = [
            ("Always", Role::Main, 0, true),
            ("Always", Role::Init, 0, false),
            ("Always", Role::Init, 1, true),
            ("OnFailure", Role::Main, 0, false),
            ("OnFailure", Role::Main, 2, true),
            ("Never", Role::Main, 2, false),
            ("Never", Role::Sidecar, 0, true),
        ];
        for (policy, role, code, expected) in cases {
            let pod = pod(serde_json::json!({"restartPolicy": policy, "containers": [{"name": "c"}]}));
            let container = &spec(&pod).containers[0];
            assert_eq!(should_restart(&pod, role, container, code), expected, "{policy} {role:?} {code}");
        }
        let pod = pod(serde_json::json!({"restartPolicy": "Never", "containers": [{"name": "c",
            "restartPolicyRules": [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]}]}));
        let container = &spec(&pod).containers[0];
        assert!(should_restart(&pod, Role::Main, container, 42));
        assert!(!should_restart(&pod, Role::Main, container, 1));
    }

    #[test]
    fn prefixes() {
        assert_eq!(id_prefix("0AF1d3a0-1111-2222-3333-444455556666"), "0af1d3a0111122223333444455556666");
        assert_eq!(id_prefix("not-a-uuid").len(), 32);
    }

    #[test]
    fn hostnames() {
        let mut long = pod(serde_json::json!({"containers": []}));
        long.metadata.name = Some(format!("{}-tail", "a".repeat(62)));
        assert_eq!(hostname(&long), "a".repeat(62));
    }
}
