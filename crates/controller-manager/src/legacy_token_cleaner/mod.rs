//! Takes back tokens that were once made for every service account and that
//! nobody uses (upstream: `legacy-serviceaccount-token-cleaner-controller`). A
//! token is first marked invalid, and deleted when nobody missed it as long again.

mod plan;

use std::collections::BTreeSet;
use std::sync::Arc;

use api::ObjectKey;
use api::types::core::v1::{ConfigMap, Pod, Secret, ServiceAccount};
use client::Cache;
use jiff::SignedDuration;
use reconcile::{Loop, Moment, Plan, Reconciler};

use crate::caches::NAMESPACE;
use crate::controllers::Context;
use crate::owners;

/// The loop's caches.
pub struct LegacyTokenCleaner {
    tokens: Arc<Cache<Secret>>,
    accounts: Arc<Cache<ServiceAccount>>,
    pods: Arc<Cache<Pod>>,
    tracking: Arc<Cache<ConfigMap>>,
    period: SignedDuration,
}

/// What a plan is made of.
pub struct Observed {
    token: Arc<Secret>,
    /// The account that the token names.
    account: Option<Arc<ServiceAccount>>,
    /// The secrets that pods of the namespace mount.
    mounted: BTreeSet<String>,
    /// Says since when the use of tokens is noted.
    tracking: Option<Arc<ConfigMap>>,
    /// How long a token may be unused.
    period: SignedDuration,
}

/// The loop, wired.
pub fn start(context: &Context) -> Loop {
    let caches = &context.caches;
    let tokens = caches.service_account_tokens();
    let reconciler = LegacyTokenCleaner {
        tokens: Arc::clone(&tokens),
        accounts: caches.service_accounts(),
        pods: caches.pods(),
        tracking: caches.token_tracking(),
        period: SignedDuration::try_from(context.flags.legacy_service_account_token_clean_up_period)
            .unwrap_or(SignedDuration::MAX),
    };
    let known = Arc::clone(&tokens);
    Loop::new(reconciler, 1)
        .own(&tokens)
        .reads(&caches.service_accounts())
        .reads(&caches.pods())
        .mapped(&caches.token_tracking(), move |_| {
            known.list().iter().map(|token| ObjectKey::of(&**token)).collect()
        })
}

impl Reconciler for LegacyTokenCleaner {
    const NAME: &'static str = "legacy-serviceaccount-token-cleaner";
    type Observed = Observed;

    fn observe(&self, key: &ObjectKey) -> Option<Observed> {
        let token = self.tokens.get_key(key)?;
        let name = plan::account_of(&token)?;
        let account = self.accounts.get(&key.namespace, name);
        let pods = self.pods.indexed(NAMESPACE, &key.namespace);
        let mounted = pods.iter().flat_map(|pod| plan::secrets_of(pod)).collect();
        let tracking = self.tracking.list().into_iter().find(|map| owners::name(&**map) == plan::TRACKING);
        Some(Observed { token, account, mounted, tracking, period: self.period })
    }

    fn plan(&self, observed: &Observed, moment: &Moment) -> Plan {
        plan::plan(observed, moment.now)
    }
}
