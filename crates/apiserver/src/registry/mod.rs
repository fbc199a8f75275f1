//! The verbs, once, for every kind: what both fronts call.
//!
//! A write: decode, mutate (defaults, admission), validate, encode once, one
//! transaction of the store. A read: bytes from the watch cache. What differs
//! between kinds is in the kind's descriptor, never here.

mod charge;
mod companions;
mod create;
mod decode;
mod delete;
mod kinds;
mod owners;
mod paced;
mod read;
mod table;
mod update;
mod view;

use std::sync::Arc;

use api::{Object, Status};
use bytes::Bytes;
use daemon::Clock;
use resources::Descriptor;
use store::{Store, StoreError};

use crate::admission::{Chain, Late, Operation, Request};
use crate::authn::{MASTERS, User};
use crate::cache::{self, WatchCache};
use crate::conversion::Converter;
use crate::stored::{Corrupt, Stored};

pub use companions::{Companions, Planner};
pub use create::{CreateOptions, random_suffix};
pub use decode::{BodyKind, Decoded, FieldValidation, MediaType, decode, decode_options};
pub use delete::{DeleteOptions, Deleted};
pub use kinds::Kinds;
pub use owners::Owners;
pub use paced::{Beat, PacedWatch};
pub use read::{Continue, ListQuery, Listed, Matching, Watch, WatchBatch, WatchItem, WatchQuery};
pub use table::IncludeObject;
pub use update::{Guard, PatchKind, UpdateOptions};
pub use view::{Shape, View};

/// Where the form of a stored object is kept, among its fields; no selector has it.
const FORM: &str = "/form";

/// Who asks, and how.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The authenticated user.
    pub user: Arc<User>,
    /// The name for managed fields.
    pub field_manager: String,
}

impl Caller {
    /// The server itself, which may do everything.
    #[must_use]
    pub(crate) fn server() -> Self {
        Self::server_as("kube-apiserver")
    }

    /// The server itself, under another name for managed fields.
    #[must_use]
    pub(crate) fn server_as(manager: &str) -> Self {
        let user =
            User { name: "system:apiserver".to_owned(), groups: vec![MASTERS.to_owned()], ..User::default() };
        Self { user: Arc::new(user), field_manager: manager.to_owned() }
    }
}

/// The object or collection that a request is about.
#[derive(Clone, Debug)]
pub struct Address {
    /// The kind.
    pub kind: Arc<Descriptor>,
    /// Empty for cluster-scoped kinds and for all namespaces.
    pub namespace: String,
    /// Empty for collections.
    pub name: String,
}

/// An object that was written.
#[derive(Clone, Debug)]
pub struct Written {
    /// Its JSON, as reads will show it.
    pub json: Bytes,
    /// The revision of the write; 0 for a dry run.
    pub revision: u64,
    /// Advice for the client.
    pub warnings: Vec<String>,
    /// Whether it was created rather than changed.
    pub created: bool,
}

impl Written {
    /// What is answered where nothing is made but a success: a binding, an eviction.
    pub(crate) fn done(warnings: Vec<String>) -> Self {
        let status = Status { code: 201, details: None, ..Status::success(api::status::Details::default()) };
        Self { json: status.to_bytes().into(), revision: 0, warnings, created: true }
    }
}

/// All verbs on all kinds.
pub struct Registry {
    store: Arc<dyn Store>,
    cache: Arc<WatchCache>,
    kinds: Arc<Kinds>,
    admission: Chain,
    planners: Vec<Box<dyn Planner>>,
    clock: Arc<dyn Clock>,
    converter: Arc<Converter>,
    turns: charge::Turns,
}

impl Registry {
    /// A registry over a store and the cache that follows it.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        cache: Arc<WatchCache>,
        kinds: Arc<Kinds>,
        admission: Chain,
        planners: Vec<Box<dyn Planner>>,
        clock: Arc<dyn Clock>,
        converter: Arc<Converter>,
    ) -> Self {
        Self { store, cache, kinds, admission, planners, clock, converter, turns: charge::Turns::default() }
    }

    /// The kinds served.
    #[must_use]
    pub fn kinds(&self) -> &Kinds {
        &self.kinds
    }

    /// The watch cache.
    #[must_use]
    pub fn cache(&self) -> &Arc<WatchCache> {
        &self.cache
    }

    /// The clock.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// The object as the store has it now, for a write that was beaten to it.
    async fn fresh(&self, address: &Address) -> Result<Option<Arc<Stored>>, Status> {
        let key = address.key();
        let found = self
            .store
            .range(store::RangeRequest::key(key.clone()))
            .await
            .map_err(|error| store_failed(&error))?;
        let Some(kv) = found.kvs.first() else { return Ok(None) };
        Stored::read(&kv.key, &kv.value, kv.mod_revision).map(Some).map_err(|error| corrupt(&error))
    }

    /// The object as the cache has it now: a write compares revisions anyway.
    fn cached(&self, address: &Address) -> Option<Arc<Stored>> {
        let (group, resource) = &address.kind.storage;
        self.cache.resource(group, resource).get(&address.namespace, &address.name)
    }

    /// The object's stored form for a change, decoded into the kind's version.
    async fn decode_stored(&self, kind: &Descriptor, stored: &Stored) -> Result<Object, Status> {
        let object = stored.object().map_err(|error| corrupt(&error))?;
        let mut object = self.converter.object(kind, object, &kind.api_version()).await?;
        if kind.strategy.converts() {
            kind.strategy.from_stored(&mut object);
        }
        Ok(object)
    }

    /// The value for the store: the one encoding of a write.
    async fn encode_value(&self, kind: &Descriptor, object: &Object) -> Result<Bytes, Status> {
        let mut fields = kind.strategy.selectable(object);
        if !kind.strategy.converts() {
            return Ok(crate::stored::encode(object, &fields));
        }
        if kind.api_version() == kind.stored_version
            && let Some(form) = kind.strategy.form()
        {
            fields.push((FORM, form.to_owned()));
        }
        let mut stored = self.converter.object(kind, object.clone(), &kind.stored_version).await?;
        kind.strategy.to_stored(&mut stored);
        let others = self.kinds.other_versions(kind);
        let mut values = Vec::new();
        for other in others.iter().filter(|other| !other.strategy.selectable_names().is_empty()) {
            let mut object = self.converter.object(other, stored.clone(), &other.api_version()).await?;
            other.strategy.from_stored(&mut object);
            let found = other.strategy.selectable(&object);
            values.extend(found.into_iter().map(|(name, value)| (name.to_owned(), value)));
        }
        for (name, value) in &values {
            if fields.iter().all(|(known, _)| known != name) {
                fields.push((name.as_str(), value.clone()));
            }
        }
        Ok(crate::stored::encode(&stored, &fields))
    }

    /// Asks admission about a connection.
    ///
    /// # Errors
    /// The refusal.
    pub async fn admit_connection(
        &self,
        caller: &Caller,
        address: &Address,
        subresource: &str,
        options: Object,
    ) -> Result<(), Status> {
        let mut request = Request {
            kind: &address.kind,
            requested: None,
            subresource,
            operation: Operation::Connect,
            namespace: &address.namespace,
            name: &address.name,
            caller,
            object: Some(options),
            old: None,
            dry_run: false,
            warnings: Vec::new(),
            late: Late::default(),
        };
        self.admission.mutate(&mut request).await?;
        self.admission.validate(&mut request).await
    }

    /// Asks admission about the body of a part that is created: a binding, an
    /// eviction, a request for a token. Returns what admission made of it, and
    /// its warnings.
    ///
    /// # Errors
    /// The refusal.
    pub async fn admit_part(
        &self,
        caller: &Caller,
        address: &Address,
        subresource: &str,
        body: Object,
        dry_run: bool,
    ) -> Result<(Object, Vec<String>), Status> {
        let mut request = Request {
            kind: &address.kind,
            requested: None,
            subresource,
            operation: Operation::Create,
            namespace: &address.namespace,
            name: &address.name,
            caller,
            object: Some(body),
            old: None,
            dry_run,
            warnings: Vec::new(),
            late: Late::default(),
        };
        self.admission.mutate(&mut request).await?;
        self.admission.validate(&mut request).await?;
        let body = request.object.take().ok_or_else(|| Status::internal("admission lost the object"))?;
        Ok((body, request.warnings))
    }

    /// The bytes to show for a value just written.
    async fn show(
        &self,
        kind: &Descriptor,
        key: &str,
        value: &Bytes,
        revision: u64,
    ) -> Result<Bytes, Status> {
        let stored = Stored::read(key.as_bytes(), value, revision).map_err(|error| corrupt(&error))?;
        self.show_stored(kind, &stored).await
    }

    /// The bytes to show for an object as the store has it.
    async fn show_stored(&self, kind: &Descriptor, stored: &Stored) -> Result<Bytes, Status> {
        if needs_conversion(kind, stored) {
            return Ok(self.decode_stored(kind, stored).await?.to_vec().into());
        }
        Ok(stored.json.clone())
    }

    /// The bytes to show for an object that [`Registry::get`], [`Registry::list`] or
    /// a watch gave, in the kind's version.
    ///
    /// # Errors
    /// An object that cannot be read.
    pub fn present(&self, kind: &Descriptor, stored: &Stored) -> Result<Bytes, Status> {
        if needs_conversion(kind, stored) {
            let mut object = stored.object().map_err(|error| corrupt(&error))?;
            kind.strategy.from_stored(&mut object);
            return Ok(object.to_vec().into());
        }
        Ok(stored.json.clone())
    }
}

/// Whether an object has to be shown otherwise than it is stored.
fn needs_conversion(kind: &Descriptor, stored: &Stored) -> bool {
    let is_current = kind.strategy.form().is_some_and(|form| stored.field(FORM) == Some(form));
    kind.strategy.converts() && !is_current
}

impl Address {
    /// The key in the store.
    #[must_use]
    pub fn key(&self) -> String {
        let (group, resource) = &self.kind.storage;
        cache::key(group, resource, &self.namespace, &self.name)
    }

    /// The status for an object that is not there.
    #[must_use]
    pub fn not_found(&self) -> Status {
        Status::not_found(&self.kind.group, &self.kind.resource, &self.name)
    }

    /// The status for a change that came too late.
    #[must_use]
    pub fn conflict(&self, why: &str) -> Status {
        Status::conflict(&self.kind.group, &self.kind.resource, &self.name, why)
    }
}

/// A failure of the store as clients see it.
#[must_use]
pub fn store_failed(error: &StoreError) -> Status {
    match error {
        StoreError::Compacted { .. } => {
            Status::expired("The resourceVersion for the provided list is too old.")
        }
        StoreError::TooLarge { .. } => {
            Status::new(api::Reason::RequestEntityTooLarge, format!("the object cannot be stored: {error}"))
        }
        StoreError::OutcomeUnknown => Status::new(
            api::Reason::Timeout,
            "the leader changed while the change was under way: it may or may not have happened",
        ),
        StoreError::DiskFull { .. } | StoreError::Corrupt { .. } | StoreError::Unreadable { .. } => {
            Status::internal(error)
        }
        _ => Status::unavailable(format!("the store cannot answer: {error}")),
    }
}

fn corrupt(error: &Corrupt) -> Status {
    Status::new(api::Reason::StoreReadError, error.to_string())
}
