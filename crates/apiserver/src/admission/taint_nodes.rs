//! A new node takes no pods before somebody has seen that it is ready
//! (upstream's `TaintNodesByCondition`); the node lifecycle controller removes
//! the taint.

use api::{Object, Status};
use futures::future::BoxFuture;
use serde_json::{Value, json};

use super::{Operation, Plugin, Request};

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const EFFECT: &str = "NoSchedule";

pub(super) struct TaintNodesByCondition;

impl Plugin for TaintNodesByCondition {
    fn mutate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            if request.is("", "nodes", "")
                && request.operation == Operation::Create
                && let Some(node) = &mut request.object
            {
                taint(node);
            }
            Ok(())
        })
    }
}

fn taint(node: &mut Object) {
    let mut taints = node.at(&["spec", "taints"]).and_then(Value::as_array).cloned().unwrap_or_default();
    if !taints.iter().any(|one| one["key"] == NOT_READY && one["effect"] == EFFECT) {
        taints.push(json!({"key": NOT_READY, "effect": EFFECT}));
        node.set_at(&["spec", "taints"], taints);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_tainted_once() {
        let mut node = Object::default();
        node.set_at(&["spec", "taints"], json!([{"key": NOT_READY, "effect": "NoExecute"}]));
        taint(&mut node);
        let once = node.clone();
        taint(&mut node);
        assert_eq!(node, once);
        assert_eq!(
            node.at(&["spec", "taints"]),
            Some(&json!([{"key": NOT_READY, "effect": "NoExecute"}, {"key": NOT_READY, "effect": EFFECT}]))
        );
    }
}
