//! What is known of the cluster: services, endpoints, namespaces, as the caches
//! hold them.

use std::net::IpAddr;
use std::sync::Arc;

use api::ObjectKey;
use api::types::core::v1::{Namespace, Service};
use api::types::discovery::v1::EndpointSlice;
use client::{Cache, Client, Scope};

const BY_ADDRESS: &str = "address";
const BY_SERVICE: &str = "service";

/// The cluster's domain and its objects.
pub struct Zone {
    /// The domain's labels, in lower case.
    pub domain: Vec<String>,
    /// Services.
    pub services: Arc<Cache<Service>>,
    /// Endpoint slices.
    pub slices: Arc<Cache<EndpointSlice>>,
    /// Namespaces.
    pub namespaces: Arc<Cache<Namespace>>,
}

/// An endpoint of a service without an address of its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// Its label below the service's name.
    pub label: String,
    /// Its address.
    pub address: IpAddr,
    /// Its ports: name, protocol in lower case, number.
    pub ports: Vec<(String, String, u16)>,
}

impl Zone {
    /// A zone that follows the API server.
    #[must_use]
    pub fn start(domain: &str, client: &Client) -> Self {
        Self {
            domain: labels(domain),
            services: Cache::start_indexed(client, Scope::default(), vec![(BY_ADDRESS, service_addresses)]),
            slices: Cache::start_indexed(
                client,
                Scope::default(),
                vec![(BY_SERVICE, slice_service), (BY_ADDRESS, slice_addresses)],
            ),
            namespaces: Cache::start(client, Scope::default()),
        }
    }

    /// A zone whose caches the caller fills.
    #[must_use]
    pub fn empty(domain: &str) -> Self {
        Self {
            domain: labels(domain),
            services: Arc::new(Cache::empty(vec![(BY_ADDRESS, service_addresses)])),
            slices: Arc::new(Cache::empty(vec![(BY_SERVICE, slice_service), (BY_ADDRESS, slice_addresses)])),
            namespaces: Arc::new(Cache::empty(Vec::new())),
        }
    }

    /// Whether everything was listed once.
    #[must_use]
    pub fn is_filled(&self) -> bool {
        self.services.is_synced() && self.slices.is_synced() && self.namespaces.is_synced()
    }

    /// Waits until everything was listed once.
    pub async fn filled(&self) {
        tokio::join!(self.services.synced(), self.slices.synced(), self.namespaces.synced());
    }

    /// The ready endpoints of a service, sorted.
    #[must_use]
    pub fn endpoints(&self, namespace: &str, service: &str) -> Vec<Endpoint> {
        let slices = self.slices.indexed(BY_SERVICE, &ObjectKey::new(namespace, service).to_string());
        let mut found: Vec<Endpoint> = slices.iter().flat_map(|slice| slice_endpoints(slice)).collect();
        found.sort();
        found.dedup();
        found
    }

    /// The names that belong to an address, without the domain.
    #[must_use]
    pub fn names_of(&self, address: IpAddr) -> Vec<String> {
        let term = address.to_string();
        let services = self.services.indexed(BY_ADDRESS, &term);
        let mut names: Vec<String> = services
            .iter()
            .map(|service| ObjectKey::of(&**service))
            .map(|key| format!("{}.{}.svc", key.name, key.namespace))
            .collect();
        for slice in self.slices.indexed(BY_ADDRESS, &term) {
            let Some(service) = slice_service_key(&slice) else { continue };
            let headless = self.services.get_key(&service).is_some_and(|service| is_headless(&service));
            let here = slice_endpoints(&slice).filter(|endpoint| endpoint.address == address && headless);
            names.extend(here.map(|one| format!("{}.{}.{}.svc", one.label, service.name, service.namespace)));
        }
        names.sort();
        names.dedup();
        names
    }
}

/// The labels of a name, in lower case.
#[must_use]
pub fn labels(name: &str) -> Vec<String> {
    name.split('.').filter(|label| !label.is_empty()).map(str::to_lowercase).collect()
}

/// Whether a service has no address of its own.
#[must_use]
pub fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None")
}

/// A service's addresses.
#[must_use]
pub fn addresses(service: &Service) -> Vec<IpAddr> {
    service_addresses(service).iter().filter_map(|text| text.parse().ok()).collect()
}

fn service_addresses(service: &Service) -> Vec<String> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let texts = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip);
    let mut addresses: Vec<IpAddr> = texts.filter_map(|text| text.parse().ok()).collect();
    addresses.sort();
    addresses.dedup();
    addresses.iter().map(ToString::to_string).collect()
}

fn slice_service_key(slice: &EndpointSlice) -> Option<ObjectKey> {
    let name = slice.metadata.labels.as_ref()?.get("kubernetes.io/service-name")?;
    Some(ObjectKey::new(slice.metadata.namespace.clone().unwrap_or_default(), name.clone()))
}

fn slice_service(slice: &EndpointSlice) -> Vec<String> {
    slice_service_key(slice).map(|key| key.to_string()).into_iter().collect()
}

fn slice_addresses(slice: &EndpointSlice) -> Vec<String> {
    slice_endpoints(slice).map(|endpoint| endpoint.address.to_string()).collect()
}

fn slice_endpoints(slice: &EndpointSlice) -> impl Iterator<Item = Endpoint> {
    let port = |port: &api::types::discovery::v1::EndpointPort| {
        let protocol = port.protocol.as_deref().unwrap_or("TCP").to_lowercase();
        Some((port.name.clone().unwrap_or_default(), protocol, u16::try_from(port.port?).ok()?))
    };
    let ports: Vec<_> = slice.ports.iter().flatten().filter_map(port).collect();
    let ready = slice.endpoints.iter().flatten().filter(|endpoint| {
        endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true)
    });
    ready.flat_map(move |endpoint| {
        let ports = ports.clone();
        let hostname = endpoint.hostname.clone().filter(|name| !name.is_empty());
        endpoint.addresses.iter().filter_map(|text| text.parse().ok()).map(move |address: IpAddr| Endpoint {
            label: hostname
                .clone()
                .unwrap_or_else(|| address.to_string().replace(['.', ':'], "-"))
                .to_lowercase(),
            address,
            ports: ports.clone(),
        })
    })
}
