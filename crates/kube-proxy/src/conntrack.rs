//! UDP has no connections that end: flows to endpoints that are gone, or that
//! began before there were any, must be forgotten by the kernel's connection
//! tracking. The `conntrack` command does that, where it is installed.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::process::Stdio;

use api::types::core::v1::Service;
use api::types::discovery::v1::EndpointSlice;
use tokio::process::Command;

use crate::rules::Place;
use crate::service::{
    Protocol, balancer_addresses, cluster_addresses, endpoints, external_addresses, is_served, usable,
};

/// A way that UDP packets can take through a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flow {
    /// The service's address; `None`: a node port, on any address.
    pub address: Option<IpAddr>,
    /// The service's port.
    pub port: u16,
    /// The endpoint; `None`: all there may be.
    pub endpoint: Option<IpAddr>,
}

/// The ways through a service.
#[must_use]
pub fn flows(service: &Service, slices: &[&EndpointSlice], place: &Place) -> BTreeSet<Flow> {
    let mut flows = BTreeSet::new();
    if !is_served(service) {
        return flows;
    }
    let addresses =
        [cluster_addresses(service), external_addresses(service), balancer_addresses(service)].concat();
    for port in service.spec.iter().flat_map(|spec| spec.ports.iter().flatten()) {
        if Protocol::parse(port.protocol.as_deref()) != Some(Protocol::Udp) {
            continue;
        }
        for ipv6 in [false, true] {
            let name = (port.name.as_deref(), Protocol::Udp);
            for endpoint in usable(&endpoints(slices.iter().copied(), name, ipv6, &place.node), false) {
                let endpoint = Some(endpoint.address.ip());
                let number = |port: i32| u16::try_from(port).unwrap_or(0);
                let fronts = addresses.iter().filter(|address| address.is_ipv6() == ipv6);
                flows.extend(fronts.map(|address| Flow {
                    address: Some(*address),
                    port: number(port.port),
                    endpoint,
                }));
                if let Some(node_port) = port.node_port.filter(|port| *port > 0) {
                    flows.insert(Flow { address: None, port: number(node_port), endpoint });
                }
            }
        }
    }
    flows
}

/// What must be forgotten when the ways through a service change.
#[must_use]
pub fn stale(old: &BTreeSet<Flow>, new: &BTreeSet<Flow>) -> BTreeSet<Flow> {
    let front = |flow: &Flow| (flow.address, flow.port);
    let had: BTreeSet<_> = old.iter().map(front).collect();
    let began = new.iter().filter(|flow| !had.contains(&front(flow)));
    old.difference(new).copied().chain(began.map(|flow| Flow { endpoint: None, ..*flow })).collect()
}

/// Makes the kernel forget flows.
pub async fn forget(flows: &BTreeSet<Flow>) {
    for flow in flows {
        let run = Command::new("conntrack")
            .args(arguments(flow))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        // Its exit code is 1 where there was nothing to delete.
        if let Err(error) = run.await {
            tracing::warn!(%error, "conntrack cannot be run: old UDP flows will end by themselves");
            return;
        }
    }
}

fn arguments(flow: &Flow) -> Vec<String> {
    let sample = flow.address.or(flow.endpoint);
    let family = if sample.is_some_and(|address| address.is_ipv6()) { "ipv6" } else { "ipv4" };
    let mut arguments: Vec<String> =
        ["-D", "-f", family, "-p", "udp", "--orig-port-dst"].map(str::to_owned).to_vec();
    arguments.push(flow.port.to_string());
    if let Some(address) = flow.address {
        arguments.extend(["--orig-dst".to_owned(), address.to_string()]);
    }
    if let Some(endpoint) = flow.endpoint {
        arguments.extend(["--reply-src".to_owned(), endpoint.to_string()]);
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gone_endpoints_and_new_beginnings() {
        let flow = |port: u16, endpoint: &str| Flow {
            address: "10.96.0.10".parse().ok(),
            port,
            endpoint: Some(endpoint.parse().expect("an address")),
        };
        let set = |flows: &[Flow]| flows.iter().copied().collect::<BTreeSet<_>>();
        let (a, b) = (flow(53, "10.0.0.1"), flow(53, "10.0.0.2"));
        assert_eq!(stale(&set(&[a, b]), &set(&[b])), set(&[a]));
        assert_eq!(stale(&set(&[a]), &set(&[a, b])), set(&[]));
        assert_eq!(stale(&set(&[]), &set(&[a, b])), set(&[Flow { endpoint: None, ..a }]));
        assert_eq!(
            arguments(&a).join(" "),
            "-D -f ipv4 -p udp --orig-port-dst 53 --orig-dst 10.96.0.10 --reply-src 10.0.0.1"
        );
    }
}
