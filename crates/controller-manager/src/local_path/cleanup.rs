//! The end of a volume: a pod on its node takes the directory away, then the
//! volume goes.

use api::metav1::ObjectMeta;
use api::types::core::v1::{
    Container, HostPathVolumeSource, PersistentVolume, Pod, PodSpec, Toleration, Volume, VolumeMount,
};
use client::events::reference;
use reconcile::{Action, Plan};

use super::provision::HOST;
use super::{NAMESPACE, PROVISIONED_BY, PROVISIONER, Released};
use crate::{owners, pods};

/// The label of a cleaning pod that names its volume.
const VOLUME: &str = "corten.dev/volume";

/// Whether a volume of ours is to be taken away.
pub(super) fn is_due(volume: &PersistentVolume) -> bool {
    let made_by = volume.metadata.annotations.as_ref().and_then(|all| all.get(PROVISIONED_BY));
    let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
    let policy = volume.spec.as_ref().and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
    made_by.is_some_and(|by| by == PROVISIONER)
        && phase == Some("Released")
        && policy == Some("Delete")
        && volume.metadata.deletion_timestamp.is_none()
}

/// The name of the pod that takes a volume's directory away.
pub(super) fn pod_name(volume: &PersistentVolume) -> String {
    format!("clean-{}", owners::name(volume))
}

/// The volume that a cleaning pod is for.
pub(super) fn volume_of(pod: &Pod) -> Option<String> {
    pod.metadata.labels.as_ref()?.get(VOLUME).cloned()
}

/// The host name of the node that has a volume's directory.
pub(super) fn host(volume: &PersistentVolume) -> Option<&str> {
    let required = volume.spec.as_ref()?.node_affinity.as_ref()?.required.as_ref()?;
    let terms = required.node_selector_terms.iter();
    let mut expressions = terms.flat_map(|term| term.match_expressions.iter().flatten());
    expressions.find(|one| one.key == HOST)?.values.as_ref()?.first().map(String::as_str)
}

pub(super) fn plan(released: &Released) -> Plan {
    let volume = &*released.volume;
    if !released.has_node {
        // The directory went with its node.
        return Plan::of(vec![Action::delete(volume)]);
    }
    let Some(pod) = &released.pod else {
        return Plan::of(cleaning_pod(volume, &released.image).iter().map(Action::create).collect());
    };
    match pods::phase(pod) {
        "Succeeded" => Plan::of(vec![Action::delete(volume)]),
        "Failed" if !pods::is_being_deleted(pod) => {
            let text = format!("pod {NAMESPACE}/{} could not delete the directory", pods::name(pod));
            let news = Action::warning(reference(volume), "VolumeFailedDelete", text);
            Plan::of(vec![news, Action::delete(&**pod)])
        }
        _ => Plan::default(),
    }
}

/// A pod that sees only the parent directory, and deletes the volume's in it.
fn cleaning_pod(volume: &PersistentVolume, image: &str) -> Option<Pod> {
    let path = &volume.spec.as_ref()?.host_path.as_ref()?.path;
    let (root, directory) =
        path.rsplit_once('/').filter(|(root, name)| !root.is_empty() && !name.is_empty())?;
    let mount = "/volumes";
    let container = Container {
        name: "clean".to_owned(),
        image: Some(image.to_owned()),
        command: Some(vec![
            "rm".to_owned(),
            "-rf".to_owned(),
            "--".to_owned(),
            format!("{mount}/{directory}"),
        ]),
        volume_mounts: Some(vec![VolumeMount {
            name: "volumes".to_owned(),
            mount_path: mount.to_owned(),
            ..VolumeMount::default()
        }]),
        ..Container::default()
    };
    let source = HostPathVolumeSource { path: root.to_owned(), type_: Some("DirectoryOrCreate".to_owned()) };
    Some(Pod {
        metadata: ObjectMeta {
            name: Some(pod_name(volume)),
            namespace: Some(NAMESPACE.to_owned()),
            labels: Some([(VOLUME.to_owned(), owners::name(volume).to_owned())].into()),
            // The garbage collector takes it when the volume is gone.
            owner_references: Some(vec![owners::controller_reference(volume)]),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec {
            restart_policy: Some("Never".to_owned()),
            automount_service_account_token: Some(false),
            node_selector: Some([(HOST.to_owned(), host(volume)?.to_owned())].into()),
            tolerations: Some(vec![Toleration {
                operator: Some("Exists".to_owned()),
                ..Toleration::default()
            }]),
            containers: vec![container],
            volumes: Some(vec![Volume {
                name: "volumes".to_owned(),
                host_path: Some(source),
                ..Volume::default()
            }]),
            ..PodSpec::default()
        }),
        status: None,
    })
}
