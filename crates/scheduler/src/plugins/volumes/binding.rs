//! Claims and the volumes that are, or can be, theirs.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::uses;
use crate::events::{Event, Kinds};
use crate::objection::Objection;
use crate::plugins::{Filter, Plugin, Prepared, Roles};
use crate::pod::PodInfo;
use crate::snapshot::{NodeInfo, Snapshot};
use crate::volumes::Wishes;

/// How long volumes may take to be bound where nothing else is said.
const USUAL_PATIENCE: Duration = Duration::from_secs(600);

/// Only nodes on which all volumes of the pod can be had.
pub(in crate::plugins) struct VolumeBinding {
    patience: Duration,
}

/// `VolumeBindingArgs`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::plugins) struct Args {
    bind_timeout_seconds: Option<i64>,
}

impl Plugin for VolumeBinding {
    const NAME: &'static str = "VolumeBinding";
    const HEEDS: Kinds = Kinds::NODE_MADE.with(Kinds::STORAGE).with(Kinds::CLAIM).with(Kinds::CSI_NODE);
    type Args = Args;

    fn new(args: Args) -> Result<Self, String> {
        let seconds = args.bind_timeout_seconds.map(u64::try_from).transpose();
        let seconds = seconds.map_err(|_| "bindTimeoutSeconds is negative")?;
        Ok(Self { patience: seconds.map_or(USUAL_PATIENCE, Duration::from_secs) })
    }

    fn roles(self: Arc<Self>) -> Roles {
        let patience = Some(self.patience);
        Roles { binds_volumes: patience, ..Roles::default().filtering(&self) }
    }

    fn is_helped_by(&self, pod: &PodInfo, event: &Event<'_>) -> bool {
        match event {
            Event::Claim { key, .. } => uses(pod, key),
            Event::NodeChanged { old, new } => old.node.metadata.labels != new.node.metadata.labels,
            Event::NodeAdded(_) | Event::Storage => true,
            _ => false,
        }
    }
}

impl Filter for VolumeBinding {
    type Facts = Arc<Wishes>;
    const IS_LOCAL: bool = false;
    const LOOKS_AT_PODS: bool = false;

    fn prepare(&self, pod: &PodInfo, snapshot: &Snapshot) -> Prepared<Arc<Wishes>> {
        match Wishes::of(pod, &snapshot.volumes) {
            Ok(None) => Prepared::Indifferent,
            Ok(Some(wishes)) => Prepared::Facts(Arc::new(wishes)),
            Err(objection) => Prepared::Refused(objection),
        }
    }

    fn check(&self, wishes: &Arc<Wishes>, node: &NodeInfo) -> Result<(), Objection> {
        wishes.plan(node).map(drop)
    }
}
