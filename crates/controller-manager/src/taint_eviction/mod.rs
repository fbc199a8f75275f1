//! Deletes pods from nodes whose `NoExecute` taints they do not tolerate, or no
//! longer (upstream: `pkg/controller/tainteviction`).

mod plan;

use std::sync::Arc;

use api::ObjectKey;
use api::types::core::v1::{Node, Pod, Taint};
use client::Cache;
use reconcile::{Loop, Moment, Plan, Reconciler};

use crate::caches::TIED_TO;
use crate::controllers::Context;
use crate::{nodes, pods};

/// The loop's caches; its keys are pods.
pub struct TaintEviction {
    pods: Arc<Cache<Pod>>,
    nodes: Arc<Cache<Node>>,
}

/// What a plan is made of.
pub struct Observed {
    pod: Arc<Pod>,
    node: Arc<Node>,
}

fn expelling(node: &Node) -> Vec<&Taint> {
    nodes::taints(node).filter(|taint| taint.effect == "NoExecute").collect()
}

/// The loop, wired.
pub fn start(context: &Context) -> Loop {
    let (pods, nodes) = (context.caches.pods(), context.caches.nodes());
    let (known_pods, known_nodes) = (Arc::clone(&pods), Arc::clone(&nodes));
    Loop::new(TaintEviction { pods: Arc::clone(&pods), nodes: Arc::clone(&nodes) }, 8)
        .mapped(&nodes, move |change| {
            let same = change.old.map(|node| expelling(node)) == change.new.map(|node| expelling(node));
            let concerned = if same { Vec::new() } else { known_pods.indexed(TIED_TO, &change.key.name) };
            concerned.iter().map(|pod| ObjectKey::of(&**pod)).collect()
        })
        .mapped(&pods, move |change| {
            let node = change.new.and_then(|pod| known_nodes.get("", pods::node_name(pod)));
            let expels = node.is_some_and(|node| !expelling(&node).is_empty());
            expels.then(|| change.key.clone()).into_iter().collect()
        })
}

impl Reconciler for TaintEviction {
    const NAME: &'static str = "taint-eviction";
    type Observed = Observed;

    fn observe(&self, key: &ObjectKey) -> Option<Observed> {
        let pod = self.pods.get_key(key)?;
        let node = self.nodes.get("", pods::node_name(&pod))?;
        Some(Observed { pod, node })
    }

    fn plan(&self, observed: &Observed, moment: &Moment) -> Plan {
        plan::plan(&observed.pod, &observed.node, moment.now)
    }
}
