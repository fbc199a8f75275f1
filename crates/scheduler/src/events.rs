//! What happens in the cluster, as far as it may let a refused pod fit.

use api::ObjectKey;
use api::types::storage::v1::CSINode;

use crate::plugins::features::declared;
use crate::pod::PodInfo;
use crate::resources::Requests;
use crate::snapshot::NodeInfo;

/// Something that happened. Nodes are shown without their pods.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A node came.
    NodeAdded(&'a NodeInfo),
    /// A node has other labels, taints or resources, or was closed or opened.
    NodeChanged {
        /// As it was.
        old: &'a NodeInfo,
        /// As it is.
        new: &'a NodeInfo,
    },
    /// A node went.
    NodeRemoved(&'a NodeInfo),
    /// A pod got a node.
    PodAdded(&'a PodInfo),
    /// A pod on a node has other labels, or asks for less.
    PodChanged {
        /// As it was.
        old: &'a PodInfo,
        /// As it is.
        new: &'a PodInfo,
    },
    /// A pod left its node, or gave up the one that it was to get.
    PodRemoved(&'a PodInfo),
    /// A claim came or changed.
    Claim {
        /// The claim.
        key: &'a ObjectKey,
        /// Whether it came.
        is_new: bool,
    },
    /// A volume, a class, a driver or what is told of its room came or changed.
    Storage,
    /// A node says something else of its drivers.
    CsiNode {
        /// What it said; `None`: nothing.
        old: Option<&'a CSINode>,
        /// What it says.
        new: &'a CSINode,
    },
    /// A volume was detached from a node.
    Attachment,
    /// The waiting pod itself changed.
    Waiting {
        /// As it was.
        old: &'a PodInfo,
        /// As it is.
        new: &'a PodInfo,
    },
}

impl Event<'_> {
    /// What kind of event it is.
    #[must_use]
    pub const fn kind(&self) -> Kinds {
        match self {
            Self::NodeAdded(_) => Kinds::NODE_ADDED,
            Self::NodeChanged { .. } => Kinds::NODE_CHANGED,
            Self::NodeRemoved(_) => Kinds::NODE_REMOVED,
            Self::PodAdded(_) => Kinds::POD_ADDED,
            Self::PodChanged { .. } => Kinds::POD_CHANGED,
            Self::PodRemoved(_) => Kinds::POD_REMOVED,
            Self::Waiting { .. } => Kinds::WAITING,
            Self::Claim { .. } => Kinds::CLAIM,
            Self::Storage => Kinds::STORAGE,
            Self::CsiNode { .. } => Kinds::CSI_NODE,
            Self::Attachment => Kinds::ATTACHMENT,
        }
    }
}

/// A set of kinds of events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kinds(u32);

impl Kinds {
    /// All.
    pub const ALL: Self = Self(u32::MAX);
    /// None.
    pub const NONE: Self = Self(0);
    /// A node came.
    pub const NODE_ADDED: Self = Self(1);
    /// A node changed.
    pub const NODE_CHANGED: Self = Self(1 << 1);
    /// A node went.
    pub const NODE_REMOVED: Self = Self(1 << 2);
    /// A pod got a node.
    pub const POD_ADDED: Self = Self(1 << 3);
    /// A pod on a node changed.
    pub const POD_CHANGED: Self = Self(1 << 4);
    /// A pod left its node.
    pub const POD_REMOVED: Self = Self(1 << 5);
    /// The waiting pod changed.
    pub const WAITING: Self = Self(1 << 6);
    /// A claim came or changed.
    pub const CLAIM: Self = Self(1 << 7);
    /// Something of storage came or changed.
    pub const STORAGE: Self = Self(1 << 8);
    /// A node says something else of its drivers.
    pub const CSI_NODE: Self = Self(1 << 9);
    /// A volume was detached.
    pub const ATTACHMENT: Self = Self(1 << 10);
    /// A node came or changed.
    pub const NODE_MADE: Self = Self::NODE_ADDED.with(Self::NODE_CHANGED);

    /// The kinds of both.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether a kind is among these.
    #[must_use]
    pub const fn has(self, kind: Self) -> bool {
        self.0 & kind.0 != 0
    }
}

/// Whether a change of a node can matter to anybody.
#[must_use]
pub fn node_matters(old: &NodeInfo, new: &NodeInfo) -> bool {
    old.allocatable != new.allocatable
        || old.max_pods != new.max_pods
        || old.node.metadata.labels != new.node.metadata.labels
        || declared(old) != declared(new)
        || (old.is_closed, &old.taints) != (new.is_closed, &new.taints)
}

/// Whether a change of a pod on a node can matter to anybody.
#[must_use]
pub fn pod_matters(old: &PodInfo, new: &PodInfo) -> bool {
    old.pod.metadata.labels != new.pod.metadata.labels || asks_for_less(&old.requests, &new.requests)
}

/// Whether any amount is smaller than it was.
#[must_use]
pub fn asks_for_less(old: &Requests, new: &Requests) -> bool {
    old.asked.present().any(|(name, amount)| new.asked.of(name) < amount)
}
