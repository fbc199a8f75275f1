//! Writes are charged to quotas in their own transaction.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use api::{Object, Status};
use store::{Compare, Operation, RangeRequest};
use tokio::sync::{Mutex, MutexGuard};

use super::{Registry, corrupt, store_failed};
use crate::admission::{Request, resource_quota};
use crate::cache::{self, Selected};
use crate::stored::Stored;

/// Namespaces that share a turn only wait a little for each other.
const TURNS: usize = 64;

/// Writers of a namespace with quotas take turns: they would only beat each
/// other to it. (Against other servers the comparison protects.)
pub(super) struct Turns([Mutex<()>; TURNS]);

impl Default for Turns {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::default()))
    }
}

impl Turns {
    async fn take(&self, namespace: &str) -> MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        namespace.hash(&mut hasher);
        let turn = usize::try_from(hasher.finish() % 64).unwrap_or_default();
        self.0[turn].lock().await
    }
}

/// What goes along with a write that is charged.
#[derive(Default)]
pub(super) struct Charge<'a> {
    /// Must hold, or the write is charged anew.
    pub(super) compare: Vec<Compare>,
    /// Written with the object.
    pub(super) operations: Vec<Operation>,
    /// Held until the write is done.
    _turn: Option<MutexGuard<'a, ()>>,
}

impl Registry {
    /// Charges a write to the quotas of its namespace.
    pub(super) async fn charge(&self, request: &Request<'_>) -> Result<Charge<'_>, Status> {
        if !self.admission.charges() || !resource_quota::is_charged(request) {
            return Ok(Charge::default());
        }
        let selected = Selected { namespace: request.namespace.to_owned(), ..Selected::default() };
        if self.cache.resource("", "resourcequotas").list(&selected, 1, None).0.is_empty() {
            return Ok(Charge::default());
        }
        let Some(kind) = self.kinds.find("", "v1", "resourcequotas") else { return Ok(Charge::default()) };
        let turn = self.turns.take(request.namespace).await;
        let prefix = cache::key("", "resourcequotas", request.namespace, "");
        let found =
            self.store.range(RangeRequest::prefix(prefix)).await.map_err(|error| store_failed(&error))?;
        let mut quotas = Vec::with_capacity(found.kvs.len());
        for kv in &found.kvs {
            let stored =
                Stored::read(&kv.key, &kv.value, kv.mod_revision).map_err(|error| corrupt(&error))?;
            quotas.push(self.decode_stored(&kind, &stored).await?);
        }
        let charged = resource_quota::charge(quotas, request, self.clock.now())
            .map_err(|why| request.forbidden(&why))?;
        let mut charge = Charge { _turn: Some(turn), ..Charge::default() };
        for quota in &charged {
            let key = cache::key("", "resourcequotas", request.namespace, quota.name());
            charge.compare.push(Compare::unchanged(key.clone(), revision(quota)?));
            charge.operations.push(Operation::put(key, self.encode_value(&kind, quota).await?));
        }
        Ok(charge)
    }
}

fn revision(quota: &Object) -> Result<u64, Status> {
    quota.resource_version().parse().map_err(|_| Status::internal("a quota without a revision"))
}
