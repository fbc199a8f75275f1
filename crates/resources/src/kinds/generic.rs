//! The behaviour of kinds without rules of their own.

use api::{ErrorList, Object};
use jiff::Timestamp;
use serde_json::Value;

use super::cells::{self, Cells};
use crate::{Part, Strategy, metadata};

/// A kind that only needs what all kinds need.
pub(crate) struct Generic {
    cells: Cells,
    default: Option<fn(&mut Object)>,
    generation: bool,
}

impl Generic {
    /// A kind with these rows.
    pub(crate) fn new(cells: Cells) -> Self {
        Self { cells, default: None, generation: false }
    }

    /// With defaults.
    pub(crate) fn defaulting(mut self, default: fn(&mut Object)) -> Self {
        self.default = Some(default);
        self
    }

    /// With a generation that follows the spec.
    pub(crate) fn counting(mut self) -> Self {
        self.generation = true;
        self
    }
}

impl Strategy for Generic {
    fn default(&self, object: &mut Object) {
        if let Some(default) = self.default {
            default(object);
        }
    }

    fn prepare_create(&self, object: &mut Object) {
        if self.generation {
            metadata::first_generation(object);
        }
    }

    fn prepare_update(&self, part: Part<'_>, new: &mut Object, old: &Object) {
        metadata::keep_other_parts(part, new, old);
        if self.generation && part == Part::Main {
            metadata::raise_generation(new, old);
        }
    }

    fn validate(&self, _object: &Object) -> ErrorList {
        ErrorList::new()
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        (self.cells)(object, now)
    }
}

/// The rows of a resource.
pub(crate) fn cells(group: &str, resource: &str) -> Cells {
    match (group, resource) {
        ("", "componentstatuses") => cells::component_status,
        ("", "podtemplates") => cells::pod_template,
        ("", "replicationcontrollers") => cells::replication_controller,
        ("", "resourcequotas") => cells::resource_quota,
        ("", "persistentvolumes") => cells::persistent_volume,
        ("", "persistentvolumeclaims") => cells::persistent_volume_claim,
        ("", "limitranges")
        | ("storage.k8s.io", "csistoragecapacities")
        | ("apiextensions.k8s.io", "customresourcedefinitions") => cells::name_and_creation,
        ("apiregistration.k8s.io", "apiservices") => cells::api_service,
        ("apps", "controllerrevisions") => cells::controller_revision,
        ("apps", "statefulsets") => cells::stateful_set,
        ("batch", "cronjobs") => cells::cron_job,
        ("certificates.k8s.io", "certificatesigningrequests") => cells::certificate_signing_request,
        ("networking.k8s.io", "ingressclasses") => cells::ingress_class,
        ("networking.k8s.io", "ingresses") => cells::ingress,
        ("networking.k8s.io", "ipaddresses") => cells::ip_address,
        ("networking.k8s.io", "networkpolicies") => cells::network_policy,
        ("networking.k8s.io", "servicecidrs") => cells::service_cidr,
        ("policy", "poddisruptionbudgets") => cells::disruption_budget,
        ("storage.k8s.io", "csidrivers") => cells::csi_driver,
        ("storage.k8s.io", "csinodes") => cells::csi_node,
        ("storage.k8s.io", "storageclasses") => cells::storage_class,
        ("storage.k8s.io", "volumeattachments") => cells::volume_attachment,
        ("storage.k8s.io", "volumeattributesclasses") => cells::attributes_class,
        ("admissionregistration.k8s.io", "mutatingadmissionpolicies") => cells::mutating_policy,
        ("admissionregistration.k8s.io", "validatingadmissionpolicies") => cells::validating_policy,
        (
            "admissionregistration.k8s.io",
            "mutatingadmissionpolicybindings" | "validatingadmissionpolicybindings",
        ) => cells::policy_binding,
        ("admissionregistration.k8s.io", _) => cells::webhooks,
        ("scheduling.k8s.io", "priorityclasses") => cells::priority_class,
        ("node.k8s.io", "runtimeclasses") => cells::runtime_class,
        ("resource.k8s.io", "resourceclaims") => cells::resource_claim,
        ("resource.k8s.io", "resourceslices") => cells::resource_slice,
        ("flowcontrol.apiserver.k8s.io", "flowschemas") => cells::flow_schema,
        ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations") => cells::priority_level,
        _ => cells::name_and_age,
    }
}
