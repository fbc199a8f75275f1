//! The group versions that this server answers itself, as API services: so that all
//! are found in one list, and nobody takes one over by mistake.

use std::sync::Arc;

use api::{LabelSelector, Object, Reason, Status};
use serde_json::json;

use super::{GROUP, RESOURCE};
use crate::cache::Selected;
use crate::gate::Gate;
use crate::registry::{Address, Caller, CreateOptions, DeleteOptions};

/// Who looks after an API service: `onstart` for what is built in, `true` for what
/// comes and goes with definitions.
const MANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";
/// The priority of the first built-in group; each later one has a little less.
const FIRST: i64 = 18_000;
const STEP: i64 = 100;
/// The priorities of custom resources.
const CUSTOM: (i64, i64) = (1_000, 100);

/// Makes what is missing, and takes away what is not served any more.
pub(super) async fn register(gate: &Arc<Gate>) -> Result<(), Status> {
    let registry = gate.registry();
    let kind = registry.kinds().find(GROUP, "v1", RESOURCE).ok_or_else(Status::no_such_resource)?;
    let known = registry.cache().resource(GROUP, RESOURCE);
    let address =
        |name: &str| Address { kind: Arc::clone(&kind), namespace: String::new(), name: name.to_owned() };
    let mut groups: Vec<String> = Vec::new();
    let mut served: Vec<String> = Vec::new();
    for own in registry.kinds().all() {
        let name = format!("{}.{}", own.version, own.group);
        if served.contains(&name) {
            continue;
        }
        if !groups.contains(&own.group) {
            groups.push(own.group.clone());
        }
        let is_custom = own.strategy.document().is_some();
        let version_priority = 15 - i64::try_from(served.len() % 15).unwrap_or_default();
        served.push(name.clone());
        if known.get("", &name).is_some() {
            continue;
        }
        let rank = i64::try_from(groups.len() - 1).unwrap_or_default();
        let (group_priority, version_priority) =
            if is_custom { CUSTOM } else { (FIRST - rank * STEP, version_priority) };
        let object = json!({
            "apiVersion": format!("{GROUP}/v1"), "kind": "APIService",
            "metadata": {"name": name, "labels": {MANAGED: if is_custom { "true" } else { "onstart" }}},
            "spec": {
                "group": own.group, "version": own.version,
                "groupPriorityMinimum": group_priority, "versionPriority": version_priority,
            },
        });
        let mut object = Object::from_value(object).map_err(Status::internal)?;
        kind.conform(&mut object).map_err(Status::internal)?;
        let options = CreateOptions::default();
        match registry.create(&Caller::server(), address(&name), object, &options, Vec::new()).await {
            Err(status) if status.reason == Reason::AlreadyExists => {}
            other => drop(other?),
        }
    }
    let labels = LabelSelector::parse(&format!("{MANAGED}=true")).map_err(Status::internal)?;
    let (managed, _) = known.list(&Selected { labels, ..Selected::default() }, 0, None);
    for gone in managed.iter().filter(|one| !served.iter().any(|name| name == one.name())) {
        match registry.delete(&Caller::server(), &address(gone.name()), &DeleteOptions::default()).await {
            Err(status) if status.reason == Reason::NotFound => {}
            other => drop(other?),
        }
    }
    Ok(())
}
