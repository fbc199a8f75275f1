//! A container's environment variables: literals, references to fields,
//! resources, config maps and secrets, and the services of its namespace.

use std::collections::BTreeMap;
use std::net::IpAddr;

use api::types::core::v1::{Container, EnvVarSource, Pod, ResourceFieldSelector, Service};

use crate::cluster::{Cluster, ClusterError};
use crate::pod;
use crate::runtime::spec::expand;

/// An environment that cannot be made; the container waits with
/// `CreateContainerConfigError`.
#[derive(Debug, thiserror::Error)]
pub enum EnvironmentError {
    /// An object that a variable refers to.
    #[error(transparent)]
    Object(#[from] ClusterError),
    /// A reference that leads nowhere.
    #[error("{0}")]
    Unfit(String),
}

/// What is known only while the pod runs.
#[derive(Clone, Copy, Debug)]
pub struct Addresses<'a> {
    /// The pod's.
    pub pod: &'a [IpAddr],
    /// The node's.
    pub host: &'a [IpAddr],
}

/// The environment of a container, in order, expanded.
///
/// # Errors
/// When something referred to does not exist and is not optional.
pub async fn of(
    pod: &Pod,
    container: &Container,
    addresses: Addresses<'_>,
    cluster: &dyn Cluster,
) -> Result<Vec<(String, String)>, EnvironmentError> {
    let namespace = pod::id(pod).namespace;
    let mut variables: Vec<(String, String)> = Vec::new();
    let links = pod::spec(pod).enable_service_links != Some(false);
    // Without services a pod still runs; variables are a convenience.
    let own = if links { cluster.services(&namespace).await.unwrap_or_default() } else { Vec::new() };
    let masters = cluster.services("default").await.unwrap_or_default();
    let master = masters.iter().filter(|service| service.metadata.name.as_deref() == Some("kubernetes"));
    for service in master.chain(own.iter()) {
        for (name, value) in service_variables(service) {
            set(&mut variables, &name, value);
        }
    }
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        for (key, value) in from(source, &namespace, cluster).await? {
            set(&mut variables, &format!("{prefix}{key}"), value);
        }
    }
    for variable in container.env.iter().flatten() {
        let value = match (&variable.value, &variable.value_from) {
            (Some(text), _) if !text.is_empty() => {
                let known: BTreeMap<&str, &str> =
                    variables.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
                Some(expand(text, |name| known.get(name).map(|value| (*value).to_owned())))
            }
            (_, Some(source)) => reference(pod, container, source, addresses, &namespace, cluster).await?,
            _ => Some(String::new()),
        };
        if let Some(value) = value {
            set(&mut variables, &variable.name, value);
        }
    }
    Ok(variables)
}

fn set(variables: &mut Vec<(String, String)>, name: &str, value: String) {
    variables.retain(|(key, _)| key != name);
    variables.push((name.to_owned(), value));
}

async fn from(
    source: &api::types::core::v1::EnvFromSource,
    namespace: &str,
    cluster: &dyn Cluster,
) -> Result<BTreeMap<String, String>, EnvironmentError> {
    let text = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).into_owned();
    if let Some(wanted) = &source.config_map_ref {
        return match cluster.config_map(namespace, &wanted.name).await {
            Ok(map) => Ok(map.data.clone().unwrap_or_default()),
            Err(ClusterError::NotFound { .. }) if wanted.optional == Some(true) => Ok(BTreeMap::new()),
            Err(error) => Err(error.into()),
        };
    }
    let Some(wanted) = &source.secret_ref else { return Ok(BTreeMap::new()) };
    match cluster.secret(namespace, &wanted.name).await {
        Ok(secret) => {
            Ok(secret.data.iter().flatten().map(|(key, value)| (key.clone(), text(&value.0))).collect())
        }
        Err(ClusterError::NotFound { .. }) if wanted.optional == Some(true) => Ok(BTreeMap::new()),
        Err(error) => Err(error.into()),
    }
}

async fn reference(
    pod: &Pod,
    container: &Container,
    source: &EnvVarSource,
    addresses: Addresses<'_>,
    namespace: &str,
    cluster: &dyn Cluster,
) -> Result<Option<String>, EnvironmentError> {
    if let Some(field_ref) = &source.field_ref {
        let known = [
            ("status.podIP", addresses.pod.first().map(ToString::to_string)),
            ("status.podIPs", Some(join(addresses.pod))),
            ("status.hostIP", addresses.host.first().map(ToString::to_string)),
            ("status.hostIPs", Some(join(addresses.host))),
        ];
        return field(pod, &field_ref.field_path, &known).map(Some).map_err(EnvironmentError::Unfit);
    }
    if let Some(wanted) = &source.resource_field_ref {
        let name =
            wanted.container_name.as_deref().filter(|name| !name.is_empty()).unwrap_or(&container.name);
        return resource(pod, name, wanted).map(Some).map_err(EnvironmentError::Unfit);
    }
    let (found, key, optional, kind) = if let Some(wanted) = &source.config_map_key_ref {
        let map = cluster.config_map(namespace, &wanted.name).await;
        let found = map.map(|map| map.data.as_ref().and_then(|data| data.get(&wanted.key).cloned()));
        (found, &wanted.key, wanted.optional, format!("ConfigMap {namespace}/{}", wanted.name))
    } else if let Some(wanted) = &source.secret_key_ref {
        let secret = cluster.secret(namespace, &wanted.name).await;
        let found = secret.map(|secret| {
            let value = secret.data.as_ref().and_then(|data| data.get(&wanted.key));
            value.map(|value| String::from_utf8_lossy(&value.0).into_owned())
        });
        (found, &wanted.key, wanted.optional, format!("Secret {namespace}/{}", wanted.name))
    } else {
        return Ok(None);
    };
    match found {
        Ok(Some(value)) => Ok(Some(value)),
        Ok(None) | Err(ClusterError::NotFound { .. }) if optional == Some(true) => Ok(None),
        Ok(None) => Err(EnvironmentError::Unfit(format!("couldn't find key {key} in {kind}"))),
        Err(error) => Err(error.into()),
    }
}

fn join(addresses: &[IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// A field of a pod by its path, with what is known better than from the object.
///
/// # Errors
/// When there is no such field.
pub fn field(pod: &Pod, path: &str, known: &[(&str, Option<String>)]) -> Result<String, String> {
    if let Some((_, value)) = known.iter().find(|(name, _)| *name == path) {
        return Ok(value.clone().unwrap_or_default());
    }
    let metadata = &pod.metadata;
    let map = |map: &Option<BTreeMap<String, String>>| {
        let lines: Vec<String> =
            map.iter().flatten().map(|(key, value)| format!("{key}={value:?}")).collect();
        lines.join("\n")
    };
    if let Some((base, key)) = path.strip_suffix("']").and_then(|path| path.split_once("['")) {
        let from = match base {
            "metadata.annotations" => &metadata.annotations,
            "metadata.labels" => &metadata.labels,
            _ => return Err(format!("unsupported fieldPath: {path}")),
        };
        return Ok(from.as_ref().and_then(|from| from.get(key).cloned()).unwrap_or_default());
    }
    let spec = pod::spec(pod);
    Ok(match path {
        "metadata.name" => metadata.name.clone().unwrap_or_default(),
        "metadata.namespace" => metadata.namespace.clone().unwrap_or_default(),
        "metadata.uid" => metadata.uid.clone().unwrap_or_default(),
        "metadata.labels" => map(&metadata.labels),
        "metadata.annotations" => map(&metadata.annotations),
        "spec.nodeName" => spec.node_name.clone().unwrap_or_default(),
        "spec.serviceAccountName" => spec.service_account_name.clone().unwrap_or_default(),
        _ => return Err(format!("unsupported fieldPath: {path}")),
    })
}

/// A container's request or limit, divided as asked, rounded up. A missing
/// limit is the machine's capacity.
///
/// # Errors
/// When there is no such container or resource.
pub fn resource(pod: &Pod, container: &str, wanted: &ResourceFieldSelector) -> Result<String, String> {
    let (_, container) =
        pod::container(pod, container).ok_or_else(|| format!("container {container} not found"))?;
    let (kind, name) = wanted.resource.split_once('.').ok_or("malformed resource")?;
    let resources = container.resources.as_ref();
    let amount = match kind {
        "limits" => pod::limit(resources, name).or_else(|| capacity(name)),
        "requests" => pod::request(resources, name),
        _ => return Err(format!("unsupported container resource: {}", wanted.resource)),
    };
    let divisor = wanted.divisor.as_ref().and_then(|divisor| divisor.0.parse::<api::Quantity>().ok());
    let divisor = divisor.filter(|divisor| !divisor.is_zero()).map_or(1.0, api::Quantity::to_f64);
    let value = (amount.map_or(0.0, api::Quantity::to_f64) / divisor).ceil();
    Ok(format!("{value:.0}"))
}

fn capacity(name: &str) -> Option<api::Quantity> {
    match name {
        "cpu" => {
            let cores = std::thread::available_parallelism().ok()?.get();
            Some(api::Quantity::from_units(i64::try_from(cores).ok()?))
        }
        "memory" => i64::try_from(crate::node::facts::memory()).ok().map(api::Quantity::from_bytes),
        _ => None,
    }
}

/// `NAME_SERVICE_HOST` and its companions, as Docker links had them.
fn service_variables(service: &Service) -> Vec<(String, String)> {
    let spec = service.spec.clone().unwrap_or_default();
    let Some(host) = spec.cluster_ip.filter(|ip| !ip.is_empty() && ip != "None") else { return Vec::new() };
    let name = service.metadata.name.clone().unwrap_or_default().to_uppercase().replace('-', "_");
    let ports = spec.ports.unwrap_or_default();
    let mut variables = vec![(format!("{name}_SERVICE_HOST"), host.clone())];
    let literal = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    for (number, port) in ports.iter().enumerate() {
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        if number == 0 {
            variables.push((format!("{name}_SERVICE_PORT"), port.port.to_string()));
            variables.push((
                format!("{name}_PORT"),
                format!("{}://{literal}:{}", protocol.to_lowercase(), port.port),
            ));
        }
        if let Some(port_name) = port.name.as_deref().filter(|name| !name.is_empty()) {
            let port_name = port_name.to_uppercase().replace('-', "_");
            variables.push((format!("{name}_SERVICE_PORT_{port_name}"), port.port.to_string()));
        }
        let prefix = format!("{name}_PORT_{}_{}", port.port, protocol.to_uppercase());
        variables.push((prefix.clone(), format!("{}://{literal}:{}", protocol.to_lowercase(), port.port)));
        variables.push((format!("{prefix}_PROTO"), protocol.to_lowercase()));
        variables.push((format!("{prefix}_PORT"), port.port.to_string()));
        variables.push((format!("{prefix}_ADDR"), host.clone()));
    }
    variables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_and_resources() {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "p", "labels": {"a": "1", "b": "x\"y"}},
            "spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": "1500m", "memory": "64Mi"}}}]}
        }))
        .expect("a pod");
        assert_eq!(field(&pod, "metadata.labels", &[]).expect("labels"), "a=\"1\"\nb=\"x\\\"y\"");
        assert_eq!(field(&pod, "metadata.labels['a']", &[]).expect("a label"), "1");
        assert!(field(&pod, "spec.nothing", &[]).is_err());
        let of = |resource: &str, divisor: Option<&str>| {
            let wanted = serde_json::json!({"resource": resource, "divisor": divisor});
            super::resource(&pod, "c", &serde_json::from_value(wanted).expect("a selector")).expect(resource)
        };
        assert_eq!(of("limits.cpu", None), "2");
        assert_eq!(of("limits.cpu", Some("1m")), "1500");
        assert_eq!(of("requests.memory", Some("1Mi")), "64");
    }

    #[test]
    fn services() {
        let service: Service = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "my-db"}, "spec": {"clusterIP": "10.0.0.1", "ports": [{"name": "sql", "port": 5432}]}
        }))
        .expect("a service");
        let variables = service_variables(&service);
        let has = |name: &str, value: &str| variables.iter().any(|(n, v)| n == name && v == value);
        assert!(has("MY_DB_SERVICE_HOST", "10.0.0.1") && has("MY_DB_SERVICE_PORT_SQL", "5432"));
        assert!(has("MY_DB_PORT_5432_TCP", "tcp://10.0.0.1:5432"), "{variables:?}");
    }
}
