//! What can be named in a configuration and is always done in one way.

use std::sync::Arc;

use super::{NoArgs, Plugin, Roles};
use crate::events::{Event, Kinds};
use crate::pod::PodInfo;
use crate::preemption::Preemption;

/// Pods with scheduling gates are kept back; see [`crate::queue`].
pub(super) struct SchedulingGates;
/// More important pods are tried first; see [`crate::queue`].
pub(super) struct PrioritySort;
/// Pods are bound through the API; see [`crate::run`].
pub(super) struct DefaultBinder;
/// Less important pods make room; see [`crate::preemption`].
pub(super) struct DefaultPreemption(Preemption);

macro_rules! without_arguments {
    ($($plugin:ident: $roles:expr),*) => {$(
        impl Plugin for $plugin {
            const NAME: &'static str = stringify!($plugin);
            const HEEDS: Kinds = Kinds::NONE;
            type Args = NoArgs;

            fn new(_: NoArgs) -> Result<Self, String> {
                Ok(Self)
            }

            fn roles(self: Arc<Self>) -> Roles {
                $roles
            }

            fn is_helped_by(&self, _: &PodInfo, _: &Event<'_>) -> bool {
                false
            }
        }
    )*};
}

without_arguments! {
    SchedulingGates: Roles { keeps_gates: true, ..Roles::default() },
    PrioritySort: Roles { sorts: true, ..Roles::default() },
    DefaultBinder: Roles { binds: true, ..Roles::default() }
}

/// `DefaultPreemptionArgs`.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Args {
    min_candidate_nodes_percentage: Option<i64>,
    min_candidate_nodes_absolute: Option<i64>,
}

impl Plugin for DefaultPreemption {
    const NAME: &'static str = crate::preemption::NAME;
    const HEEDS: Kinds = Kinds::NONE;
    type Args = Args;

    fn new(args: Args) -> Result<Self, String> {
        let usual = Preemption::default();
        let read = |given: Option<i64>, usual| given.map_or(Ok(usual), usize::try_from);
        let min_percentage = read(args.min_candidate_nodes_percentage, usual.min_percentage)
            .ok()
            .filter(|percentage| *percentage <= 100)
            .ok_or("minCandidateNodesPercentage is not in 0 to 100")?;
        let min_absolute = read(args.min_candidate_nodes_absolute, usual.min_absolute)
            .map_err(|_| "minCandidateNodesAbsolute is negative")?;
        if min_percentage == 0 && min_absolute == 0 {
            return Err("minCandidateNodesPercentage and minCandidateNodesAbsolute are zero: \
                        at least one of them must not be"
                .to_owned());
        }
        Ok(Self(Preemption { min_percentage, min_absolute }))
    }

    fn roles(self: Arc<Self>) -> Roles {
        Roles { preemption: Some(self.0), ..Roles::default() }
    }

    fn is_helped_by(&self, _: &PodInfo, _: &Event<'_>) -> bool {
        false
    }
}
