//! What a service is to this node: its ports, and the endpoints behind each.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use api::types::core::v1::Service;
use api::types::discovery::v1::EndpointSlice;

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// The protocol of the API's name.
    #[must_use]
    pub fn parse(text: Option<&str>) -> Option<Self> {
        match text {
            None | Some("" | "TCP") => Some(Self::Tcp),
            Some("UDP") => Some(Self::Udp),
            Some("SCTP") => Some(Self::Sctp),
            Some(_) => None,
        }
    }

    /// nft's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

/// An endpoint of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// Where it listens.
    pub address: SocketAddr,
    /// Whether it is on this node.
    pub local: bool,
    /// Whether it takes new connections.
    pub ready: bool,
    /// Whether it still serves though it is going.
    pub leaving: bool,
}

/// The label that hands a service to another proxy.
const OTHER_PROXY: &str = "service.kubernetes.io/service-proxy-name";

/// Whether this proxy serves a service at all.
#[must_use]
pub fn is_served(service: &Service) -> bool {
    let Some(spec) = &service.spec else { return false };
    let labels = service.metadata.labels.as_ref();
    let other = labels.is_some_and(|labels| labels.contains_key(OTHER_PROXY));
    let has_address =
        spec.cluster_ip.as_deref().is_some_and(|address| !address.is_empty() && address != "None");
    !other && has_address && spec.type_.as_deref() != Some("ExternalName")
}

/// The service's addresses inside the cluster.
#[must_use]
pub fn cluster_addresses(service: &Service) -> Vec<IpAddr> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let several = spec.cluster_ips.iter().flatten();
    addresses(several.chain(&spec.cluster_ip))
}

/// The addresses outside the cluster that are sent to the service's nodes.
#[must_use]
pub fn external_addresses(service: &Service) -> Vec<IpAddr> {
    addresses(service.spec.iter().flat_map(|spec| spec.external_ips.iter().flatten()))
}

/// The addresses that a load balancer sends on unchanged.
#[must_use]
pub fn balancer_addresses(service: &Service) -> Vec<IpAddr> {
    let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = balancer.into_iter().flat_map(|balancer| balancer.ingress.iter().flatten());
    let ours = ingress.filter(|one| one.ip_mode.as_deref() != Some("Proxy"));
    addresses(ours.filter_map(|one| one.ip.as_ref()))
}

fn addresses<'a>(texts: impl IntoIterator<Item = &'a String>) -> Vec<IpAddr> {
    let set: BTreeSet<IpAddr> = texts.into_iter().filter_map(|text| text.parse().ok()).collect();
    set.into_iter().collect()
}

/// The endpoints of a named port, of one family, sorted.
#[must_use]
pub fn endpoints<'a>(
    slices: impl IntoIterator<Item = &'a EndpointSlice>,
    port: (Option<&str>, Protocol),
    ipv6: bool,
    node: &str,
) -> Vec<Endpoint> {
    let family = if ipv6 { "IPv6" } else { "IPv4" };
    let mut found = BTreeSet::new();
    for slice in slices.into_iter().filter(|slice| slice.address_type == family) {
        let same = |name: Option<&str>, protocol: Option<&str>| {
            name.unwrap_or_default() == port.0.unwrap_or_default()
                && Protocol::parse(protocol) == Some(port.1)
        };
        let ports = slice.ports.iter().flatten();
        let numbers: Vec<u16> = ports
            .filter(|one| same(one.name.as_deref(), one.protocol.as_deref()))
            .filter_map(|one| u16::try_from(one.port?).ok())
            .collect();
        for endpoint in slice.endpoints.iter().flatten() {
            let conditions = endpoint.conditions.clone().unwrap_or_default();
            let ready = conditions.ready.unwrap_or(true);
            let leaving = conditions.terminating.unwrap_or(false) && conditions.serving.unwrap_or(ready);
            let local = endpoint.node_name.as_deref() == Some(node);
            for address in endpoint.addresses.iter().filter_map(|text| text.parse::<IpAddr>().ok()) {
                for number in &numbers {
                    let address = SocketAddr::new(address, *number);
                    found.insert(Endpoint { address, local, ready, leaving });
                }
            }
        }
    }
    found.into_iter().collect()
}

/// The endpoints to use: the ready ones, or, where there is none, those that
/// are leaving but still serve.
#[must_use]
pub fn usable(endpoints: &[Endpoint], only_local: bool) -> Vec<Endpoint> {
    let of = |wanted: fn(&Endpoint) -> bool| -> Vec<Endpoint> {
        endpoints.iter().filter(|one| wanted(one) && (one.local || !only_local)).copied().collect()
    };
    let ready = of(|one| one.ready);
    if ready.is_empty() { of(|one| one.leaving) } else { ready }
}
