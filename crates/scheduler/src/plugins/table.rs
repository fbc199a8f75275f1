//! The one table of plugins. A new plugin is a file beside this one, and a line here.

use std::sync::Arc;

use serde_json::Value;

use super::{
    Plugin, Roles, affinity, balance, features, fit, fixed, images, interpod, name, ports, spread, taints,
    volumes,
};
use crate::events::{Event, Kinds};
use crate::pod::PodInfo;

/// A plugin that exists.
pub struct Entry {
    /// Its name.
    pub name: &'static str,
    /// How much its score counts where nothing else is configured.
    pub weight: i64,
    make: fn(Option<Value>) -> Result<Made, String>,
}

/// A plugin with its arguments.
#[derive(Clone)]
pub struct Made {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub roles: Roles,
    /// What may help pods that it refused.
    pub hints: Arc<dyn Hints>,
}

/// Says whether an event may help a pod; see [`Plugin::is_helped_by`].
pub trait Hints: Send + Sync {
    /// The kinds of events that are worth asking about.
    fn heeds(&self) -> Kinds;
    /// Whether an event may help a pod that the plugin refused.
    fn is_helped_by(&self, pod: &PodInfo, event: &Event<'_>) -> bool;
}

impl<P: Plugin> Hints for P {
    fn heeds(&self) -> Kinds {
        P::HEEDS
    }

    fn is_helped_by(&self, pod: &PodInfo, event: &Event<'_>) -> bool {
        Plugin::is_helped_by(self, pod, event)
    }
}

impl Entry {
    /// Makes the plugin from its arguments; `None`: from the defaults.
    ///
    /// # Errors
    /// What is wrong with the arguments, and what to do.
    pub fn make(&self, args: Option<Value>) -> Result<Made, String> {
        (self.make)(args)
    }
}

fn entry<P: Plugin>(weight: i64) -> Entry {
    Entry {
        name: P::NAME,
        weight,
        make: |args| {
            let args = args.map_or_else(
                || Ok(P::Args::default()),
                |args| serde_json::from_value(args).map_err(|error| error.to_string()),
            )?;
            let plugin = Arc::new(P::new(args)?);
            Ok(Made { name: P::NAME, roles: Arc::clone(&plugin).roles(), hints: plugin })
        },
    }
}

/// All plugins, in the order in which filters are asked; the first objection
/// counts. The weights are upstream's.
#[must_use]
pub fn all() -> Vec<Entry> {
    vec![
        entry::<fixed::SchedulingGates>(0),
        entry::<fixed::PrioritySort>(0),
        entry::<name::NodeUnschedulable>(0),
        entry::<name::NodeName>(0),
        entry::<taints::TaintToleration>(3),
        entry::<affinity::NodeAffinity>(2),
        entry::<ports::NodePorts>(0),
        entry::<fit::NodeResourcesFit>(1),
        entry::<volumes::restrictions::VolumeRestrictions>(0),
        entry::<volumes::limits::NodeVolumeLimits>(0),
        entry::<volumes::binding::VolumeBinding>(0),
        entry::<volumes::zone::VolumeZone>(0),
        entry::<spread::PodTopologySpread>(2),
        entry::<interpod::InterPodAffinity>(2),
        entry::<fixed::DefaultPreemption>(0),
        entry::<balance::BalancedAllocation>(1),
        entry::<images::ImageLocality>(1),
        entry::<fixed::DefaultBinder>(0),
        entry::<features::NodeDeclaredFeatures>(0),
    ]
}
