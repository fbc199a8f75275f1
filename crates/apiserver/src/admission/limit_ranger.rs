//! What a namespace says of the resources that pods, containers and claims may
//! ask for (upstream's `LimitRanger`): defaults are filled in, then least, most
//! and the ratio of limit to request are checked.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::quota::{self, Amounts};
use api::{Object, Quantity, Status};
use futures::future::BoxFuture;
use serde_json::{Map, Value};

use super::{Operation, Plugin, Request};
use crate::cache::{Selected, WatchCache};

const ANNOTATION: &str = "kubernetes.io/limit-ranger";

pub(super) struct LimitRanger {
    cache: Arc<WatchCache>,
}

impl LimitRanger {
    pub(super) const fn new(cache: Arc<WatchCache>) -> Self {
        Self { cache }
    }

    /// The limits that a request is under; none for what is not limited.
    fn limits(&self, request: &Request<'_>) -> Vec<Value> {
        let is_limited = match (request.operation, request.subresource) {
            (Operation::Create, "") => request.is("", "pods", "") || is_claim(request),
            (Operation::Update, "") => is_claim(request),
            (Operation::Update, "resize") => request.is("", "pods", "resize"),
            _ => false,
        };
        if !is_limited || request.old.as_ref().is_some_and(Object::is_terminating) {
            return Vec::new();
        }
        let selected = Selected { namespace: request.namespace.to_owned(), ..Selected::default() };
        let (ranges, _) = self.cache.resource("", "limitranges").list(&selected, 0, None);
        let ranges = ranges.iter().filter_map(|range| range.object().ok());
        ranges.flat_map(|range| list(range.at(&["spec", "limits"])).to_vec()).collect()
    }
}

impl Plugin for LimitRanger {
    fn mutate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            let limits = self.limits(request);
            if request.kind.resource == "pods"
                && let Some(pod) = &mut request.object
            {
                fill_in(pod, &limits);
            }
            Ok(())
        })
    }

    fn validate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            let Some(object) = &request.object else { return Ok(()) };
            let limits = self.limits(request);
            let broken: Vec<String> = if is_claim(request) {
                limits.iter().flat_map(|limit| judge_claim(limit, object)).collect()
            } else {
                limits.iter().flat_map(|limit| judge_pod(limit, object)).collect()
            };
            match broken.as_slice() {
                [] => Ok(()),
                [one] => Err(request.forbidden(one)),
                more => Err(request.forbidden(&format!("[{}]", more.join(", ")))),
            }
        })
    }
}

fn is_claim(request: &Request<'_>) -> bool {
    request.is("", "persistentvolumeclaims", "")
}

fn list(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Fills in what the containers of a pod leave out, and says so in an annotation.
fn fill_in(pod: &mut Object, limits: &[Value]) {
    let mut done = Vec::new();
    for limit in limits.iter().filter(|limit| limit["type"] == "Container") {
        for (field, what) in [("containers", "container"), ("initContainers", "init container")] {
            let mut containers = list(pod.at(&["spec", field])).to_vec();
            for container in &mut containers {
                let name = container["name"].as_str().unwrap_or_default().to_owned();
                for (from, to, word) in
                    [("defaultRequest", "requests", "request"), ("default", "limits", "limit")]
                {
                    let set = add_missing(container, to, limit[from].as_object());
                    if !set.is_empty() {
                        done.push(format!("{} {word} for {what} {name}", set.join(", ")));
                    }
                }
            }
            if !containers.is_empty() {
                pod.set_at(&["spec", field], containers);
            }
        }
    }
    if !done.is_empty() {
        pod.set_at(
            &["metadata", "annotations", ANNOTATION],
            format!("LimitRanger plugin set: {}", done.join("; ")),
        );
    }
}

/// Adds to a container's requests or limits what is missing; returns its names, sorted.
fn add_missing(container: &mut Value, to: &str, defaults: Option<&Map<String, Value>>) -> Vec<String> {
    let mut set = Vec::new();
    for (name, amount) in defaults.into_iter().flatten() {
        if container["resources"][to][name].is_null() {
            container["resources"][to][name] = amount.clone();
            set.push(name.clone());
        }
    }
    set.sort();
    set
}

fn judge_pod(limit: &Value, pod: &Object) -> Vec<String> {
    match limit["type"].as_str() {
        Some("Pod") => {
            let (requests, limits) = quota::pod_resources(pod);
            judge(limit, &requests, &limits)
        }
        Some("Container") => {
            let containers = list(pod.at(&["spec", "containers"])).iter();
            let all = containers.chain(list(pod.at(&["spec", "initContainers"])));
            let judged = all.flat_map(|container| {
                let resources = &container["resources"];
                judge(limit, &quota::amounts(&resources["requests"]), &quota::amounts(&resources["limits"]))
            });
            judged.collect()
        }
        _ => Vec::new(),
    }
}

fn judge(limit: &Value, requests: &Amounts, limits: &Amounts) -> Vec<String> {
    let kind = limit["type"].as_str().unwrap_or_default();
    let mut broken = Vec::new();
    for (name, least) in quota::amounts(&limit["min"]) {
        broken.extend(under(kind, &name, least, requests, limits));
    }
    for (name, most) in quota::amounts(&limit["max"]) {
        broken.extend(over(kind, &name, most, requests, limits));
    }
    for (name, ratio) in quota::amounts(&limit["maxLimitRequestRatio"]) {
        broken.extend(too_wide(kind, &name, ratio, requests, limits));
    }
    broken
}

/// Claims have requests only.
fn judge_claim(limit: &Value, claim: &Object) -> Vec<String> {
    if limit["type"] != "PersistentVolumeClaim" {
        return Vec::new();
    }
    let kind = "PersistentVolumeClaim";
    let requests = quota::amounts(claim.at(&["spec", "resources", "requests"]).unwrap_or(&Value::Null));
    let mut broken = Vec::new();
    for (name, least) in quota::amounts(&limit["min"]) {
        broken.extend(under(kind, &name, least, &requests, &BTreeMap::new()));
    }
    for (name, most) in quota::amounts(&limit["max"]) {
        let what = format!("maximum {name} usage per {kind} is {most}");
        match requests.get(&name) {
            None => broken.push(format!("{what}.  No request is specified")),
            Some(request) if *request > most => broken.push(format!("{what}, but request is {request}")),
            Some(_) => {}
        }
    }
    broken
}

fn under(kind: &str, name: &str, least: Quantity, requests: &Amounts, limits: &Amounts) -> Option<String> {
    let what = format!("minimum {name} usage per {kind} is {least}");
    match (requests.get(name), limits.get(name)) {
        (None, _) => Some(format!("{what}.  No request is specified")),
        (Some(request), _) if *request < least => Some(format!("{what}, but request is {request}")),
        (_, Some(limit)) if *limit < least => Some(format!("{what}, but limit is {limit}")),
        _ => None,
    }
}

fn over(kind: &str, name: &str, most: Quantity, requests: &Amounts, limits: &Amounts) -> Option<String> {
    let what = format!("maximum {name} usage per {kind} is {most}");
    match (requests.get(name), limits.get(name)) {
        (_, None) => Some(format!("{what}.  No limit is specified")),
        (_, Some(limit)) if *limit > most => Some(format!("{what}, but limit is {limit}")),
        (Some(request), _) if *request > most => Some(format!("{what}, but request is {request}")),
        _ => None,
    }
}

fn too_wide(kind: &str, name: &str, most: Quantity, requests: &Amounts, limits: &Amounts) -> Option<String> {
    let what = format!("{name} max limit to request ratio per {kind} is {most}");
    let known = |amounts: &Amounts| amounts.get(name).copied().filter(|amount| !amount.is_zero());
    let Some(request) = known(requests) else {
        return Some(format!("{what}, but no request is specified or request is 0"));
    };
    let Some(limit) = known(limits) else {
        return Some(format!("{what}, but no limit is specified or limit is 0"));
    };
    let ratio = limit.to_f64() / request.to_f64();
    (ratio > most.to_f64()).then(|| format!("{what}, but provided ratio is {ratio:.6}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(resources: Value) -> Object {
        let containers = json!([{"name": "c", "resources": resources}]);
        Object::from_value(json!({"spec": {"containers": containers}})).expect("an object")
    }

    #[test]
    fn what_is_left_out_is_filled_in() {
        let limit = json!({"type": "Container", "default": {"cpu": "2", "memory": "1Gi"}, "defaultRequest": {"cpu": "1"}});
        let mut filled = pod(json!({"limits": {"cpu": "3"}}));
        fill_in(&mut filled, &[limit]);
        assert_eq!(
            filled.at(&["spec", "containers"]).expect("containers")[0]["resources"],
            json!({"limits": {"cpu": "3", "memory": "1Gi"}, "requests": {"cpu": "1"}})
        );
        assert_eq!(
            filled.annotation(ANNOTATION),
            Some("LimitRanger plugin set: cpu request for container c; memory limit for container c")
        );
        let mut whole = pod(json!({}));
        let before = whole.clone();
        fill_in(&mut whole, &[json!({"type": "Pod", "max": {"cpu": "1"}})]);
        assert_eq!(whole, before);
    }

    #[test]
    fn limits_are_kept() {
        let asked = json!({"requests": {"cpu": "100m"}, "limits": {"cpu": "1"}});
        let cases = [
            (json!({"min": {"cpu": "100m"}, "max": {"cpu": "1"}, "maxLimitRequestRatio": {"cpu": "10"}}), ""),
            (json!({"min": {"cpu": "200m"}}), "minimum cpu usage per Container is 200m, but request is 100m"),
            (
                json!({"min": {"memory": "1Mi"}}),
                "minimum memory usage per Container is 1Mi.  No request is specified",
            ),
            (json!({"max": {"cpu": "500m"}}), "maximum cpu usage per Container is 500m, but limit is 1"),
            (
                json!({"max": {"memory": "1Mi"}}),
                "maximum memory usage per Container is 1Mi.  No limit is specified",
            ),
            (
                json!({"maxLimitRequestRatio": {"cpu": "3"}}),
                "cpu max limit to request ratio per Container is 3, but provided ratio is 10.000000",
            ),
            (
                json!({"maxLimitRequestRatio": {"memory": "3"}}),
                "memory max limit to request ratio per Container is 3, but no request is specified or request is 0",
            ),
        ];
        for (mut limit, expected) in cases {
            limit["type"] = "Container".into();
            assert_eq!(judge_pod(&limit, &pod(asked.clone())).join(", "), expected);
            limit["type"] = "Pod".into();
            let expected = expected.replace("Container", "Pod");
            assert_eq!(judge_pod(&limit, &pod(asked.clone())).join(", "), expected);
        }
    }

    #[test]
    fn claims_ask_for_enough_and_not_too_much() {
        let limit =
            json!({"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}, "max": {"storage": "2Gi"}});
        let kept = |asked: &str| {
            let claim = json!({"spec": {"resources": {"requests": {"storage": asked}}}});
            judge_claim(&limit, &Object::from_value(claim).expect("an object")).join(", ")
        };
        assert_eq!(kept("1Gi"), "");
        assert_eq!(kept("1Mi"), "minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 1Mi");
        assert_eq!(kept("3Gi"), "maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 3Gi");
    }
}
