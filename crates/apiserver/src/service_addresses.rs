//! Gives services their cluster addresses and node ports.
//!
//! An address is an `IPAddress` object, a node port a key of its own; both are
//! written in the same transaction as the service, so two servers can never give
//! out the same one, and a service that is deleted gives them back.

use std::collections::HashSet;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use api::{FieldError, Object, Path, Status};
use daemon::Clock;
use futures::future::BoxFuture;
use ipnet::IpNet;
use resources::Descriptor;
use resources::kinds::service as rules;
use serde_json::{Value, json};
use store::{Compare, Operation};

use crate::cache::{self, WatchCache};
use crate::registry::{Companions, Planner};
use crate::stored;

/// Random tries before the range is searched from its start.
const RANDOM_TRIES: u32 = 64;

/// Allocates from the service ranges.
pub struct ServiceAddresses {
    ranges: Vec<IpNet>,
    node_ports: RangeInclusive<u16>,
    cache: Arc<WatchCache>,
    clock: Arc<dyn Clock>,
}

impl ServiceAddresses {
    /// An allocator over one range for each address family, the preferred first.
    #[must_use]
    pub fn new(
        ranges: Vec<IpNet>,
        node_ports: RangeInclusive<u16>,
        cache: Arc<WatchCache>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { ranges, node_ports, cache, clock }
    }

    /// The address of the API server's own service: the first of the range.
    #[must_use]
    pub fn first(&self) -> Option<IpAddr> {
        self.ranges.first().and_then(|range| range.hosts().next())
    }

    fn settle(&self, old: Option<&Object>, new: Option<&mut Object>) -> Result<Companions, Status> {
        let mut companions = Companions::default();
        let (held_ips, held_ports) = old.map(holdings).unwrap_or_default();
        let (mut wanted_ips, mut wanted_ports) = (Vec::new(), Vec::new());
        if let Some(service) = new {
            self.fill_addresses(service, &held_ips)?;
            self.fill_node_ports(service, &held_ports)?;
            (wanted_ips, wanted_ports) = holdings(service);
            for ip in wanted_ips.iter().filter(|ip| !held_ips.contains(ip)) {
                let key = address_key(ip);
                companions.compare.push(Compare::absent(key.clone()));
                companions.operations.push(Operation::put(key, self.address_object(service, ip)));
            }
            for port in wanted_ports.iter().filter(|port| !held_ports.contains(port)) {
                let key = port_key(*port);
                let owner = format!("{}/{}", service.namespace(), service.name());
                companions.compare.push(Compare::absent(key.clone()));
                companions.operations.push(Operation::put(key, owner));
            }
        }
        let freed_ips = held_ips.iter().filter(|ip| !wanted_ips.contains(ip)).map(address_key);
        let freed_ports =
            held_ports.iter().filter(|port| !wanted_ports.contains(port)).map(|port| port_key(*port));
        companions.operations.extend(freed_ips.chain(freed_ports).map(Operation::delete));
        Ok(companions)
    }

    fn fill_addresses(&self, service: &mut Object, held: &[IpAddr]) -> Result<(), Status> {
        if !rules::needs_cluster_ip(service) {
            for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
                service.remove_at(&["spec", field]);
            }
            return Ok(());
        }
        let policy = service.text(&["spec", "ipFamilyPolicy"]).to_owned();
        let named: Vec<String> = texts(service.at(&["spec", "ipFamilies"]));
        let families = self.families(service, &policy, &named)?;
        if policy.is_empty() {
            service.set_at(
                &["spec", "ipFamilyPolicy"],
                if families.len() > 1 { "RequireDualStack" } else { "SingleStack" },
            );
        }
        service.set_at(&["spec", "ipFamilies"], families.clone());
        if rules::is_headless(service) {
            service.set_at(&["spec", "clusterIP"], "None");
            service.set_at(&["spec", "clusterIPs"], json!(["None"]));
            return Ok(());
        }
        let given: Vec<String> =
            texts(service.at(&["spec", "clusterIPs"])).into_iter().filter(|ip| !ip.is_empty()).collect();
        let mut addresses = Vec::with_capacity(families.len());
        for (index, family) in families.iter().enumerate() {
            let address = match given.get(index) {
                Some(text) => self.requested(service, text, held)?,
                None => self.pick(service, family)?,
            };
            addresses.push(address.to_string());
        }
        service.set_at(&["spec", "clusterIP"], addresses[0].as_str());
        service.set_at(&["spec", "clusterIPs"], addresses);
        Ok(())
    }

    fn families(&self, service: &Object, policy: &str, named: &[String]) -> Result<Vec<String>, Status> {
        let available: Vec<&str> = self.ranges.iter().map(family).collect();
        if let Some(unknown) = named.iter().find(|one| !available.contains(&one.as_str())) {
            let spec = Path::new("spec");
            let error = FieldError::invalid(
                &spec.child("ipFamilies").index(0),
                unknown.as_str(),
                "not configured on this cluster",
            );
            return Err(Status::invalid("", "Service", service.name(), &[error]));
        }
        let mut families: Vec<String> = named.to_vec();
        if families.is_empty() {
            // A requested address says which family is meant.
            let requested = service.text(&["spec", "clusterIP"]).parse::<IpAddr>().ok();
            let first = match requested {
                Some(IpAddr::V6(_)) => "IPv6",
                Some(IpAddr::V4(_)) => "IPv4",
                None => available.first().copied().unwrap_or("IPv4"),
            };
            families.push(first.to_owned());
        }
        if families.len() == 1 && matches!(policy, "PreferDualStack" | "RequireDualStack") {
            let second = available.iter().find(|one| **one != families[0]).map(|one| (*one).to_owned());
            families.extend(second);
        }
        if policy == "RequireDualStack" && families.len() < 2 {
            let spec = Path::new("spec");
            let error = FieldError::invalid(
                &spec.child("ipFamilyPolicy"),
                policy,
                "this cluster is not configured for dual-stack services",
            );
            return Err(Status::invalid("", "Service", service.name(), &[error]));
        }
        if policy == "SingleStack" {
            families.truncate(1);
        }
        Ok(families)
    }

    fn requested(&self, service: &Object, text: &str, held: &[IpAddr]) -> Result<IpAddr, Status> {
        let refuse = |why: &str| {
            let (spec, value) = (Path::new("spec"), json!([text]));
            let error = FieldError::invalid(
                &spec.child("clusterIPs"),
                value,
                format!("failed to allocate IP {text}: {why}"),
            );
            Status::invalid("", "Service", service.name(), &[error])
        };
        let address: IpAddr = text.parse().map_err(|_| refuse("not a valid IP"))?;
        if held.contains(&address) {
            return Ok(address);
        }
        let range = self.ranges.iter().find(|range| range.contains(&address));
        let range = range.ok_or_else(|| {
            refuse(&format!(
                "the provided network does not match the current range{}",
                self.ranges.first().map(|range| format!(" {range}")).unwrap_or_default()
            ))
        })?;
        if address == range.network() || (address == range.broadcast() && address.is_ipv4()) {
            return Err(refuse("the provided IP is not usable in the range"));
        }
        if self.is_used(&address) {
            return Err(refuse("provided IP is already allocated"));
        }
        Ok(address)
    }

    fn is_used(&self, address: &IpAddr) -> bool {
        self.cache.resource("networking.k8s.io", "ipaddresses").get("", &address.to_string()).is_some()
    }

    /// A free address, at random: two servers rarely try the same one.
    fn pick(&self, service: &Object, wanted: &str) -> Result<IpAddr, Status> {
        let full = || {
            Status::internal(format!("failed to allocate a serviceIP for {}: range is full", service.name()))
        };
        let range = self.ranges.iter().find(|range| family(range) == wanted).ok_or_else(full)?;
        for _ in 0..RANDOM_TRIES {
            let address = random_address(range);
            if Some(address) != self.first() && !self.is_used(&address) {
                return Ok(address);
            }
        }
        range.hosts().take(1 << 16).skip(1).find(|address| !self.is_used(address)).ok_or_else(full)
    }

    fn fill_node_ports(&self, service: &mut Object, held: &[u16]) -> Result<(), Status> {
        let ports = service.at(&["spec", "ports"]).and_then(Value::as_array).cloned().unwrap_or_default();
        let mut ports = ports;
        let needed = rules::needs_node_port(service);
        let mut mine: HashSet<u16> = HashSet::new();
        let used = self.used_ports();
        for (index, port) in ports.iter_mut().enumerate() {
            if !needed {
                if let Some(map) = port.as_object_mut() {
                    map.remove("nodePort");
                }
                continue;
            }
            let asked = port["nodePort"].as_u64().and_then(|port| u16::try_from(port).ok()).unwrap_or(0);
            let number = match asked {
                0 => self.pick_port(&used, &mine)?,
                asked => {
                    self.check_port(
                        service,
                        index,
                        asked,
                        held.contains(&asked) || mine.contains(&asked),
                        &used,
                    )?;
                    asked
                }
            };
            mine.insert(number);
            port["nodePort"] = number.into();
        }
        if !ports.is_empty() {
            service.set_at(&["spec", "ports"], ports);
        }
        if rules::needs_health_check(service) {
            if service.integer(&["spec", "healthCheckNodePort"]).unwrap_or(0) == 0 {
                let number = self.pick_port(&used, &mine)?;
                service.set_at(&["spec", "healthCheckNodePort"], number);
            }
        } else {
            service.remove_at(&["spec", "healthCheckNodePort"]);
        }
        Ok(())
    }

    fn check_port(
        &self,
        service: &Object,
        index: usize,
        port: u16,
        own: bool,
        used: &HashSet<u16>,
    ) -> Result<(), Status> {
        let why = if own {
            return Ok(());
        } else if !self.node_ports.contains(&port) {
            format!(
                "provided port is not in the valid range. The range of valid ports is {}-{}",
                self.node_ports.start(),
                self.node_ports.end()
            )
        } else if used.contains(&port) {
            "provided port is already allocated".to_owned()
        } else {
            return Ok(());
        };
        let (spec, ports) = (Path::new("spec"), "ports");
        let error = FieldError::invalid(&spec.child(ports).index(index).child("nodePort"), port, why);
        Err(Status::invalid("", "Service", service.name(), &[error]))
    }

    fn used_ports(&self) -> HashSet<u16> {
        let services = self.cache.resource("", "services").all();
        let nodes_ports = services
            .iter()
            .filter(|one| matches!(one.field("spec.type"), Some("NodePort" | "LoadBalancer") | None));
        nodes_ports.filter_map(|one| one.object().ok()).flat_map(|one| holdings(&one).1).collect()
    }

    fn pick_port(&self, used: &HashSet<u16>, mine: &HashSet<u16>) -> Result<u16, Status> {
        let free = |port: &u16| !used.contains(port) && !mine.contains(port);
        for _ in 0..RANDOM_TRIES {
            let port = rand::random_range(self.node_ports.clone());
            if free(&port) {
                return Ok(port);
            }
        }
        self.node_ports
            .clone()
            .find(free)
            .ok_or_else(|| Status::internal("failed to allocate a nodePort: range is full"))
    }

    fn address_object(&self, service: &Object, address: &IpAddr) -> bytes::Bytes {
        let object = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "IPAddress",
            "metadata": {
                "name": address.to_string(),
                "uid": uuid::Uuid::new_v4().to_string(),
                "creationTimestamp": api::time::format(self.clock.now()),
                "labels": {
                    "ipaddress.kubernetes.io/ip-family": if address.is_ipv4() { "IPv4" } else { "IPv6" },
                    "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
                },
            },
            "spec": {"parentRef": {
                "resource": "services", "namespace": service.namespace(), "name": service.name(),
            }},
        });
        let object = Object::from_value(object).expect("the literal is an object");
        stored::encode(&object, &[])
    }
}

impl Planner for ServiceAddresses {
    fn concerns(&self, kind: &Descriptor) -> bool {
        kind.group.is_empty() && kind.resource == "services"
    }

    fn plan<'a>(
        &'a self,
        old: Option<&'a Object>,
        new: Option<&'a mut Object>,
        attempt: u32,
    ) -> BoxFuture<'a, Result<Companions, Status>> {
        Box::pin(async move {
            if attempt > 0 {
                // Another server was quicker: see what it took.
                self.cache.refreshed().await.map_err(|error| crate::registry::store_failed(&error))?;
            }
            self.settle(old, new)
        })
    }
}

fn family(range: &IpNet) -> &'static str {
    if range.addr().is_ipv4() { "IPv4" } else { "IPv6" }
}

fn random_address(range: &IpNet) -> IpAddr {
    match range {
        IpNet::V4(range) => {
            let size = u32::from(range.broadcast()) - u32::from(range.network());
            let offset = rand::random_range(1..size.max(2));
            IpAddr::V4((u32::from(range.network()) + offset).into())
        }
        IpNet::V6(range) => {
            let bits = u32::from(128 - range.prefix_len()).min(32);
            let offset = rand::random_range(1..(1u128 << bits.max(1)));
            IpAddr::V6((u128::from(range.network()) + offset).into())
        }
    }
}

fn texts(value: Option<&Value>) -> Vec<String> {
    value
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

/// The addresses and node ports that a service holds.
fn holdings(service: &Object) -> (Vec<IpAddr>, Vec<u16>) {
    let ips = texts(service.at(&["spec", "clusterIPs"])).iter().filter_map(|ip| ip.parse().ok()).collect();
    let mut ports: Vec<u16> = service
        .at(&["spec", "ports"])
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|port| port["nodePort"].as_u64())
        .chain(service.integer(&["spec", "healthCheckNodePort"]).and_then(|port| u64::try_from(port).ok()))
        .filter_map(|port| u16::try_from(port).ok())
        .filter(|port| *port > 0)
        .collect();
    ports.sort_unstable();
    ports.dedup();
    (ips, ports)
}

fn address_key(address: &IpAddr) -> String {
    cache::key("networking.k8s.io", "ipaddresses", "", &address.to_string())
}

fn port_key(port: u16) -> String {
    format!("/allocations/nodeports/{port}")
}
