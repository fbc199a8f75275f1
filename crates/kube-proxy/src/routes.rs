//! Routes to the pods of other nodes, by those nodes' own addresses. They carry
//! a protocol number of ours, and no route without it is touched. The kernel
//! takes a route only where the other node is on the same link; elsewhere the
//! network must know the way.

use std::collections::BTreeMap;
use std::net::IpAddr;

use api::types::core::v1::Node;
use daemon::tasks;
use futures::TryStreamExt as _;
use ipnet::IpNet;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol};
use rtnetlink::{Handle, RouteMessageBuilder};

/// Marks our routes; not assigned to anybody in iproute2's table.
const OURS: RouteProtocol = RouteProtocol::Other(199);

/// Destinations and gateways.
pub type Table = BTreeMap<IpNet, IpAddr>;

/// Why routes could not be read or set.
#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    /// Netlink is not to be had.
    #[error("open a netlink socket")]
    Open(#[source] std::io::Error),
    /// The kernel's answer.
    #[error("{what}")]
    Kernel {
        /// What was asked.
        what: String,
        /// The answer.
        #[source]
        source: rtnetlink::Error,
    },
}

/// The routes that a node needs.
#[must_use]
pub fn wanted<'a>(nodes: impl IntoIterator<Item = &'a Node>, own: &str) -> Table {
    let mut table = Table::new();
    for node in nodes {
        if node.metadata.name.as_deref() == Some(own) {
            continue;
        }
        let spec = node.spec.clone().unwrap_or_default();
        let ranges = spec.pod_cidrs.unwrap_or_default().into_iter().chain(spec.pod_cidr);
        for range in ranges.filter_map(|text| text.parse::<IpNet>().ok()) {
            if let Some(gateway) = address(node, matches!(range, IpNet::V6(_))) {
                table.insert(range.trunc(), gateway);
            }
        }
    }
    table
}

fn address(node: &Node, ipv6: bool) -> Option<IpAddr> {
    let addresses = node.status.as_ref()?.addresses.iter().flatten();
    let internal = addresses.filter(|address| address.type_ == "InternalIP");
    internal
        .filter_map(|address| address.address.parse().ok())
        .find(|address: &IpAddr| address.is_ipv6() == ipv6)
}

/// What to delete and what to add.
#[must_use]
pub fn plan(present: &Table, wanted: &Table) -> (Vec<(IpNet, IpAddr)>, Vec<(IpNet, IpAddr)>) {
    let pairs = |from: &Table, but: &Table| {
        from.iter()
            .filter(|(range, gateway)| but.get(*range) != Some(*gateway))
            .map(|(a, b)| (*a, *b))
            .collect()
    };
    (pairs(present, wanted), pairs(wanted, present))
}

/// The kernel's routes.
#[derive(Clone, Debug)]
pub struct Routes(Handle);

impl Routes {
    /// A connection to the kernel.
    ///
    /// # Errors
    /// Netlink is not to be had.
    pub fn open() -> Result<Self, RouteError> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(RouteError::Open)?;
        tasks::spawn("netlink", connection);
        Ok(Self(handle))
    }

    /// Makes our routes those that are wanted.
    ///
    /// # Errors
    /// The routes cannot be listed. A route that the kernel does not take is
    /// logged, and the others are set.
    pub async fn apply(&self, wanted: &Table) -> Result<(), RouteError> {
        let (gone, new) = plan(&self.present().await?, wanted);
        for (range, gateway) in gone {
            if let Err(source) = self.0.route().del(message(range, gateway)).execute().await {
                let error = RouteError::Kernel { what: format!("delete the route to {range}"), source };
                tracing::warn!(error = %chain(&error), "a route stays");
            }
        }
        for (range, gateway) in new {
            if let Err(source) = self.0.route().add(message(range, gateway)).replace().execute().await {
                let error = RouteError::Kernel { what: format!("route {range} via {gateway}"), source };
                tracing::warn!(error = %chain(&error), "no route: is the node on another link?");
            }
        }
        Ok(())
    }

    async fn present(&self) -> Result<Table, RouteError> {
        let mut table = Table::new();
        let families = [
            RouteMessageBuilder::<std::net::Ipv4Addr>::new().build(),
            RouteMessageBuilder::<std::net::Ipv6Addr>::new().build(),
        ];
        for family in families {
            let mut routes = self.0.route().get(family).execute();
            let failed = |source| RouteError::Kernel { what: "list routes".to_owned(), source };
            while let Some(route) = routes.try_next().await.map_err(failed)? {
                table.extend(ours(&route));
            }
        }
        Ok(table)
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let source = error.source().map(|source| format!(": {source}")).unwrap_or_default();
    format!("{error}{source}")
}

fn message(range: IpNet, gateway: IpAddr) -> RouteMessage {
    match (range, gateway) {
        (IpNet::V4(range), IpAddr::V4(gateway)) => RouteMessageBuilder::<std::net::Ipv4Addr>::new()
            .destination_prefix(range.network(), range.prefix_len())
            .gateway(gateway)
            .protocol(OURS)
            .build(),
        (IpNet::V6(range), IpAddr::V6(gateway)) => RouteMessageBuilder::<std::net::Ipv6Addr>::new()
            .destination_prefix(range.network(), range.prefix_len())
            .gateway(gateway)
            .protocol(OURS)
            .build(),
        // `wanted` pairs families; the kernel refuses an empty message.
        _ => RouteMessage::default(),
    }
}

fn ours(route: &RouteMessage) -> Option<(IpNet, IpAddr)> {
    if route.header.protocol != OURS {
        return None;
    }
    let address = |address: &RouteAddress| match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    };
    let find =
        |wanted: fn(&RouteAttribute) -> Option<&RouteAddress>| route.attributes.iter().find_map(wanted);
    let destination =
        find(|one| if let RouteAttribute::Destination(address) = one { Some(address) } else { None })?;
    let gateway = find(|one| if let RouteAttribute::Gateway(address) = one { Some(address) } else { None })?;
    let range = IpNet::new(address(destination)?, route.header.destination_prefix_length).ok()?;
    Some((range, address(gateway)?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(name: &str, range: &str, address: &str) -> Node {
        serde_json::from_value(json!({
            "metadata": {"name": name},
            "spec": {"podCIDR": range, "podCIDRs": [range]},
            "status": {"addresses": [{"type": "Hostname", "address": name}, {"type": "InternalIP", "address": address}]},
        }))
        .expect("a node")
    }

    fn table(entries: &[(&str, &str)]) -> Table {
        entries.iter().map(|(a, b)| (a.parse().expect("a range"), b.parse().expect("an address"))).collect()
    }

    #[test]
    fn other_nodes_by_their_addresses() {
        let nodes = [
            node("a", "10.244.0.0/24", "192.168.0.1"),
            node("b", "10.244.1.0/24", "192.168.0.2"),
            node("c", "fd00:1::/64", "192.168.0.3"),
            node("d", "", "192.168.0.4"),
        ];
        assert_eq!(wanted(&nodes, "a"), table(&[("10.244.1.0/24", "192.168.0.2")]));
    }

    #[test]
    fn only_the_difference() {
        let present =
            table(&[("10.0.0.0/24", "1.1.1.1"), ("10.0.1.0/24", "1.1.1.2"), ("10.0.2.0/24", "1.1.1.3")]);
        let wanted = table(&[("10.0.0.0/24", "1.1.1.1"), ("10.0.1.0/24", "1.1.1.9")]);
        let (gone, new) = plan(&present, &wanted);
        assert_eq!(
            gone.into_iter().collect::<Table>(),
            table(&[("10.0.1.0/24", "1.1.1.2"), ("10.0.2.0/24", "1.1.1.3")])
        );
        assert_eq!(new.into_iter().collect::<Table>(), table(&[("10.0.1.0/24", "1.1.1.9")]));
    }
}
