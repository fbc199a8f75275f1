//! What extenders are told and answer: upstream's `extender/v1`, whose fields
//! are named as in Go; answers may write them in any of the usual ways.

use std::collections::BTreeMap;

use api::types::core::v1::{Node, Pod};
use serde::{Deserialize, Serialize};

/// A pod and the nodes that may take it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Args<'a> {
    pub(super) pod: &'a Pod,
    /// Whole nodes, for extenders that do not follow nodes themselves.
    pub(super) nodes: Option<NodeList<&'a Node>>,
    /// Names, for those that do.
    pub(super) node_names: Option<Vec<&'a str>>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct NodeList<N> {
    pub(super) items: Vec<N>,
}

/// Which of the nodes will do.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct FilterResult {
    #[serde(alias = "nodes")]
    pub(super) nodes: Option<NodeList<Node>>,
    #[serde(alias = "nodeNames", alias = "nodenames", alias = "node_names")]
    pub(super) node_names: Option<Vec<String>>,
    #[serde(alias = "failedNodes", alias = "failednodes")]
    pub(super) failed_nodes: Option<BTreeMap<String, String>>,
    #[serde(alias = "failedAndUnresolvableNodes", alias = "failedandunresolvablenodes")]
    pub(super) failed_and_unresolvable_nodes: Option<BTreeMap<String, String>>,
    #[serde(alias = "error")]
    pub(super) error: String,
}

/// The score of a node, 0 to 10.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct HostPriority {
    #[serde(alias = "host")]
    pub(super) host: String,
    #[serde(alias = "score")]
    pub(super) score: i64,
}

/// Who would have to go, by node.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct PreemptionArgs<'a> {
    pub(super) pod: &'a Pod,
    pub(super) node_name_to_victims: Option<BTreeMap<&'a str, Victims<&'a Pod>>>,
    pub(super) node_name_to_meta_victims: Option<BTreeMap<&'a str, Victims<MetaPod>>>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Victims<P> {
    #[serde(alias = "pods")]
    pub(super) pods: Vec<P>,
    #[serde(rename = "NumPDBViolations", alias = "numPDBViolations", default)]
    pub(super) violations: usize,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct MetaPod {
    #[serde(rename = "UID", alias = "uid")]
    pub(super) uid: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct PreemptionResult {
    #[serde(alias = "nodeNameToMetaVictims", alias = "nodenametometavictims")]
    pub(super) node_name_to_meta_victims: BTreeMap<String, Victims<MetaPod>>,
}

/// A pod and the node to bind it to.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct BindingArgs<'a> {
    pub(super) pod_name: &'a str,
    pub(super) pod_namespace: &'a str,
    #[serde(rename = "PodUID")]
    pub(super) pod_uid: &'a str,
    pub(super) node: &'a str,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct BindingResult {
    #[serde(alias = "error")]
    pub(super) error: String,
}
