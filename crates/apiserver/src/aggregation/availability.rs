//! Whether API services can be used: their `Available` condition, with upstream's
//! reasons, and what their servers say of their resources.

use std::sync::Arc;
use std::time::Duration;

use api::{Object, Reason, Status};
use daemon::{Shutdown, tasks};
use resources::Part;
use serde_json::{Value, json};

use super::{Aggregation, GROUP, GROUPS, RESOURCE, Remote, USER, local};
use crate::authn::MASTERS;
use crate::cache::Selected;
use crate::connect::{Destination, Place};
use crate::gate::Gate;
use crate::registry::{Address, Caller, Owners, UpdateOptions};

/// How often everything is looked at, even if nothing changed here.
const LOOK: Duration = Duration::from_secs(30);
/// How soon after changes.
const SOON: Duration = Duration::from_millis(200);
/// How long a server has for the list of its resources.
const ANSWER: Duration = Duration::from_secs(5);

/// Whom the server asks as when it asks for itself.
const SELF: [(&str, &str); 2] = [(USER, "system:kube-aggregator"), (GROUPS, MASTERS)];

/// A condition's status, reason and message.
type Verdict = (bool, &'static str, String);

/// Registers what is served here and looks after all API services from then on.
pub(crate) fn start(aggregation: &Arc<Aggregation>, gate: &Arc<Gate>, shutdown: Shutdown) {
    let (aggregation, gate) = (Arc::clone(aggregation), Arc::clone(gate));
    tasks::spawn("api-services", async move {
        let cache = gate.registry().cache();
        let follow = |group: &str, resource: &str| cache.resource(group, resource).changed();
        let mut services = follow("", "services");
        let mut slices = follow("discovery.k8s.io", "endpointslices");
        let mut own = follow(GROUP, RESOURCE);
        let mut definitions = follow("apiextensions.k8s.io", "customresourcedefinitions");
        loop {
            for changed in [&mut services, &mut slices, &mut own, &mut definitions] {
                changed.mark_unchanged();
            }
            if let Err(error) = local::register(&gate).await {
                tracing::warn!(%error, "cannot register what is served here");
            }
            aggregation.look(&gate).await;
            tokio::select! {
                () = shutdown.begun() => return,
                _ = services.changed(), if aggregation.has_remotes() => {}
                _ = slices.changed(), if aggregation.has_remotes() => {}
                _ = own.changed() => {}
                _ = definitions.changed() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
            // Changes come in groups.
            tokio::time::sleep(SOON).await;
        }
    });
}

impl Aggregation {
    fn has_remotes(&self) -> bool {
        !self.remotes().is_empty()
    }

    /// Looks at every API service once.
    async fn look(&self, gate: &Arc<Gate>) {
        let (found, _) = self.cache.resource(GROUP, RESOURCE).list(&Selected::default(), 0, None);
        for service in found.iter().filter_map(|stored| stored.object().ok()) {
            let verdict = match Remote::read(&service) {
                None => (true, "Local", "Local APIServices are always available".to_owned()),
                Some(remote) => self.judge(&remote).await,
            };
            if let Err(error) = tell(gate, &service, &verdict).await {
                tracing::warn!(name = service.name(), %error, "cannot tell whether an API service is available");
            }
        }
        let remotes = self.remotes();
        self.said.write().retain(|name, _| remotes.iter().any(|remote| remote.name == *name));
    }

    async fn judge(&self, remote: &Remote) -> Verdict {
        let failed = |reason, message: String| (false, reason, message);
        let to = match &remote.to {
            Ok(to) => to,
            Err(why) => return failed("ServiceNotFound", why.clone()),
        };
        if let Place::Service { namespace, name, port } = &to.place
            && let Err(verdict) = self.judge_service(namespace, name, *port)
        {
            return verdict;
        }
        let path = format!("/apis/{}/{}", remote.group, remote.version);
        match self.ask(to, remote, &path).await {
            Ok(list) => {
                // A server without a document is as good as others.
                let document = self.ask(to, remote, "/openapi/v2").await.ok();
                self.remember(remote, list, document);
                (true, "Passed", "all checks passed".to_owned())
            }
            Err(why) => failed(
                "FailedDiscoveryCheck",
                format!("failing or missing response from https://{}{path}: {why}", to.authority()),
            ),
        }
    }

    async fn ask(&self, to: &Destination, remote: &Remote, path: &str) -> Result<Value, String> {
        let identity = (self.identity.clone(), remote.trust);
        let bytes = self.outward.get(to, path, &SELF, identity, ANSWER).await?;
        serde_json::from_slice(&bytes).map_err(|error| error.to_string())
    }

    /// Keeps what a server says; what it said before stays the same value, so that
    /// what was made of it stands.
    fn remember(&self, remote: &Remote, list: Value, document: Option<Value>) {
        let mut all = self.said.write();
        let said = all.entry(remote.name.clone()).or_default();
        if *said.resources != list {
            said.resources = Arc::new(list);
        }
        if said.document.as_deref() != document.as_ref() {
            said.document = document.map(Arc::new);
        }
    }

    /// Whether a service has the port, and somebody behind it.
    fn judge_service(&self, namespace: &str, name: &str, port: u16) -> Result<(), Verdict> {
        let found = self.cache.resource("", "services").get(namespace, name);
        let Some(service) = found.and_then(|found| found.object().ok()) else {
            return Err((
                false,
                "ServiceNotFound",
                format!("service/{name} in {namespace:?} is not present"),
            ));
        };
        if service.text(&["spec", "type"]) == "ExternalName" {
            return Ok(());
        }
        let ports = service.at(&["spec", "ports"]).and_then(Value::as_array);
        let Some(found) = ports.into_iter().flatten().find(|one| one["port"] == port) else {
            let message = format!("service/{name} in {namespace:?} is not listening on port {port}");
            return Err((false, "ServicePortError", message));
        };
        if !self.outward.has_endpoints(namespace, name, port) {
            let port = found["name"].as_str().unwrap_or_default();
            let message = format!(
                "endpointslices for service/{name} in {namespace:?} have no addresses with port name {port:?}"
            );
            return Err((false, "MissingEndpoints", message));
        }
        Ok(())
    }
}

/// Writes a condition where it says something new.
async fn tell(gate: &Arc<Gate>, service: &Object, verdict: &Verdict) -> Result<(), Status> {
    let registry = gate.registry();
    let now = api::time::format(registry.clock().now());
    let wanted = |current: &Object| with_condition(current, verdict, &now);
    if wanted(service).is_none() {
        return Ok(());
    }
    let kind = registry.kinds().find(GROUP, "v1", RESOURCE).ok_or_else(Status::no_such_resource)?;
    let address = Address { kind, namespace: String::new(), name: service.name().to_owned() };
    let transform = |current: &Object| Ok((wanted(current).unwrap_or_else(|| current.clone()), Vec::new()));
    let options = UpdateOptions { owners: Owners::Track, ..UpdateOptions::default() };
    match registry.change(&Caller::server(), &address, Part::Status, &options, &transform).await {
        // It is gone, or will be looked at again.
        Err(status) if matches!(status.reason, Reason::Conflict | Reason::NotFound) => Ok(()),
        other => other.map(drop),
    }
}

/// The object with the condition; nothing if it says so already.
fn with_condition(service: &Object, (is_available, reason, message): &Verdict, now: &str) -> Option<Object> {
    let status = if *is_available { "True" } else { "False" };
    let mut conditions =
        service.at(&["status", "conditions"]).and_then(Value::as_array).cloned().unwrap_or_default();
    let known = conditions.iter().position(|one| one["type"] == "Available");
    let before = known.map(|at| conditions.remove(at));
    let since = before
        .as_ref()
        .filter(|before| before["status"] == status)
        .map_or_else(|| Value::from(now), |before| before["lastTransitionTime"].clone());
    let condition = json!({
        "type": "Available", "status": status, "reason": reason, "message": message, "lastTransitionTime": since,
    });
    if before.as_ref() == Some(&condition) {
        return None;
    }
    conditions.insert(known.unwrap_or(conditions.len()), condition);
    let mut new = service.clone();
    new.set_at(&["status", "conditions"], conditions);
    Some(new)
}
