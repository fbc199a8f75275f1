//! The rules of kinds that need no strategy of their own: the functions that know
//! them, by resource. A kind's rules are one file and its lines here.

use api::{ErrorList, Object};

use super::{
    addresses, admission, api_services, claims, classes, devices, disruption_budgets, flow_control,
    ingresses, job, limits, network_policies, persistent_volumes, priority_class, storage, workload,
};
use crate::Part;

/// Rules for an object.
pub(super) type Rules = fn(&Object) -> ErrorList;
/// Rules for a change, the new object first.
pub(super) type Changed = fn(Part<'_>, &Object, &Object) -> ErrorList;

/// Rules for an object by itself.
pub(super) fn by_itself(group: &str, resource: &str) -> Option<Rules> {
    Some(match (group, resource) {
        ("", "podtemplates") => workload::pod_template,
        ("", "persistentvolumes") => persistent_volumes::volume,
        ("", "replicationcontrollers") => workload::replication_controller,
        ("apiregistration.k8s.io", "apiservices") => api_services::service,
        ("apps", "controllerrevisions") => workload::controller_revision,
        ("networking.k8s.io", "ingresses") => ingresses::ingress,
        ("networking.k8s.io", "ingressclasses") => ingresses::class,
        ("networking.k8s.io", "networkpolicies") => network_policies::policy,
        ("policy", "poddisruptionbudgets") => disruption_budgets::budget,
        ("resource.k8s.io", "deviceclasses") => devices::device_class,
        ("resource.k8s.io", "resourceclaims") => devices::claim,
        ("resource.k8s.io", "resourceclaimtemplates") => devices::template,
        ("resource.k8s.io", "resourceslices") => devices::slice,
        ("storage.k8s.io", "csidrivers") => storage::driver,
        ("storage.k8s.io", "csinodes") => storage::node,
        ("storage.k8s.io", "csistoragecapacities") => storage::capacity,
        ("storage.k8s.io", "volumeattachments") => storage::attachment,
        ("storage.k8s.io", "volumeattributesclasses") => storage::attributes_class,
        ("apps", "statefulsets") => workload::stateful_set,
        ("batch", "cronjobs") => job::cron_job,
        (
            "admissionregistration.k8s.io",
            "mutatingwebhookconfigurations" | "validatingwebhookconfigurations",
        ) => admission::webhooks,
        ("admissionregistration.k8s.io", "validatingadmissionpolicies") => admission::validating_policy,
        ("admissionregistration.k8s.io", "mutatingadmissionpolicies") => admission::mutating_policy,
        ("admissionregistration.k8s.io", "validatingadmissionpolicybindings") => {
            admission::validating_binding
        }
        ("admissionregistration.k8s.io", "mutatingadmissionpolicybindings") => admission::mutating_binding,
        ("", "limitranges") => limits::limit_range,
        ("", "resourcequotas") => limits::resource_quota,
        ("", "persistentvolumeclaims") => claims::claim,
        ("scheduling.k8s.io", "priorityclasses") => priority_class::validate,
        ("networking.k8s.io", "ipaddresses") => addresses::ip_address,
        ("networking.k8s.io", "servicecidrs") => addresses::service_cidr,
        ("node.k8s.io", "runtimeclasses") => classes::runtime_class,
        ("storage.k8s.io", "storageclasses") => classes::storage_class,
        ("flowcontrol.apiserver.k8s.io", "flowschemas") => flow_control::schema,
        ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations") => flow_control::level,
        _ => return None,
    })
}

/// Rules for a new object, beside those.
pub(super) fn when_new(group: &str, resource: &str) -> Option<Rules> {
    Some(match (group, resource) {
        ("apps", "controllerrevisions") => workload::new_controller_revision,
        ("networking.k8s.io", "ingresses") => ingresses::new_ingress,
        _ => return None,
    })
}

/// Rules for a change, beside those.
pub(super) fn when_changed(group: &str, resource: &str) -> Option<Changed> {
    Some(match (group, resource) {
        ("", "persistentvolumes") => persistent_volumes::volume_update,
        ("", "replicationcontrollers") => workload::replication_controller_update,
        ("apiregistration.k8s.io", "apiservices") => api_services::service_update,
        ("apps", "controllerrevisions") => workload::controller_revision_update,
        ("networking.k8s.io", "ingresses") => ingresses::ingress_update,
        ("networking.k8s.io", "ingressclasses") => ingresses::class_update,
        ("policy", "poddisruptionbudgets") => disruption_budgets::budget_update,
        ("resource.k8s.io", "resourceclaims") => devices::claim_update,
        ("resource.k8s.io", "resourceclaimtemplates") => devices::template_update,
        ("resource.k8s.io", "resourceslices") => devices::slice_update,
        ("storage.k8s.io", "csidrivers") => storage::driver_update,
        ("storage.k8s.io", "csinodes") => storage::node_update,
        ("storage.k8s.io", "csistoragecapacities") => storage::capacity_update,
        ("storage.k8s.io", "volumeattachments") => storage::attachment_update,
        ("storage.k8s.io", "volumeattributesclasses") => storage::attributes_class_update,
        ("apps", "statefulsets") => workload::stateful_set_update,
        ("", "resourcequotas") => limits::resource_quota_update,
        ("", "persistentvolumeclaims") => claims::claim_update,
        ("scheduling.k8s.io", "priorityclasses") => priority_class::validate_update,
        ("networking.k8s.io", "ipaddresses") => addresses::ip_address_update,
        ("networking.k8s.io", "servicecidrs") => addresses::service_cidr_update,
        ("node.k8s.io", "runtimeclasses") => classes::runtime_class_update,
        ("storage.k8s.io", "storageclasses") => classes::storage_class_update,
        _ => return None,
    })
}
