//! What the runtime class of a pod costs, and where it runs (upstream's
//! `RuntimeClass`).

use std::sync::Arc;

use api::{Object, Status, quota};
use futures::future::BoxFuture;
use serde_json::Value;

use super::pods::list;
use super::tolerations::merged;
use super::{Operation, Plugin, Request};
use crate::cache::WatchCache;

const MISMATCH: &str = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";

pub(super) struct RuntimeClass {
    cache: Arc<WatchCache>,
}

impl RuntimeClass {
    pub(super) const fn new(cache: Arc<WatchCache>) -> Self {
        Self { cache }
    }

    /// The class that a new pod names.
    async fn class(&self, request: &Request<'_>) -> Result<Option<Object>, Status> {
        let name = request.object.as_ref().and_then(|pod| pod.at(&["spec", "runtimeClassName"]));
        let Some(name) = name.and_then(Value::as_str) else { return Ok(None) };
        let classes = self.cache.resource("node.k8s.io", "runtimeclasses");
        let mut found = classes.get("", name);
        if found.is_none() {
            // It may have been made a moment ago.
            self.cache.refreshed().await.map_err(|error| crate::registry::store_failed(&error))?;
            found = classes.get("", name);
        }
        let missing = || request.forbidden(&format!("pod rejected: RuntimeClass {name:?} not found"));
        found.ok_or_else(missing)?.object().map(Some).map_err(Status::internal)
    }
}

fn is_new_pod(request: &Request<'_>) -> bool {
    request.is("", "pods", "") && request.operation == Operation::Create
}

impl Plugin for RuntimeClass {
    fn mutate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            if !is_new_pod(request) {
                return Ok(());
            }
            let Some(class) = self.class(request).await? else { return Ok(()) };
            let Some(pod) = &mut request.object else { return Ok(()) };
            apply(pod, &class).map_err(|why| request.forbidden(&why))
        })
    }

    fn validate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            if !is_new_pod(request) {
                return Ok(());
            }
            let class = self.class(request).await?;
            let Some(pod) = &request.object else { return Ok(()) };
            judge(pod, class.as_ref()).map_err(|why| request.forbidden(why))
        })
    }
}

fn is_same_overhead(pod: &Object, fixed: &Value) -> bool {
    quota::amounts(pod.at(&["spec", "overhead"]).unwrap_or(&Value::Null)) == quota::amounts(fixed)
}

fn overhead(class: &Object) -> Option<&Value> {
    class.get("overhead").map(|overhead| &overhead["podFixed"])
}

/// Writes into a pod what its class says.
fn apply(pod: &mut Object, class: &Object) -> Result<(), String> {
    if let Some(fixed) = overhead(class) {
        let says = pod.at(&["spec", "overhead"]).and_then(Value::as_object);
        if says.is_some_and(|says| !says.is_empty()) && !is_same_overhead(pod, fixed) {
            return Err(MISMATCH.to_owned());
        }
        if !fixed.is_null() {
            pod.set_at(&["spec", "overhead"], fixed.clone());
        }
    }
    let Some(scheduling) = class.get("scheduling") else { return Ok(()) };
    for (key, value) in scheduling["nodeSelector"].as_object().into_iter().flatten() {
        let value = value.as_str().unwrap_or_default();
        let said = pod.at(&["spec", "nodeSelector", key]).and_then(Value::as_str);
        if let Some(said) = said.filter(|said| *said != value) {
            return Err(format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}; \
                 pod.spec.nodeSelector[{key}] = {said}"
            ));
        }
        pod.set_at(&["spec", "nodeSelector", key], value);
    }
    let of_class = scheduling["tolerations"].as_array().map_or(&[][..], Vec::as_slice);
    if !of_class.is_empty() {
        let merged = merged(list(pod, "tolerations"), of_class);
        pod.set_at(&["spec", "tolerations"], merged);
    }
    Ok(())
}

fn judge(pod: &Object, class: Option<&Object>) -> Result<(), &'static str> {
    match class.and_then(overhead) {
        Some(fixed) if is_same_overhead(pod, fixed) => Ok(()),
        Some(_) => Err(MISMATCH),
        None if pod.at(&["spec", "overhead"]).is_none() => Ok(()),
        None => Err("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Object {
        Object::from_value(value).expect("an object")
    }

    #[test]
    fn a_class_is_written_into_its_pods() {
        let class = object(json!({
            "overhead": {"podFixed": {"cpu": "100m"}},
            "scheduling": {"nodeSelector": {"vm": "yes"}, "tolerations": [{"key": "vm", "operator": "Exists"}]},
        }));
        let applied = |spec: Value| {
            let mut pod = object(json!({"spec": spec}));
            apply(&mut pod, &class).map(|()| pod.get("spec").cloned().unwrap_or_default())
        };
        let whole = json!({
            "overhead": {"cpu": "100m"}, "nodeSelector": {"vm": "yes"},
            "tolerations": [{"key": "vm", "operator": "Exists"}],
        });
        assert_eq!(applied(json!({})), Ok(whole.clone()));
        assert_eq!(applied(whole.clone()), Ok(whole));
        assert_eq!(applied(json!({"overhead": {"cpu": "1"}})), Err(MISMATCH.to_owned()));
        assert_eq!(
            applied(json!({"nodeSelector": {"vm": "no"}})),
            Err("conflict: runtimeClass.scheduling.nodeSelector[vm] = yes; pod.spec.nodeSelector[vm] = no"
                .to_owned())
        );
    }

    #[test]
    fn overhead_comes_from_a_class() {
        let class = object(json!({"overhead": {"podFixed": {"cpu": "100m"}}}));
        let pod = |spec: Value| object(json!({"spec": spec}));
        assert_eq!(judge(&pod(json!({"overhead": {"cpu": "0.1"}})), Some(&class)), Ok(()));
        assert_eq!(judge(&pod(json!({})), Some(&class)), Err(MISMATCH));
        assert_eq!(judge(&pod(json!({})), Some(&object(json!({})))), Ok(()));
        assert!(judge(&pod(json!({"overhead": {"cpu": "1"}})), None).is_err());
    }
}
