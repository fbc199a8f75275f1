//! Pod networks through CNI plugins: which configuration, and the calls
//! ([`cni`]).
//!
//! The configuration is whatever the operator put into the directory; if there
//! is nothing, one with the standard plugins is written from the node's pod
//! ranges.

pub mod cni;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use api::types::core::v1::Pod;
use ipnet::IpNet;
use serde_json::{Value, json};

use crate::pod::{self, PodId};
use cni::{Attachment, CniError, NetworkList};

/// Name of the configuration that we write.
const OWN_CONFIGURATION: &str = "10-corten.conflist";

/// Where CNI's things are.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Directories with plugins.
    pub bin_dirs: Vec<PathBuf>,
    /// Directory with configurations; the first by name counts.
    pub conf_dir: PathBuf,
    /// Directory for results, which deletion needs.
    pub cache_dir: PathBuf,
    /// Name of the bridge in a configuration that we write.
    pub bridge: String,
    /// Largest packet on the pod network; 0 leaves it to the plugin.
    pub mtu: u32,
}

/// The pod network.
#[derive(Clone, Debug)]
pub struct Network {
    settings: Settings,
}

impl Network {
    /// The network with these settings.
    #[must_use]
    pub const fn new(settings: Settings) -> Self {
        Self { settings }
    }

    /// The configuration in force.
    ///
    /// # Errors
    /// When there is none, or the first one cannot be used.
    pub fn configuration(&self) -> Result<NetworkList, CniError> {
        let mut files: Vec<PathBuf> = std::fs::read_dir(&self.settings.conf_dir)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| {
                let extension = path.extension().and_then(|extension| extension.to_str());
                matches!(extension, Some("conflist" | "conf" | "json"))
            })
            .collect();
        files.sort();
        let path = files.first().ok_or_else(|| CniError::NoConfiguration(self.settings.conf_dir.clone()))?;
        NetworkList::read(path)
    }

    /// Writes our own configuration for the node's pod ranges, unless there is a
    /// foreign one. Whether there is one now.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn ensure_configuration(&self, ranges: &[IpNet]) -> Result<bool, CniError> {
        let own = self.settings.conf_dir.join(OWN_CONFIGURATION);
        let is_foreign = !own.exists() && self.configuration().is_ok();
        if is_foreign || ranges.is_empty() {
            return Ok(is_foreign || own.exists());
        }
        let text = format!("{:#}\n", own_configuration(&self.settings, ranges));
        if std::fs::read_to_string(&own).is_ok_and(|old| old == text) {
            return Ok(true);
        }
        let write = |source| CniError::Io { path: own.clone(), source };
        std::fs::create_dir_all(&self.settings.conf_dir).map_err(write)?;
        let partial = self.settings.conf_dir.join(format!(".{OWN_CONFIGURATION}.partial"));
        std::fs::write(&partial, text).map_err(write)?;
        std::fs::rename(&partial, &own).map_err(write)?;
        tracing::info!(file = %own.display(), "wrote the pod network's configuration");
        Ok(true)
    }

    /// Connects a sandbox; gives its addresses.
    ///
    /// # Errors
    /// When a plugin fails. What it did is undone by [`Network::detach`].
    pub async fn attach(&self, sandbox: &str, namespace: &Path, pod: &Pod) -> Result<Vec<IpAddr>, CniError> {
        let configuration = self.configuration()?;
        let attachment = self.attachment(sandbox, namespace, &pod::id(pod), port_mappings(pod));
        let result = cni::add(&configuration, &attachment).await?;
        let addresses = cni::addresses(&result);
        if addresses.is_empty() {
            return Err(CniError::Result("the plugins gave no address".to_owned()));
        }
        Ok(addresses)
    }

    /// Disconnects a sandbox; harmless if it was not connected.
    ///
    /// # Errors
    /// When a plugin fails.
    pub async fn detach(&self, sandbox: &str, namespace: &Path, id: &PodId) -> Result<(), CniError> {
        cni::delete(&self.attachment(sandbox, namespace, id, Vec::new())).await
    }

    /// Whether a sandbox is still connected as it was.
    ///
    /// # Errors
    /// When a plugin says that it is not.
    pub async fn check(&self, sandbox: &str, namespace: &Path, id: &PodId) -> Result<(), CniError> {
        cni::check(&self.attachment(sandbox, namespace, id, Vec::new())).await
    }

    /// Sandboxes that have a result in the cache.
    #[must_use]
    pub fn attached(&self) -> Vec<String> {
        cni::cached(&self.settings.cache_dir)
    }

    fn attachment(&self, sandbox: &str, namespace: &Path, id: &PodId, ports: Vec<Value>) -> Attachment {
        Attachment {
            container_id: sandbox.to_owned(),
            namespace: namespace.to_owned(),
            interface: "eth0".to_owned(),
            arguments: [
                ("IgnoreUnknown", "1"),
                ("K8S_POD_NAMESPACE", &id.namespace),
                ("K8S_POD_NAME", &id.name),
                ("K8S_POD_INFRA_CONTAINER_ID", sandbox),
                ("K8S_POD_UID", &id.uid),
            ]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
            capabilities: BTreeMap::from([("portMappings".to_owned(), Value::Array(ports))]),
            bin_dirs: self.settings.bin_dirs.clone(),
            cache_dir: self.settings.cache_dir.clone(),
        }
    }
}

/// The pod's host ports, in the form that the portmap plugin takes.
fn port_mappings(pod: &Pod) -> Vec<Value> {
    let ports = pod::containers(pod).flat_map(|(_, container)| container.ports.iter().flatten());
    ports
        .filter_map(|port| {
            let host_port = port.host_port.filter(|port| *port > 0)?;
            Some(json!({
                "hostPort": host_port,
                "containerPort": port.container_port,
                "protocol": port.protocol.as_deref().unwrap_or("TCP").to_lowercase(),
                "hostIP": port.host_ip.clone().unwrap_or_default(),
            }))
        })
        .collect()
}

fn own_configuration(settings: &Settings, ranges: &[IpNet]) -> Value {
    let routes: Vec<Value> = ranges
        .iter()
        .map(|range| json!({"dst": if range.addr().is_ipv4() { "0.0.0.0/0" } else { "::/0" }}))
        .collect();
    let mut bridge = json!({
        "type": "bridge",
        "bridge": settings.bridge,
        "isGateway": true,
        "ipMasq": false,
        "hairpinMode": true,
        "ipam": {
            "type": "host-local",
            "ranges": ranges.iter().map(|range| json!([{"subnet": range.to_string()}])).collect::<Vec<_>>(),
            "routes": routes,
            "dataDir": settings.cache_dir.join("networks"),
        },
    });
    if settings.mtu > 0 {
        bridge["mtu"] = settings.mtu.into();
    }
    json!({
        "cniVersion": "1.0.0",
        "name": "corten",
        "plugins": [
            bridge,
            {"type": "portmap", "capabilities": {"portMappings": true}, "snat": true},
        ],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(dir: &Path) -> Network {
        Network::new(Settings {
            bin_dirs: vec!["/usr/lib/cni".into()],
            conf_dir: dir.join("net.d"),
            cache_dir: dir.join("cache"),
            bridge: "cni0".to_owned(),
            mtu: 0,
        })
    }

    #[test]
    fn a_configuration_is_written_only_where_there_is_none() {
        let dir = tempfile::tempdir().expect("temp dir");
        let network = network(dir.path());
        assert!(!network.ensure_configuration(&[]).expect("no range yet"));
        assert!(matches!(network.configuration(), Err(CniError::NoConfiguration(_))));
        let range: IpNet = "10.1.2.0/24".parse().expect("a range");
        assert!(network.ensure_configuration(&[range]).expect("writes"));
        assert_eq!(network.configuration().expect("reads").name, "corten");
        let other: IpNet = "10.9.0.0/24".parse().expect("a range");
        assert!(network.ensure_configuration(&[other]).expect("rewrites its own"));
        let own = dir.path().join("net.d").join(OWN_CONFIGURATION);
        assert!(std::fs::read_to_string(&own).expect("read").contains("10.9.0.0/24"));
        std::fs::remove_file(own).expect("remove");
        let foreign = r#"{"cniVersion":"0.3.1","name":"theirs","type":"ptp"}"#;
        std::fs::write(dir.path().join("net.d/05-theirs.conf"), foreign).expect("write");
        assert!(network.ensure_configuration(&[range]).expect("leaves it"));
        assert_eq!(network.configuration().expect("reads").name, "theirs");
    }

    #[test]
    fn host_ports() {
        let pod: Pod = serde_json::from_value(json!({"spec": {"containers": [{"name": "c", "ports": [
            {"containerPort": 80, "hostPort": 8080}, {"containerPort": 81}
        ]}]}}))
        .expect("a pod");
        let mappings = port_mappings(&pod);
        assert_eq!(
            mappings,
            [json!({"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": ""})]
        );
    }
}
