//! What every cluster has from its first second: namespaces, roles and their
//! bindings, priority classes, and the API server's own service.
//!
//! [`extension`] tells extension API servers whom to believe. Everything is created if it is absent; roles are brought up to date unless
//! their annotation says that somebody looks after them by hand.

mod extension;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use api::{Object, Reason, Status};
use daemon::{Shutdown, tasks};
use ipnet::IpNet;
use resources::Part;
use serde_json::{Value, json};

use crate::gate::{Body, Gate, Target};
use crate::registry::{Address, Caller, CreateOptions, FieldValidation, MediaType, UpdateOptions};

const ROLES: &str = include_str!("roles.yaml");
const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";
const RBAC: &str = "rbac.authorization.k8s.io";
const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];
const PRIORITY_CLASSES: [(&str, i64, &str); 2] = [
    (
        "system-cluster-critical",
        2_000_000_000,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
    (
        "system-node-critical",
        2_000_001_000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
];
/// How often the API server's endpoints are looked after.
const ENDPOINTS_EVERY: Duration = Duration::from_secs(10);

/// Where the API server is reached from inside the cluster.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// The ranges of service addresses.
    pub ranges: Vec<IpNet>,
    /// The service's address.
    pub service: IpAddr,
    /// The server's own address.
    pub address: IpAddr,
    /// The server's own port.
    pub port: u16,
}

pub(crate) use extension::Authentication;

/// Makes what is missing, then looks after the API server's endpoints.
///
/// # Errors
/// What cannot be made, and why.
pub(crate) async fn run(
    gate: &Arc<Gate>,
    endpoint: Endpoint,
    authentication: &Authentication,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    for name in NAMESPACES {
        ensure(gate, "", "namespaces", "", &json!({"metadata": {"name": name}})).await?;
    }
    for object in roles()? {
        ensure_role(gate, &object).await?;
    }
    authentication.publish(gate).await?;
    for (name, value, text) in PRIORITY_CLASSES {
        let class = json!({"metadata": {"name": name}, "value": value, "description": text});
        ensure(gate, "scheduling.k8s.io", "priorityclasses", "", &class).await?;
    }
    ensure_ranges(gate, &endpoint.ranges).await?;
    ensure(gate, "", "services", "default", &own_service(&endpoint)).await?;
    publish_endpoints(gate, &endpoint).await?;
    let gate = Arc::clone(gate);
    tasks::spawn("own-endpoints", async move {
        loop {
            tokio::select! {
                () = shutdown.begun() => return,
                () = tokio::time::sleep(ENDPOINTS_EVERY) => {}
            }
            if let Err(error) = publish_endpoints(&gate, &endpoint).await {
                tracing::warn!(error = format!("{error:#}"), "cannot publish the API server's endpoints");
            }
        }
    });
    Ok(())
}

async fn ensure(
    gate: &Gate,
    group: &str,
    resource: &str,
    namespace: &str,
    object: &Value,
) -> anyhow::Result<()> {
    match create(gate, group, resource, namespace, object).await {
        Ok(()) => Ok(()),
        Err(status) if status.reason == Reason::AlreadyExists => Ok(()),
        // A service that is there holds its address.
        Err(status) if status.reason == Reason::Invalid && resource == "services" => {
            let found = gate.registry().cache().resource(group, resource).get(namespace, name_of(object));
            found.map(drop).ok_or(status).context("create the API server's service")
        }
        Err(status) => Err(status).with_context(|| format!("create {resource} {:?}", name_of(object))),
    }
}

/// Shows the ranges of service addresses as an object, which is ready.
async fn ensure_ranges(gate: &Gate, ranges: &[IpNet]) -> anyhow::Result<()> {
    const NAME: &str = "kubernetes";
    let ranges: Vec<String> = ranges.iter().map(ToString::to_string).collect();
    let object = json!({"metadata": {"name": NAME}, "spec": {"cidrs": ranges}});
    ensure(gate, "networking.k8s.io", "servicecidrs", "", &object).await?;
    let registry = gate.registry();
    let kind = registry.kinds().find("networking.k8s.io", "v1", "servicecidrs");
    let kind = kind.context("there are no service ranges")?;
    let address = Address { kind, namespace: String::new(), name: NAME.to_owned() };
    let now = api::time::format(registry.clock().now());
    let transform = |current: &Object| {
        let mut new = current.clone();
        let conditions = current.at(&["status", "conditions"]).and_then(Value::as_array);
        if conditions.is_none_or(|all| all.iter().all(|one| one["type"] != "Ready")) {
            let ready = json!({"type": "Ready", "status": "True", "reason": "", "lastTransitionTime": now,
                "message": "Kubernetes default Service CIDR is ready"});
            new.set_at(&["status", "conditions"], vec![ready]);
        }
        Ok((new, Vec::new()))
    };
    let options = UpdateOptions::default();
    let changed = registry.change(&Caller::server(), &address, Part::Status, &options, &transform).await;
    changed.map(drop).with_context(|| format!("set the status of servicecidrs {NAME:?}"))
}

fn name_of(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

async fn create(
    gate: &Gate,
    group: &str,
    resource: &str,
    namespace: &str,
    object: &Value,
) -> Result<(), Status> {
    let body = object.to_string();
    let version = gate
        .registry()
        .kinds()
        .all()
        .iter()
        .find(|kind| kind.group == group && kind.resource == resource)
        .map(|kind| kind.version.clone())
        .ok_or_else(Status::no_such_resource)?;
    let target = Target {
        group: group.to_owned(),
        version,
        resource: resource.to_owned(),
        namespace: namespace.to_owned(),
        ..Target::default()
    };
    let body = Body { media: MediaType::Json, bytes: body.as_bytes(), validation: FieldValidation::Strict };
    gate.create(&Caller::server(), &target, body, false).await.map(drop)
}

/// The roles and bindings of the file, as objects.
fn roles() -> anyhow::Result<Vec<Value>> {
    let file = api::yaml::parse(ROLES).context("parse the built-in roles")?;
    let mut objects = Vec::new();
    for (name, entry) in file.as_object().into_iter().flatten() {
        let namespace = entry["namespace"].as_str();
        let metadata = |name: &str| {
            let mut metadata = json!({
                "name": name,
                "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
                "annotations": {AUTOUPDATE: "true"},
            });
            if let Some(namespace) = namespace {
                metadata["namespace"] = namespace.into();
            }
            metadata
        };
        let (role, binding) = match namespace {
            Some(_) => ("Role", format!("system::{name}")),
            None => ("ClusterRole", name.clone()),
        };
        let rules: Vec<Value> = entry["rules"].as_array().into_iter().flatten().map(rule).collect();
        objects.push(json!({
            "apiVersion": format!("{RBAC}/v1"), "kind": role,
            "metadata": metadata(name), "rules": rules,
        }));
        if let Some(subjects) = entry["subjects"].as_array() {
            let subjects: Vec<Value> = subjects.iter().filter_map(Value::as_str).map(subject).collect();
            objects.push(json!({
                "apiVersion": format!("{RBAC}/v1"), "kind": format!("{role}Binding"),
                "metadata": metadata(&binding), "subjects": subjects,
                "roleRef": {"apiGroup": RBAC, "kind": role, "name": name},
            }));
        }
    }
    Ok(objects)
}

fn rule(entry: &Value) -> Value {
    let mut rule = json!({"verbs": entry["verbs"]});
    for (from, to) in [
        ("groups", "apiGroups"),
        ("resources", "resources"),
        ("names", "resourceNames"),
        ("paths", "nonResourceURLs"),
    ] {
        if let Some(list) = entry.get(from) {
            rule[to] = list.clone();
        }
    }
    rule
}

fn subject(text: &str) -> Value {
    let (kind, name) = text.split_once(':').unwrap_or(("user", text));
    match kind {
        "group" => json!({"kind": "Group", "apiGroup": RBAC, "name": name}),
        "serviceaccount" => {
            let (namespace, name) = name.split_once(':').unwrap_or(("default", name));
            json!({"kind": "ServiceAccount", "namespace": namespace, "name": name})
        }
        _ => json!({"kind": "User", "apiGroup": RBAC, "name": name}),
    }
}

async fn ensure_role(gate: &Gate, object: &Value) -> anyhow::Result<()> {
    let resource = format!("{}s", object["kind"].as_str().unwrap_or_default().to_lowercase());
    let kind = gate.registry().kinds().find(RBAC, "v1", &resource).context("RBAC is not in the catalogue")?;
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
    let address = Address { kind, namespace, name: name_of(object).to_owned() };
    match create(gate, RBAC, &resource, &address.namespace, object).await {
        Ok(()) => return Ok(()),
        Err(status) if status.reason == Reason::AlreadyExists => {}
        Err(status) => return Err(status).with_context(|| format!("create {resource} {:?}", address.name)),
    }
    let transform = |current: &Object| {
        let mut new = current.clone();
        if current.annotation(AUTOUPDATE) == Some("true") {
            for field in ["rules", "subjects"] {
                if let Some(value) = object.get(field) {
                    new.set(field, value.clone());
                }
            }
        }
        Ok((new, Vec::new()))
    };
    gate.registry()
        .change(&Caller::server(), &address, resources::Part::Main, &UpdateOptions::default(), &transform)
        .await
        .with_context(|| format!("update {resource} {:?}", address.name))?;
    Ok(())
}

fn own_service(endpoint: &Endpoint) -> Value {
    json!({
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {
            "type": "ClusterIP", "clusterIP": endpoint.service.to_string(), "sessionAffinity": "None",
            "ports": [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": endpoint.port}],
        },
    })
}

/// The endpoints of the `kubernetes` service are this server. (With several
/// servers each adds its own address.)
async fn publish_endpoints(gate: &Gate, endpoint: &Endpoint) -> anyhow::Result<()> {
    let family = if endpoint.address.is_ipv4() { "IPv4" } else { "IPv6" };
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": family,
        "endpoints": [{"addresses": [endpoint.address.to_string()], "conditions": {"ready": true}}],
        "ports": [{"name": "https", "port": endpoint.port, "protocol": "TCP"}],
    });
    publish(gate, "discovery.k8s.io", "endpointslices", slice).await?;
    let endpoints = json!({
        "apiVersion": "v1", "kind": "Endpoints",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
        "subsets": [{
            "addresses": [{"ip": endpoint.address.to_string()}],
            "ports": [{"name": "https", "port": endpoint.port, "protocol": "TCP"}],
        }],
    });
    publish(gate, "", "endpoints", endpoints).await
}

async fn publish(gate: &Gate, group: &str, resource: &str, wanted: Value) -> anyhow::Result<()> {
    let kind = gate.registry().kinds().find(group, "v1", resource).context("not in the catalogue")?;
    let address = Address { kind, namespace: "default".to_owned(), name: "kubernetes".to_owned() };
    let object = Object::from_value(wanted).context("not an object")?;
    let transform = |current: &Object| {
        let mut new = current.clone();
        for field in ["endpoints", "ports", "subsets"] {
            if let Some(value) = object.get(field) {
                new.set(field, value.clone());
            }
        }
        Ok((new, Vec::new()))
    };
    let options = UpdateOptions::default();
    let changed = gate
        .registry()
        .change(&Caller::server(), &address, resources::Part::Main, &options, &transform)
        .await;
    match changed {
        Ok(_) => Ok(()),
        Err(status) if status.reason == Reason::NotFound => {
            let options = CreateOptions::default();
            let created = gate
                .registry()
                .create(&Caller::server(), address, object.clone(), &options, Vec::new())
                .await;
            created.map(drop).with_context(|| format!("create {resource} of the API server"))
        }
        Err(status) => Err(status).with_context(|| format!("update {resource} of the API server")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_roles_read() {
        let objects = roles().expect("reads");
        assert!(
            objects
                .iter()
                .any(|one| one["kind"] == "ClusterRoleBinding" && one["metadata"]["name"] == "cluster-admin")
        );
        for role in objects.iter().filter(|one| one["kind"] == "ClusterRole") {
            let rules: Vec<crate::authz::Rule> =
                serde_json::from_value(role["rules"].clone()).expect("rules");
            assert!(rules.iter().all(|rule| !rule.verbs.is_empty()), "{}", role["metadata"]["name"]);
        }
    }
}
