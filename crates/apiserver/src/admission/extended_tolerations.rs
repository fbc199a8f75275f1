//! A pod that asks for a resource which only some nodes offer tolerates the
//! taint that keeps others away from them (upstream's
//! `ExtendedResourceToleration`; off unless it is asked for).

use std::collections::BTreeSet;

use api::{Object, Status};
use futures::future::BoxFuture;
use resources::kinds::pod::is_extended;
use serde_json::{Value, json};

use super::{Operation, Plugin, Request};

pub(super) struct ExtendedResourceToleration;

impl Plugin for ExtendedResourceToleration {
    fn mutate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            if request.is("", "pods", "")
                && matches!(request.operation, Operation::Create | Operation::Update)
                && let Some(pod) = &mut request.object
            {
                tolerate(pod);
            }
            Ok(())
        })
    }
}

fn tolerate(pod: &mut Object) {
    let containers = ["containers", "initContainers"]
        .into_iter()
        .filter_map(|list| pod.at(&["spec", list])?.as_array())
        .flatten();
    let asked = containers.filter_map(|one| one["resources"]["requests"].as_object()).flatten();
    let names: BTreeSet<String> =
        asked.map(|(name, _)| name).filter(|name| is_extended(name)).cloned().collect();
    if names.is_empty() {
        return;
    }
    let mut tolerations =
        pod.at(&["spec", "tolerations"]).and_then(Value::as_array).cloned().unwrap_or_default();
    for name in names {
        let wanted = json!({"key": name, "operator": "Exists", "effect": "NoSchedule"});
        let is_same = |one: &Value| {
            ["key", "operator", "effect"].iter().all(|field| one[*field] == wanted[*field])
                && one["value"].as_str().unwrap_or_default().is_empty()
        };
        if !tolerations.iter().any(is_same) {
            tolerations.push(wanted);
        }
    }
    pod.set_at(&["spec", "tolerations"], tolerations);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_extended_resources_are_tolerated_and_once() {
        let requests = json!({"requests": {"cpu": "1", "example.com/gpu": "1", "hugepages-2Mi": "2Mi"}});
        let spec =
            json!({"containers": [{"resources": requests}], "initContainers": [{"resources": requests}]});
        let mut pod = Object::from_value(json!({"spec": spec})).expect("an object");
        tolerate(&mut pod);
        let once = pod.clone();
        tolerate(&mut pod);
        assert_eq!(pod, once);
        assert_eq!(
            pod.at(&["spec", "tolerations"]),
            Some(&json!([{"key": "example.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]))
        );
    }
}
