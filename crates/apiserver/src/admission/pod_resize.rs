//! A running pod is not resized beyond what its node has (upstream's
//! `PodResizeValidator`).

use std::sync::Arc;

use api::status::{Cause, Details};
use api::{Object, Quantity, Status, quota};
use futures::future::BoxFuture;
use serde_json::Value;

use super::reading::find_object;
use super::{Operation, Plugin, Request};
use crate::cache::WatchCache;

pub(super) struct PodResizeValidator {
    cache: Arc<WatchCache>,
}

/// Why a resize is refused, and the name of the reason.
type Refusal = (&'static str, String);

impl PodResizeValidator {
    pub(super) const fn new(cache: Arc<WatchCache>) -> Self {
        Self { cache }
    }

    async fn judge(&self, request: &Request<'_>) -> Result<(), Status> {
        if !request.is("", "pods", "resize") || request.operation != Operation::Update {
            return Ok(());
        }
        let (Some(new), Some(old)) = (&request.object, &request.old) else { return Ok(()) };
        let name = new.text(&["spec", "nodeName"]);
        if name.is_empty() || new.generation() == old.generation() {
            return Ok(());
        }
        let node = find_object(&self.cache, ("", "nodes"), "", name).await?;
        let node = node.ok_or_else(|| request.forbidden(&format!("node {name:?} not found")))?;
        fits(new, &node).map_err(|(reason, why)| {
            let mut status = request.forbidden(&why);
            let details = status.details.get_or_insert_with(|| Box::new(Details::default()));
            details.causes.push(Cause { reason: reason.to_owned(), ..Cause::default() });
            status
        })
    }
}

impl Plugin for PodResizeValidator {
    fn validate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move { self.judge(request).await })
    }
}

fn fits(pod: &Object, node: &Object) -> Result<(), Refusal> {
    let system = node.text(&["metadata", "labels", "kubernetes.io/os"]);
    if !matches!(system, "" | "linux") {
        let name = node.name();
        let why = format!("pod resize is only supported on linux nodes, node {name:?} is {system:?}");
        return Err(("UnsupportedPlatform", why));
    }
    let (mut asked, _) = quota::pod_resources(pod);
    quota::add(&mut asked, &quota::amounts(pod.at(&["spec", "overhead"]).unwrap_or(&Value::Null)));
    let offered = quota::amounts(node.at(&["status", "allocatable"]).unwrap_or(&Value::Null));
    let of = |amounts: &quota::Amounts, name: &str| amounts.get(name).copied().unwrap_or_default();
    let units: [(&str, fn(Quantity) -> i64); 2] = [("cpu", Quantity::millis), ("memory", Quantity::units)];
    let short = units.into_iter().filter(|(name, _)| of(&asked, name) > of(&offered, name));
    let told: Vec<String> = short
        .map(|(name, unit)| {
            let (asked, offered) = (unit(of(&asked, name)), unit(of(&offered, name)));
            format!("{name}, requested: {asked}, allocatable: {offered}")
        })
        .collect();
    if told.is_empty() {
        return Ok(());
    }
    let why = format!("node didn't have enough allocatable resources: {}", told.join("; "));
    Err(("NodeCapacity", why))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_stays_within_its_node() {
        let pod = |cpu: &str| {
            let requests = json!({"requests": {"cpu": cpu, "memory": "1Gi"}});
            Object::from_value(json!({"spec": {"containers": [{"resources": requests}]}})).expect("an object")
        };
        let node = |system: &str| {
            Object::from_value(json!({
                "metadata": {"name": "n", "labels": {"kubernetes.io/os": system}},
                "status": {"allocatable": {"cpu": "2", "memory": "1Gi"}},
            }))
            .expect("an object")
        };
        assert_eq!(fits(&pod("2"), &node("linux")), Ok(()));
        let why = "node didn't have enough allocatable resources: cpu, requested: 3000, allocatable: 2000";
        assert_eq!(fits(&pod("3"), &node("linux")), Err(("NodeCapacity", why.to_owned())));
        let why = "pod resize is only supported on linux nodes, node \"n\" is \"windows\"";
        assert_eq!(fits(&pod("1"), &node("windows")), Err(("UnsupportedPlatform", why.to_owned())));
    }
}
