//! Pods stay for five minutes on a node that is not ready or not reachable,
//! unless they say otherwise.

use api::Status;
use futures::future::BoxFuture;
use serde_json::{Value, json};

use super::{Operation, Plugin, Request};

const SECONDS: i64 = 300;
const TAINTS: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

pub(super) struct DefaultTolerationSeconds;

impl Plugin for DefaultTolerationSeconds {
    fn mutate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            if request.is("", "pods", "")
                && request.operation == Operation::Create
                && let Some(pod) = &mut request.object
            {
                add(pod);
            }
            Ok(())
        })
    }
}

fn add(pod: &mut api::Object) {
    let mut tolerations: Vec<Value> =
        pod.at(&["spec", "tolerations"]).and_then(Value::as_array).cloned().unwrap_or_default();
    let before = tolerations.len();
    for taint in TAINTS {
        let tolerated = tolerations.iter().any(|one| {
            let key = one["key"].as_str().unwrap_or_default();
            let effect = one["effect"].as_str().unwrap_or_default();
            (key == taint || key.is_empty()) && matches!(effect, "" | "NoExecute")
        });
        if !tolerated {
            tolerations.push(json!({
                "key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": SECONDS,
            }));
        }
    }
    if tolerations.len() > before {
        pod.set_at(&["spec", "tolerations"], tolerations);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_missing_is_added() {
        let mut pod = api::Object::default();
        pod.set_at(&["spec", "tolerations"], json!([{"key": TAINTS[0], "operator": "Exists"}]));
        add(&mut pod);
        let keys: Vec<_> = pod
            .at(&["spec", "tolerations"])
            .and_then(Value::as_array)
            .expect("list")
            .iter()
            .map(|one| one["key"].clone())
            .collect();
        assert_eq!(keys, TAINTS.map(Value::from));
        let mut all = api::Object::default();
        all.set_at(&["spec", "tolerations"], json!([{"operator": "Exists"}]));
        let before = all.clone();
        add(&mut all);
        assert_eq!(all, before);
    }
}
