//! What a cluster's members must agree on, kept in the config map `kubeadm-config`
//! in upstream's form (`kubeadm.k8s.io/v1beta4`, `ClusterConfiguration`).

use std::net::IpAddr;

use anyhow::{Context as _, bail, ensure};
use api::metav1::ObjectMeta;
use api::types::core::v1::ConfigMap;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// The config map's name; it is in `kube-system`.
pub const CONFIG_MAP: &str = "kubeadm-config";
const KEY: &str = "ClusterConfiguration";
/// Which address of the service range is that of cluster DNS.
const DNS: usize = 10;

/// The settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// `HOST:PORT` of the API server.
    pub endpoint: String,
    /// Addresses of pods.
    pub pod_range: IpNet,
    /// Addresses of services.
    pub service_range: IpNet,
    /// The domain of cluster DNS.
    pub dns_domain: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClusterConfiguration {
    api_version: String,
    kind: String,
    cluster_name: String,
    kubernetes_version: String,
    control_plane_endpoint: String,
    networking: Networking,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Networking {
    dns_domain: String,
    pod_subnet: String,
    service_subnet: String,
}

impl Cluster {
    /// The address of cluster DNS.
    #[must_use]
    pub fn dns_address(&self) -> IpAddr {
        nth(self.service_range, DNS).unwrap_or_else(|| self.service_range.addr())
    }

    /// The address of the API server's service.
    #[must_use]
    pub fn server_address(&self) -> IpAddr {
        nth(self.service_range, 1).unwrap_or_else(|| self.service_range.addr())
    }

    /// Whether the settings go together.
    ///
    /// # Errors
    /// What does not.
    pub fn check(&self, address: IpAddr) -> anyhow::Result<()> {
        let (pods, services) = (self.pod_range, self.service_range);
        ensure!(
            nth(services, DNS).is_some(),
            "--service-cidr {services} is too small: it needs {DNS} addresses and more"
        );
        let overlap = pods.contains(&services.network()) || services.contains(&pods.network());
        ensure!(!overlap, "--pod-network-cidr {pods} and --service-cidr {services} overlap");
        for (flag, range) in [("--pod-network-cidr", pods), ("--service-cidr", services)] {
            ensure!(!range.contains(&address), "{flag} {range} contains this host's address {address}");
        }
        let parts_of_a_node = if matches!(pods, IpNet::V4(_)) { 24 } else { 64 };
        ensure!(
            pods.prefix_len() <= parts_of_a_node,
            "--pod-network-cidr {pods} is too small: each node gets a /{parts_of_a_node} of it"
        );
        ensure!(!self.dns_domain.is_empty(), "--service-dns-domain is empty");
        Ok(())
    }

    /// The config map.
    ///
    /// # Errors
    /// Settings that YAML cannot hold.
    pub fn to_config_map(&self) -> anyhow::Result<ConfigMap> {
        let configuration = ClusterConfiguration {
            api_version: "kubeadm.k8s.io/v1beta4".to_owned(),
            kind: KEY.to_owned(),
            cluster_name: "kubernetes".to_owned(),
            kubernetes_version: "v1.36.0".to_owned(),
            control_plane_endpoint: self.endpoint.clone(),
            networking: Networking {
                dns_domain: self.dns_domain.clone(),
                pod_subnet: self.pod_range.to_string(),
                service_subnet: self.service_range.to_string(),
            },
        };
        let value = serde_json::to_value(&configuration).context("write the cluster's settings")?;
        let text = api::yaml::format(&value).context("write the cluster's settings")?;
        Ok(ConfigMap {
            metadata: ObjectMeta {
                name: Some(CONFIG_MAP.to_owned()),
                namespace: Some("kube-system".to_owned()),
                ..ObjectMeta::default()
            },
            data: Some([(KEY.to_owned(), text)].into()),
            ..ConfigMap::default()
        })
    }

    /// From the config map.
    ///
    /// # Errors
    /// It is not one of ours.
    pub fn from_config_map(map: &ConfigMap) -> anyhow::Result<Self> {
        let Some(text) = map.data.as_ref().and_then(|data| data.get(KEY)) else {
            bail!("the config map {CONFIG_MAP} has no {KEY}");
        };
        let value = api::yaml::parse(text).context("read the cluster's settings")?;
        let read: ClusterConfiguration =
            serde_json::from_value(value).context("read the cluster's settings")?;
        let range = |text: &str| text.parse().with_context(|| format!("the address range {text:?}"));
        Ok(Self {
            endpoint: read.control_plane_endpoint,
            pod_range: range(&read.networking.pod_subnet)?,
            service_range: range(&read.networking.service_subnet)?,
            dns_domain: read.networking.dns_domain,
        })
    }
}

/// The address of a range that is this many behind its first.
fn nth(range: IpNet, number: usize) -> Option<IpAddr> {
    let inside = match (range.network(), number) {
        (IpAddr::V4(first), number) => {
            IpAddr::V4(u32::from(first).checked_add(u32::try_from(number).ok()?)?.into())
        }
        (IpAddr::V6(first), number) => {
            IpAddr::V6(u128::from(first).checked_add(u128::try_from(number).ok()?)?.into())
        }
    };
    (range.contains(&inside) && inside != range.broadcast()).then_some(inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(pods: &str, services: &str) -> Cluster {
        Cluster {
            endpoint: "10.0.0.1:6443".to_owned(),
            pod_range: pods.parse().expect("a range"),
            service_range: services.parse().expect("a range"),
            dns_domain: "cluster.local".to_owned(),
        }
    }

    #[test]
    fn settings_survive_the_config_map() {
        let settings = cluster("10.244.0.0/16", "10.96.0.0/16");
        let map = settings.to_config_map().expect("a config map");
        assert_eq!(Cluster::from_config_map(&map).expect("reads"), settings);
        assert!(Cluster::from_config_map(&ConfigMap::default()).is_err());
    }

    #[test]
    fn settings_that_go_together() {
        let host: IpAddr = "10.0.0.1".parse().expect("an address");
        let settings = cluster("10.244.0.0/16", "10.96.0.0/16");
        assert_eq!(settings.dns_address().to_string(), "10.96.0.10");
        assert_eq!(settings.server_address().to_string(), "10.96.0.1");
        settings.check(host).expect("fits");
        for (pods, services) in [
            ("10.244.0.0/16", "10.244.8.0/24"),
            ("10.0.0.0/16", "10.96.0.0/16"),
            ("10.244.0.0/16", "10.0.0.0/24"),
            ("10.244.0.0/16", "10.96.0.0/29"),
            ("10.244.0.0/25", "10.96.0.0/16"),
        ] {
            assert!(cluster(pods, services).check(host).is_err(), "{pods} {services}");
        }
        cluster("fd00:1::/48", "fd00:2::/112").check("fd00::1".parse().expect("an address")).expect("fits");
    }
}
