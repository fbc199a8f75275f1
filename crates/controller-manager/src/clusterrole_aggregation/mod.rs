//! Keeps the rules of cluster roles that are made of others (upstream:
//! `pkg/controller/clusterroleaggregation`).

mod plan;

use std::sync::Arc;

use api::ObjectKey;
use api::types::rbac::v1::ClusterRole;
use client::Cache;
use reconcile::{Loop, Moment, Plan, Reconciler};

use crate::controllers::Context;

/// The loop's cache.
pub struct Aggregation {
    roles: Arc<Cache<ClusterRole>>,
}

/// What a plan is made of.
pub struct Observed {
    role: Arc<ClusterRole>,
    all: Vec<Arc<ClusterRole>>,
}

/// The loop, wired.
pub fn start(context: &Context) -> Loop {
    let roles = context.caches.cluster_roles();
    let known = Arc::clone(&roles);
    Loop::new(Aggregation { roles: Arc::clone(&roles) }, 5).mapped(&roles, move |_| {
        // Nobody knows which selectors a change concerns, and there are few of them.
        let all = known.list();
        let made = all.iter().filter(|role| role.aggregation_rule.is_some());
        made.map(|role| ObjectKey::of(&**role)).collect()
    })
}

impl Reconciler for Aggregation {
    const NAME: &'static str = "clusterrole-aggregation";
    type Observed = Observed;

    fn observe(&self, key: &ObjectKey) -> Option<Observed> {
        Some(Observed { role: self.roles.get_key(key)?, all: self.roles.list() })
    }

    fn plan(&self, observed: &Observed, _: &Moment) -> Plan {
        plan::plan(&observed.role, &observed.all)
    }
}
