//! Subsets of endpoints in their canonical form: ports that have the same
//! addresses are together (upstream: `endpoints.RepackSubsets`).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use api::types::core::v1::{EndpointAddress, EndpointPort, EndpointSubset};

/// An address, told apart by what it is and whom it is of.
type Identity = (String, String);
/// Addresses of a port, and whether each is ready.
type Addresses = BTreeMap<Identity, (EndpointAddress, bool)>;

/// A canonical subset.
pub(super) struct Subset {
    pub(super) ports: Vec<EndpointPort>,
    /// Those that are ready come first.
    pub(super) addresses: Vec<(EndpointAddress, bool)>,
}

fn identity(address: &EndpointAddress) -> Identity {
    let target = address.target_ref.as_ref().and_then(|target| target.uid.clone());
    (address.ip.clone(), target.unwrap_or_default())
}

pub(super) fn repack(subsets: &[EndpointSubset]) -> Vec<Subset> {
    let mut by_port: BTreeMap<String, (Option<EndpointPort>, Addresses)> = BTreeMap::new();
    for subset in subsets {
        let ports = subset.ports.iter().flatten().map(Some);
        // Without ports there are addresses all the same.
        let none = subset.ports.as_ref().is_none_or(Vec::is_empty).then_some(None);
        for port in ports.chain(none) {
            let (_, addresses) =
                by_port.entry(format!("{port:?}")).or_insert_with(|| (port.cloned(), Addresses::new()));
            let ready = subset.addresses.iter().flatten().map(|address| (address, true));
            let others = subset.not_ready_addresses.iter().flatten().map(|address| (address, false));
            for (address, is_ready) in ready.chain(others) {
                let known = addresses.entry(identity(address)).or_insert_with(|| (address.clone(), is_ready));
                known.1 &= is_ready;
            }
        }
    }
    let mut by_addresses: BTreeMap<String, Subset> = BTreeMap::new();
    for (port, addresses) in by_port.into_values() {
        let key = format!("{:?}", addresses.iter().map(|(one, (_, ready))| (one, ready)).collect::<Vec<_>>());
        let subset = by_addresses.entry(key).or_insert_with(|| {
            let mut addresses: Vec<(EndpointAddress, bool)> = addresses.into_values().collect();
            addresses.sort_by_key(|(_, is_ready)| !is_ready);
            Subset { ports: Vec::new(), addresses }
        });
        subset.ports.extend(port);
    }
    by_addresses.into_values().collect()
}

/// An address as text writes it, with octets that may have zeros in front.
pub(super) fn address(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address.to_canonical());
    }
    let octets: Vec<&str> = text.split('.').collect();
    let octets: [&str; 4] = octets.try_into().ok()?;
    let octet =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u8>().ok())?;
    let [a, b, c, d] = octets.map(octet);
    Some(IpAddr::V4(Ipv4Addr::new(a?, b?, c?, d?)))
}
