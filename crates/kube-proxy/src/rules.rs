//! The rules of services as a value, and the difference of two such values.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;

use api::ObjectKey;
use api::types::core::v1::{Service, ServicePort};
use api::types::discovery::v1::EndpointSlice;
use ipnet::IpNet;
use sha2::{Digest as _, Sha256};

use crate::base::{BASE, MASQUERADE, REFUSE, TABLE};
use crate::service::{
    Endpoint, Protocol, balancer_addresses, cluster_addresses, endpoints, external_addresses, is_served,
    usable,
};

/// An element's map and key.
pub type Slot = (String, String);

/// What is in our table besides the static part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Chains and their rules. A name is the hash of the content.
    pub chains: BTreeMap<String, Vec<String>>,
    /// Sets of clients that stay with an endpoint, and their declarations.
    pub sets: BTreeMap<String, String>,
    /// Verdicts by map and key.
    pub elements: BTreeMap<Slot, String>,
}

/// What rules depend on besides the service.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// The node's name.
    pub node: String,
    /// Addresses of pods.
    pub cluster_cidr: Vec<IpNet>,
}

/// The rules of one service.
#[must_use]
pub fn compute(key: &ObjectKey, service: &Service, slices: &[&EndpointSlice], place: &Place) -> Rules {
    let mut rules = Rules::default();
    if !is_served(service) {
        return rules;
    }
    let families: BTreeSet<bool> = cluster_addresses(service).iter().map(IpAddr::is_ipv6).collect();
    for port in service.spec.iter().flat_map(|spec| spec.ports.iter().flatten()) {
        let Some(protocol) = Protocol::parse(port.protocol.as_deref()) else { continue };
        for &ipv6 in &families {
            let found =
                endpoints(slices.iter().copied(), (port.name.as_deref(), protocol), ipv6, &place.node);
            let front = Front { key, service, port, protocol, ipv6, place, endpoints: &found };
            front.add(&mut rules);
        }
    }
    rules
}

/// One port of a service in one family.
struct Front<'a> {
    key: &'a ObjectKey,
    service: &'a Service,
    port: &'a ServicePort,
    protocol: Protocol,
    ipv6: bool,
    place: &'a Place,
    endpoints: &'a [Endpoint],
}

impl Front<'_> {
    fn add(&self, rules: &mut Rules) {
        let spec = self.service.spec.clone().unwrap_or_default();
        let inside_local = spec.internal_traffic_policy.as_deref() == Some("Local");
        let inside = self.inside(rules, inside_local);
        for address in self.family(cluster_addresses(self.service)) {
            self.address(rules, address, &inside);
        }
        let external = self.family(external_addresses(self.service));
        let balancer = self.family(balancer_addresses(self.service));
        let node_port = self.port.node_port.filter(|port| *port > 0);
        if external.is_empty() && balancer.is_empty() && node_port.is_none() {
            return;
        }
        let outside = self.outside(rules, spec.external_traffic_policy.as_deref() == Some("Local"));
        for address in external {
            self.address(rules, address, &outside);
        }
        let guarded =
            self.guarded(rules, &outside, spec.load_balancer_source_ranges.as_deref().unwrap_or_default());
        for address in balancer {
            self.address(rules, address, &guarded);
        }
        if let Some(port) = node_port {
            let (normal, empty) =
                if self.ipv6 { ("nodeports6", "emptyports6") } else { ("nodeports4", "emptyports4") };
            let key = format!("{} . {port}", self.protocol.name());
            outside.insert(rules, (normal, empty), key);
        }
    }

    fn family(&self, addresses: Vec<IpAddr>) -> Vec<IpAddr> {
        addresses.into_iter().filter(|address| address.is_ipv6() == self.ipv6).collect()
    }

    fn address(&self, rules: &mut Rules, address: IpAddr, target: &Target) {
        let maps = if self.ipv6 { ("services6", "empty6") } else { ("services4", "empty4") };
        let key = format!("{} . {address} . {}", self.protocol.name(), self.port.port);
        target.insert(rules, maps, key);
    }

    /// Where connections to the cluster address go.
    fn inside(&self, rules: &mut Rules, only_local: bool) -> Target {
        let chosen = usable(self.endpoints, only_local);
        if chosen.is_empty() {
            return if usable(self.endpoints, false).is_empty() { Target::Refuse } else { Target::Drop };
        }
        let pick = self.pick(rules, &chosen);
        let mut lines = Vec::new();
        if let Some(pods) = self.pods() {
            lines.push(format!("{} saddr != {pods} jump {MASQUERADE}", self.ip()));
        }
        lines.push(format!("goto {pick}"));
        Target::Chain(self.chain(rules, "in", lines))
    }

    /// Where connections from outside the cluster go.
    fn outside(&self, rules: &mut Rules, only_local: bool) -> Target {
        let all = usable(self.endpoints, false);
        if all.is_empty() {
            return Target::Refuse;
        }
        let everywhere = self.pick(rules, &all);
        if !only_local {
            let lines = vec![format!("jump {MASQUERADE}"), format!("goto {everywhere}")];
            return Target::Chain(self.chain(rules, "out", lines));
        }
        // Pods and the node itself reach every endpoint; others only local ones, unmasked.
        let mut lines = Vec::new();
        if let Some(pods) = self.pods() {
            lines.push(format!("{} saddr {pods} goto {everywhere}", self.ip()));
        }
        lines.push(format!("fib saddr type local jump {MASQUERADE}"));
        lines.push(format!("fib saddr type local goto {everywhere}"));
        let here = usable(self.endpoints, true);
        if here.is_empty() {
            lines.push("drop".to_owned());
        } else {
            let pick = self.pick(rules, &here);
            lines.push(format!("goto {pick}"));
        }
        Target::Chain(self.chain(rules, "out", lines))
    }

    /// The same for a load balancer's addresses, which may be for some clients only.
    fn guarded(&self, rules: &mut Rules, outside: &Target, ranges: &[String]) -> Target {
        let Target::Chain(chain) = outside else { return outside.clone() };
        if ranges.is_empty() {
            return outside.clone();
        }
        let ranges = ranges.iter().filter_map(|range| range.trim().parse::<IpNet>().ok());
        let ranges: BTreeSet<String> = ranges
            .filter(|range| matches!(range, IpNet::V6(_)) == self.ipv6)
            .map(|range| range.trunc().to_string())
            .collect();
        let ranges = ranges.into_iter().map(|range| format!("{} saddr {range} goto {chain}", self.ip()));
        let lines = ranges.chain(["drop".to_owned()]).collect();
        Target::Chain(self.chain(rules, "guard", lines))
    }

    /// The chain that chooses one of the endpoints.
    fn pick(&self, rules: &mut Rules, endpoints: &[Endpoint]) -> String {
        let timeout = self.affinity();
        let mut lines = Vec::new();
        let mut targets = Vec::new();
        for endpoint in endpoints {
            let set = timeout.map(|timeout| self.clients(rules, endpoint, timeout));
            let chain = self.endpoint(rules, endpoint, set.as_deref());
            if let Some(set) = set {
                lines.push(format!("{} saddr @{set} goto {chain}", self.ip()));
            }
            targets.push(chain);
        }
        if let [only] = targets.as_slice() {
            lines.push(format!("goto {only}"));
        } else {
            let choices: Vec<String> = targets
                .iter()
                .enumerate()
                .map(|(number, chain)| format!("{number} : goto {chain}"))
                .collect();
            lines.push(format!("numgen random mod {} vmap {{ {} }}", targets.len(), choices.join(", ")));
        }
        self.chain(rules, "pick", lines)
    }

    fn endpoint(&self, rules: &mut Rules, endpoint: &Endpoint, set: Option<&str>) -> String {
        let (ip, address) = (self.ip(), endpoint.address);
        // An endpoint that calls itself through the service.
        let mut lines = vec![format!("{ip} saddr {} jump {MASQUERADE}", address.ip())];
        if let Some(set) = set {
            lines.push(format!("update @{set} {{ {ip} saddr }}"));
        }
        lines.push(format!("meta l4proto {} dnat {ip} to {address}", self.protocol.name()));
        self.chain(rules, "ep", lines)
    }

    /// The set of clients that stay with an endpoint. Its name does not depend
    /// on other endpoints, so that clients stay when those change.
    fn clients(&self, rules: &mut Rules, endpoint: &Endpoint, timeout: i32) -> String {
        let identity = format!("{} {} {} {timeout}", self.key, self.protocol.name(), self.port.port);
        let name = format!("clients-{}", hash(&format!("{identity} {}", endpoint.address)));
        let kind = if self.ipv6 { "ipv6_addr" } else { "ipv4_addr" };
        let declared = format!("type {kind}; size 65536; flags dynamic,timeout; timeout {timeout}s;");
        rules.sets.insert(name.clone(), declared);
        name
    }

    fn affinity(&self) -> Option<i32> {
        let spec = self.service.spec.as_ref()?;
        (spec.session_affinity.as_deref() == Some("ClientIP")).then(|| {
            let config = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
            config.and_then(|config| config.timeout_seconds).filter(|seconds| *seconds > 0).unwrap_or(10_800)
        })
    }

    const fn ip(&self) -> &'static str {
        if self.ipv6 { "ip6" } else { "ip" }
    }

    fn pods(&self) -> Option<IpNet> {
        self.place
            .cluster_cidr
            .iter()
            .find(|range| matches!(range, IpNet::V6(_)) == self.ipv6)
            .map(IpNet::trunc)
    }

    fn chain(&self, rules: &mut Rules, role: &str, lines: Vec<String>) -> String {
        let content = format!("{} {}\n{}", self.key, self.port.port, lines.join("\n"));
        let name = format!("{role}-{}", hash(&content));
        rules.chains.insert(name.clone(), lines);
        name
    }
}

#[derive(Clone)]
enum Target {
    Chain(String),
    Refuse,
    Drop,
}

impl Target {
    fn insert(&self, rules: &mut Rules, (normal, empty): (&str, &str), key: String) {
        let (map, verdict) = match self {
            Self::Chain(chain) => (normal, format!("goto {chain}")),
            Self::Refuse => (empty, format!("goto {REFUSE}")),
            Self::Drop => (empty, "drop".to_owned()),
        };
        rules.elements.insert((map.to_owned(), key), verdict);
    }
}

fn hash(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().take(10).fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The name of the empty chain that says which static part is in the kernel.
#[must_use]
pub fn version() -> String {
    format!("version-{}", hash(BASE))
}

impl Rules {
    /// Adds other rules.
    pub fn extend(&mut self, other: Self) {
        self.chains.extend(other.chains);
        self.sets.extend(other.sets);
        self.elements.extend(other.elements);
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.chains.is_empty() && self.sets.is_empty() && self.elements.is_empty()
    }
}

/// The transaction that leads from one value to another; empty: nothing to do.
#[must_use]
pub fn difference(old: &Rules, new: &Rules) -> String {
    let mut script = String::new();
    let mut line = |text: String| {
        script.push_str(&text);
        script.push('\n');
    };
    for (name, declared) in new.sets.iter().filter(|(name, _)| !old.sets.contains_key(*name)) {
        line(format!("add set {TABLE} {name} {{ {declared} }}"));
    }
    let added: Vec<_> = new.chains.iter().filter(|(name, _)| !old.chains.contains_key(*name)).collect();
    // All chains first: rules go to chains in any order.
    for (name, _) in &added {
        line(format!("add chain {TABLE} {name}"));
    }
    for (name, rules) in added {
        for rule in rules {
            line(format!("add rule {TABLE} {name} {rule}"));
        }
    }
    for ((map, key), _) in
        old.elements.iter().filter(|(slot, verdict)| new.elements.get(*slot) != Some(*verdict))
    {
        line(format!("delete element {TABLE} {map} {{ {key} }}"));
    }
    for ((map, key), verdict) in
        new.elements.iter().filter(|(slot, verdict)| old.elements.get(*slot) != Some(*verdict))
    {
        line(format!("add element {TABLE} {map} {{ {key} : {verdict} }}"));
    }
    let gone: Vec<&String> = old.chains.keys().filter(|name| !new.chains.contains_key(*name)).collect();
    for name in &gone {
        line(format!("flush chain {TABLE} {name}"));
    }
    for name in gone {
        line(format!("delete chain {TABLE} {name}"));
    }
    for name in old.sets.keys().filter(|name| !new.sets.contains_key(*name)) {
        line(format!("delete set {TABLE} {name}"));
    }
    script
}

/// The transaction that makes the table anew, whatever is there.
#[must_use]
pub fn rebuild(rules: &Rules) -> String {
    let difference = difference(&Rules::default(), rules);
    format!(
        "add table {TABLE}\ndelete table {TABLE}\ntable {TABLE} {{{BASE}  chain {} {{\n  }}\n}}\n{difference}",
        version()
    )
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
