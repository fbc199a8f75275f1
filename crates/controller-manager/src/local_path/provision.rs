//! The volume for a claim.

use api::metav1::ObjectMeta;
use api::types::core::v1::{
    HostPathVolumeSource, Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PersistentVolume,
    PersistentVolumeClaim, PersistentVolumeSpec, VolumeNodeAffinity,
};
use client::events::reference;
use reconcile::{Action, Announcement, Plan};

use super::{PROVISIONED_BY, PROVISIONER, Wanted};
use crate::owners;

/// The label that holds a node's host name.
pub(super) const HOST: &str = "kubernetes.io/hostname";
const WANTED_OF: &str = "volume.kubernetes.io/storage-provisioner";
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";

fn annotation<'a>(claim: &'a PersistentVolumeClaim, name: &str) -> Option<&'a str> {
    claim.metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

/// Whether a claim waits for a volume of ours.
pub(super) fn is_ours(claim: &PersistentVolumeClaim) -> bool {
    let named = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default();
    annotation(claim, WANTED_OF) == Some(PROVISIONER)
        && named.is_empty()
        && claim.metadata.deletion_timestamp.is_none()
}

/// The node that the scheduler chose for a claim.
pub(super) fn selected_node(claim: &PersistentVolumeClaim) -> Option<&str> {
    annotation(claim, SELECTED_NODE)
}

/// The host name by which volumes stay on a node.
pub(super) fn host_name(node: &Node) -> &str {
    let labels = node.metadata.labels.as_ref();
    labels.and_then(|labels| labels.get(HOST)).map_or_else(|| owners::name(node), String::as_str)
}

/// The name of the volume for a claim.
pub(super) fn volume_name(claim: &PersistentVolumeClaim) -> String {
    format!("pvc-{}", owners::uid(claim))
}

/// Why a claim cannot be had.
fn objection(wanted: &Wanted) -> Option<&'static str> {
    let spec = wanted.claim.spec.clone().unwrap_or_default();
    let modes = spec.access_modes.unwrap_or_default();
    if wanted.class.volume_binding_mode.as_deref() != Some("WaitForFirstConsumer") {
        return Some("the storage class needs volumeBindingMode WaitForFirstConsumer");
    }
    if spec.volume_mode.as_deref() == Some("Block") {
        return Some("only volumes of mode Filesystem are supported");
    }
    if spec.selector.is_some() || spec.data_source.is_some() || spec.data_source_ref.is_some() {
        return Some("claims with a selector or a data source are not supported");
    }
    let is_of_one_node = |mode: &String| matches!(mode.as_str(), "ReadWriteOnce" | "ReadWriteOncePod");
    (!modes.iter().all(is_of_one_node)).then_some("only volumes of one node are supported")
}

pub(super) fn plan(wanted: &Wanted) -> Plan {
    let claim = &*wanted.claim;
    if let Some(why) = objection(wanted) {
        let text =
            format!("failed to provision volume with StorageClass {:?}: {why}", owners::name(&*wanted.class));
        return Plan::of(vec![Action::warning(reference(claim), "ProvisioningFailed", text)]);
    }
    let Some(node) = &wanted.node else { return Plan::default() };
    Plan::of(vec![Action::create(&volume(wanted, node, volume_name(claim))).announced(Announcement {
        about: reference(claim),
        success: Some(("ProvisioningSucceeded", "Successfully provisioned volume {name}".to_owned())),
        failure: Some(("ProvisioningFailed", "failed to save volume: {error}".to_owned())),
    })])
}

fn volume(wanted: &Wanted, node: &Node, name: String) -> PersistentVolume {
    let (claim, class) = (&*wanted.claim, &*wanted.class);
    let spec = claim.spec.clone().unwrap_or_default();
    let root = class.parameters.as_ref().and_then(|parameters| parameters.get("path"));
    let root = root.unwrap_or(&wanted.root).trim_end_matches('/').to_owned();
    let directory = format!("{root}/{name}_{}_{}", owners::namespace(claim), owners::name(claim));
    let here = NodeSelectorRequirement {
        key: HOST.to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![host_name(node).to_owned()]),
    };
    let term = NodeSelectorTerm { match_expressions: Some(vec![here]), ..NodeSelectorTerm::default() };
    PersistentVolume {
        metadata: ObjectMeta {
            name: Some(name),
            annotations: Some([(PROVISIONED_BY.to_owned(), PROVISIONER.to_owned())].into()),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeSpec {
            capacity: spec.resources.and_then(|resources| resources.requests),
            access_modes: spec.access_modes,
            claim_ref: Some(reference(claim)),
            host_path: Some(HostPathVolumeSource {
                path: directory,
                type_: Some("DirectoryOrCreate".to_owned()),
            }),
            mount_options: class.mount_options.clone(),
            node_affinity: Some(VolumeNodeAffinity {
                required: Some(NodeSelector { node_selector_terms: vec![term] }),
            }),
            persistent_volume_reclaim_policy: Some(
                class.reclaim_policy.clone().unwrap_or_else(|| "Delete".to_owned()),
            ),
            storage_class_name: class.metadata.name.clone(),
            volume_mode: Some("Filesystem".to_owned()),
            ..PersistentVolumeSpec::default()
        }),
        status: None,
    }
}
