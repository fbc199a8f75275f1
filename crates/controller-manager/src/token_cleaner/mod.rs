//! Deletes bootstrap tokens that have expired (upstream:
//! `pkg/controller/bootstrap`, the token cleaner).

mod plan;

use std::sync::Arc;

use api::ObjectKey;
use api::types::core::v1::Secret;
use client::Cache;
use reconcile::{Loop, Moment, Plan, Reconciler};

use crate::controllers::Context;

/// The loop's cache: bootstrap tokens only.
pub struct TokenCleaner {
    tokens: Arc<Cache<Secret>>,
}

/// The loop, wired.
pub fn start(context: &Context) -> Loop {
    let tokens = context.caches.bootstrap_tokens();
    Loop::new(TokenCleaner { tokens: Arc::clone(&tokens) }, 1).own(&tokens)
}

impl Reconciler for TokenCleaner {
    const NAME: &'static str = "token-cleaner";
    type Observed = Arc<Secret>;

    fn observe(&self, key: &ObjectKey) -> Option<Arc<Secret>> {
        self.tokens.get_key(key)
    }

    fn plan(&self, token: &Arc<Secret>, moment: &Moment) -> Plan {
        plan::plan(token, moment.now)
    }
}
