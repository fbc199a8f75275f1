//! A pod carries the zone and region of its node as labels, from the moment
//! when it is bound (upstream's `PodTopologyLabels`).

use std::sync::Arc;

use api::selector::Labels as _;
use api::{Object, Status};
use futures::future::BoxFuture;

use super::{Operation, Plugin, Request};
use crate::cache::WatchCache;

const COPIED: [&str; 2] = ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"];

pub(super) struct PodTopologyLabels {
    cache: Arc<WatchCache>,
}

impl PodTopologyLabels {
    pub(super) const fn new(cache: Arc<WatchCache>) -> Self {
        Self { cache }
    }

    fn copy(&self, request: &mut Request<'_>) {
        if request.operation != Operation::Create {
            return;
        }
        let is_binding = request.is("", "pods", "binding");
        if !is_binding && !request.is("", "pods", "") {
            return;
        }
        let Some(object) = &mut request.object else { return };
        let Some(node) = node_of(object, is_binding) else { return };
        // A node that is not there has no labels to copy.
        let Some(node) = self.cache.resource("", "nodes").get("", node) else { return };
        label(object, |name| node.label(name));
    }
}

impl Plugin for PodTopologyLabels {
    fn mutate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            self.copy(request);
            Ok(())
        })
    }
}

/// The node that a pod has, or that a binding gives it.
fn node_of(object: &Object, is_binding: bool) -> Option<&str> {
    let name = if !is_binding {
        object.text(&["spec", "nodeName"])
    } else if matches!(object.text(&["target", "kind"]), "" | "Node") {
        object.text(&["target", "name"])
    } else {
        ""
    };
    (!name.is_empty()).then_some(name)
}

fn label<'a>(object: &mut Object, of_node: impl Fn(&str) -> Option<&'a str>) {
    for name in COPIED {
        if let Some(value) = of_node(name) {
            object.set_at(&["metadata", "labels", name], value);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nodes_of_pods_and_bindings() {
        let table = [
            (json!({"spec": {"nodeName": "n"}}), false, Some("n")),
            (json!({"spec": {}}), false, None),
            (json!({"target": {"kind": "Node", "name": "n"}}), true, Some("n")),
            (json!({"target": {"kind": "Other", "name": "n"}}), true, None),
        ];
        for (value, is_binding, expected) in table {
            let object = Object::from_value(value).expect("an object");
            assert_eq!(node_of(&object, is_binding), expected, "{object:?}");
        }
    }

    #[test]
    fn the_nodes_labels_win() {
        let labels = json!({"topology.kubernetes.io/zone": "mine", "a": "b"});
        let mut object = Object::from_value(json!({"metadata": {"labels": labels}})).expect("an object");
        label(&mut object, |name| (name == COPIED[0]).then_some("z1"));
        assert_eq!(
            object.at(&["metadata", "labels"]),
            Some(&json!({"topology.kubernetes.io/zone": "z1", "a": "b"}))
        );
    }
}
