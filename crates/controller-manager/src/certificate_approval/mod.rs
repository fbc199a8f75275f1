//! Approves kubelets' requests for certificates that they may have (upstream:
//! `pkg/controller/certificates/approver`; serving certificates are ours, see
//! `docs/decisions/0006-serving-certificates-of-kubelets.md`).

mod plan;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use api::ObjectKey;
use api::types::certificates::v1::CertificateSigningRequest;
use api::types::core::v1::{Endpoints, Node, Service};
use client::Cache;
use reconcile::{Loop, Moment, Plan, Reconciler};

use crate::controllers::Context;
use crate::signing_requests::{self as requests, Asked};

/// The loop's caches; its keys are requests.
pub struct Approval {
    requests: Arc<Cache<CertificateSigningRequest>>,
    nodes: Arc<Cache<Node>>,
    services: Arc<Cache<Service>>,
    endpoints: Arc<Cache<Endpoints>>,
}

/// What a plan is made of.
pub struct Observed {
    request: Arc<CertificateSigningRequest>,
    asked: Asked,
    neighbours: Neighbours,
}

/// Who has which address, as far as it matters for a serving certificate.
#[derive(Debug, Default)]
pub struct Neighbours {
    /// The addresses of the requesting node, if it is known already.
    own: Option<HashSet<IpAddr>>,
    /// The addresses of other nodes, of services, and of the API server.
    taken: HashSet<IpAddr>,
}

/// The loop, wired.
pub fn start(context: &Context) -> Loop {
    let caches = &context.caches;
    let reconciler = Approval {
        requests: caches.signing_requests(),
        nodes: caches.nodes(),
        services: caches.services(),
        endpoints: caches.endpoints(),
    };
    let (requests, nodes) = (Arc::clone(&reconciler.requests), Arc::clone(&reconciler.nodes));
    let (services, endpoints) = (Arc::clone(&reconciler.services), Arc::clone(&reconciler.endpoints));
    Loop::new(reconciler, 5).own(&requests).reads(&nodes).reads(&services).reads(&endpoints)
}

fn addresses(node: &Node) -> impl Iterator<Item = IpAddr> {
    let all = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
    all.filter_map(|one| one.address.parse().ok())
}

impl Approval {
    fn neighbours(&self, node: &str) -> Neighbours {
        let mut neighbours = Neighbours::default();
        for other in self.nodes.list() {
            if other.metadata.name.as_deref() == Some(node) {
                neighbours.own = Some(addresses(&other).collect());
            } else {
                neighbours.taken.extend(addresses(&other));
            }
        }
        for service in self.services.list() {
            let Some(spec) = &service.spec else { continue };
            let all = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip);
            neighbours.taken.extend(all.filter_map(|one| one.parse::<IpAddr>().ok()));
        }
        if let Some(server) = self.endpoints.get("default", "kubernetes") {
            let subsets = server.subsets.iter().flatten();
            let all = subsets.flat_map(|subset| subset.addresses.iter().flatten());
            neighbours.taken.extend(all.filter_map(|one| one.ip.parse::<IpAddr>().ok()));
        }
        neighbours
    }
}

impl Reconciler for Approval {
    const NAME: &'static str = "certificatesigningrequest-approving";
    type Observed = Observed;

    fn observe(&self, key: &ObjectKey) -> Option<Observed> {
        let request = self.requests.get_key(key).filter(|request| plan::is_open(request))?;
        // What cannot be read is nobody's to approve without a look.
        let asked = requests::read(&request.spec.request.0).ok()?;
        let is_serving = request.spec.signer_name == requests::KUBELET_SERVING;
        let node = requests::node(&asked).filter(|_| is_serving);
        let neighbours = node.map(|node| self.neighbours(node)).unwrap_or_default();
        Some(Observed { request, asked, neighbours })
    }

    fn plan(&self, observed: &Observed, moment: &Moment) -> Plan {
        plan::plan(&observed.request, &observed.asked, &observed.neighbours, moment.now)
    }
}
