//! Sees to it that each namespace has the service account `default` (upstream:
//! `pkg/controller/serviceaccount`).

mod plan;

use std::sync::Arc;

use api::ObjectKey;
use api::types::core::v1::{Namespace, ServiceAccount};
use client::Cache;
use reconcile::{Loop, Moment, Plan, Reconciler};

use crate::controllers::Context;

/// The account that each namespace has.
const DEFAULT: &str = "default";

/// The loop's caches; its keys are namespaces.
pub struct ServiceAccounts {
    namespaces: Arc<Cache<Namespace>>,
    accounts: Arc<Cache<ServiceAccount>>,
}

/// What a plan is made of.
pub struct Observed {
    namespace: Arc<Namespace>,
    account: Option<Arc<ServiceAccount>>,
}

/// The loop, wired.
pub fn start(context: &Context) -> Loop {
    let (namespaces, accounts) = (context.caches.namespaces(), context.caches.service_accounts());
    let reconciler = ServiceAccounts { namespaces: Arc::clone(&namespaces), accounts: Arc::clone(&accounts) };
    Loop::new(reconciler, context.flags.concurrent_serviceaccount_syncs).own(&namespaces).mapped(
        &accounts,
        |change| {
            let gone = change.new.is_none() && change.key.name == DEFAULT;
            gone.then(|| ObjectKey::new("", change.key.namespace.clone())).into_iter().collect()
        },
    )
}

impl Reconciler for ServiceAccounts {
    const NAME: &'static str = "serviceaccount";
    type Observed = Observed;

    fn observe(&self, key: &ObjectKey) -> Option<Observed> {
        let namespace = self.namespaces.get_key(key)?;
        Some(Observed { namespace, account: self.accounts.get(&key.name, DEFAULT) })
    }

    fn plan(&self, observed: &Observed, _: &Moment) -> Plan {
        plan::plan(&observed.namespace, observed.account.as_deref())
    }
}
