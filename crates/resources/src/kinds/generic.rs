//! The behaviour of kinds without rules of their own.

use api::schema::StructId;
use api::{ErrorList, Object};
use jiff::Timestamp;
use serde_json::Value;

use super::cells::{self, Cells};
use super::defaults;
use super::rules::{self, Changed, Rules};
use crate::{Part, Strategy, metadata, names, tables};

/// A kind that only needs what all kinds need.
pub(super) struct Generic {
    cells: Cells,
    default: Option<fn(&mut Object)>,
    generation: bool,
    name: fn(&str, bool) -> Vec<String>,
    /// The kind's shape, where it has a status.
    status: Option<StructId>,
    /// Rules of its own.
    validate: Option<Rules>,
    /// Rules of its own for a new object.
    validate_create: Option<Rules>,
    /// Rules of its own for a change, the new object first.
    validate_update: Option<Changed>,
    creates_on_update: bool,
    needs_version: bool,
}

impl Generic {
    fn new(cells: Cells) -> Self {
        Self {
            cells,
            default: None,
            generation: false,
            name: names::dns_subdomain,
            status: None,
            validate: None,
            validate_create: None,
            validate_update: None,
            creates_on_update: false,
            needs_version: false,
        }
    }
}

impl Strategy for Generic {
    fn default(&self, object: &mut Object) {
        if let Some(default) = self.default {
            default(object);
        }
    }

    fn prepare_create(&self, object: &mut Object) {
        if let Some(shape) = self.status {
            metadata::reset_status(&tables::schema(), shape, object);
            self.default(object);
        }
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

    fn validate(&self, object: &Object) -> ErrorList {
        self.validate.map_or_else(ErrorList::new, |rules| rules(object))
    }

    fn validate_create(&self, object: &Object) -> ErrorList {
        self.validate_create.map_or_else(ErrorList::new, |rules| rules(object))
    }

    fn validate_update(&self, part: Part<'_>, new: &Object, old: &Object) -> ErrorList {
        self.validate_update.map_or_else(ErrorList::new, |rules| rules(part, new, old))
    }

    fn creates_on_update(&self) -> bool {
        self.creates_on_update
    }

    fn updates_unconditionally(&self) -> bool {
        !self.needs_version
    }

    fn name_errors(&self, name: &str, prefix: bool) -> Vec<String> {
        (self.name)(name, prefix)
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        (self.cells)(object, now)
    }
}

/// The behaviour of a resource that has no file of its own.
pub(super) fn built_in(group: &str, resource: &str, shape: StructId) -> Generic {
    let mut kind = Generic::new(cells(group, resource));
    kind.status = tables::schema().get(shape).fields.contains_key("status").then_some(shape);
    kind.default = default(group, resource);
    // The kinds whose generation follows their spec.
    kind.generation = matches!(
        (group, resource),
        ("", "replicationcontrollers" | "podtemplates")
            | ("apps", "statefulsets")
            | ("batch", "cronjobs")
            | ("networking.k8s.io", "ingresses" | "ingressclasses" | "networkpolicies")
            | ("policy", "poddisruptionbudgets")
            | ("scheduling.k8s.io", "priorityclasses")
            | ("flowcontrol.apiserver.k8s.io", _)
            | ("resource.k8s.io", "resourceslices" | "deviceclasses")
    ) || group == "admissionregistration.k8s.io";
    kind.validate = rules::by_itself(group, resource);
    kind.validate_create = rules::when_new(group, resource);
    kind.validate_update = rules::when_changed(group, resource);
    kind.creates_on_update =
        matches!((group, resource), ("", "limitranges") | ("node.k8s.io", "runtimeclasses"));
    kind.needs_version = matches!(
        (group, resource),
        ("admissionregistration.k8s.io" | "apiregistration.k8s.io" | "node.k8s.io", _)
            | ("policy", "poddisruptionbudgets")
            | ("storage.k8s.io", "csidrivers" | "csinodes" | "csistoragecapacities" | "volumeattachments")
    );
    kind.name = match (group, resource) {
        ("apiregistration.k8s.io", "apiservices") => names::path_segment,
        ("networking.k8s.io", "ipaddresses") => names::canonical_ip,
        _ => kind.name,
    };
    kind
}

fn default(group: &str, resource: &str) -> Option<fn(&mut Object)> {
    Some(match (group, resource) {
        ("", "podtemplates") => defaults::pod_template,
        ("", "replicationcontrollers") => defaults::replication_controller,
        ("", "persistentvolumeclaims") => defaults::persistent_volume_claim,
        ("", "persistentvolumes") => defaults::persistent_volume,
        ("", "limitranges") => defaults::limit_range,
        ("apps", "statefulsets") => defaults::stateful_set,
        ("batch", "cronjobs") => defaults::cron_job,
        ("resource.k8s.io", "resourceclaims") => super::devices::default_claim,
        ("resource.k8s.io", "resourceclaimtemplates") => super::devices::default_template,
        ("storage.k8s.io", "storageclasses") => defaults::storage_class,
        ("storage.k8s.io", "csidrivers") => defaults::csi_driver,
        ("networking.k8s.io", "ingressclasses") => defaults::ingress_class,
        ("networking.k8s.io", "networkpolicies") => defaults::network_policy,
        ("scheduling.k8s.io", "priorityclasses") => defaults::priority_class,
        (
            "admissionregistration.k8s.io",
            "mutatingwebhookconfigurations" | "validatingwebhookconfigurations",
        ) => defaults::webhooks,
        ("admissionregistration.k8s.io", "mutatingadmissionpolicies" | "validatingadmissionpolicies") => {
            defaults::admission_policy
        }
        (
            "admissionregistration.k8s.io",
            "mutatingadmissionpolicybindings" | "validatingadmissionpolicybindings",
        ) => defaults::admission_policy_binding,
        ("apiregistration.k8s.io", "apiservices") => defaults::api_service,
        ("flowcontrol.apiserver.k8s.io", "flowschemas") => super::flow_control::default_schema,
        ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations") => super::flow_control::default_level,
        _ => return None,
    })
}

/// The rows of a resource.
fn cells(group: &str, resource: &str) -> Cells {
    match (group, resource) {
        ("", "componentstatuses") => cells::component_status,
        ("", "podtemplates") => cells::pod_template,
        ("", "replicationcontrollers") => cells::replication_controller,
        ("", "resourcequotas") => cells::resource_quota,
        ("", "persistentvolumes") => cells::persistent_volume,
        ("", "persistentvolumeclaims") => cells::persistent_volume_claim,
        ("", "limitranges") | ("storage.k8s.io", "csistoragecapacities") => cells::name_and_creation,
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
