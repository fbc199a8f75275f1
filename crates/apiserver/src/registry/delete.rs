//! Delete and delete collection: at once, with grace, or when the last
//! finalizer is gone.

use api::status::Details;
use api::{Object, Reason, Status, metav1};
use bytes::Bytes;
use resources::Descriptor;
use resources::strategy::Grace;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::{Compare, Operation, Txn};

use super::{Address, Caller, ListQuery, Registry, Written, store_failed};
use crate::admission::{Late, Operation as Admitted, Request};
use crate::stored::Stored;

const ATTEMPTS: u32 = 16;
const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// `metav1.DeleteOptions`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeleteOptions {
    /// Seconds; `None`: the kind's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace_period_seconds: Option<i64>,
    /// What must hold of the object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preconditions: Option<metav1::Preconditions>,
    /// The old form of `propagation_policy`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub orphan_dependents: Option<bool>,
    /// `Orphan`, `Background` or `Foreground`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub propagation_policy: Option<String>,
    /// `All`: everything but the store.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dry_run: Vec<String>,
}

/// What a delete did.
#[derive(Debug)]
pub enum Deleted {
    /// The object is gone; a status says which.
    Gone(Status),
    /// The object lives on for a while; its JSON.
    Later(Written),
}

impl DeleteOptions {
    /// # Errors
    /// Values that are none, or that exclude each other.
    pub fn check(&self) -> Result<(), Status> {
        let invalid = |why: String| {
            Status::new(Reason::Invalid, format!("DeleteOptions.meta.k8s.io \"\" is invalid: {why}"))
        };
        if self.orphan_dependents.is_some() && self.propagation_policy.is_some() {
            return Err(invalid(
                "propagationPolicy: Invalid value: orphanDependents and deletionPropagation cannot be both set".into(),
            ));
        }
        match self.propagation_policy.as_deref() {
            None | Some("Orphan" | "Background" | "Foreground") => {}
            Some(other) => {
                return Err(invalid(format!(
                    "propagationPolicy: Unsupported value: {other:?}: supported values: \"Foreground\", \"Background\", \"Orphan\""
                )));
            }
        }
        if self.dry_run.iter().any(|one| one != "All") {
            return Err(invalid("dryRun: Unsupported value: supported values: \"All\"".into()));
        }
        Ok(())
    }

    fn is_dry_run(&self) -> bool {
        !self.dry_run.is_empty()
    }

    /// The finalizers that the policy adds and removes.
    fn propagation(&self) -> Option<Option<&'static str>> {
        match (self.propagation_policy.as_deref(), self.orphan_dependents) {
            (Some("Orphan"), _) | (None, Some(true)) => Some(Some(ORPHAN)),
            (Some("Foreground"), _) => Some(Some(FOREGROUND)),
            (Some(_), _) | (None, Some(false)) => Some(None),
            (None, None) => None,
        }
    }
}

/// Whether a terminating object has nothing left to wait for.
pub(super) fn is_finished(kind: &Descriptor, object: &Object) -> bool {
    object.is_terminating()
        && object.finalizers().next().is_none()
        && object.integer(&["metadata", "deletionGracePeriodSeconds"]).unwrap_or(0) == 0
        && !kind.strategy.is_held(object)
}

impl Registry {
    /// Deletes an object, or begins its deletion.
    ///
    /// # Errors
    /// Why it is refused, or why it cannot be stored.
    pub async fn delete(
        &self,
        caller: &Caller,
        address: &Address,
        options: &DeleteOptions,
    ) -> Result<Deleted, Status> {
        options.check()?;
        let mut current = self.current(address).await?.ok_or_else(|| address.not_found())?;
        for _ in 0..ATTEMPTS {
            match self.try_delete(caller, address, options, &current).await? {
                Some(deleted) => return Ok(deleted),
                None => current = self.fresh(address).await?.ok_or_else(|| address.not_found())?,
            }
        }
        Err(address.conflict(Status::MODIFIED))
    }

    async fn try_delete(
        &self,
        caller: &Caller,
        address: &Address,
        options: &DeleteOptions,
        current: &Stored,
    ) -> Result<Option<Deleted>, Status> {
        let kind = &address.kind;
        if let Some(unmet) = unmet_precondition(address, options, current) {
            // The cache may be behind: only the store's word counts.
            return match self.fresh(address).await? {
                Some(fresh) if fresh.revision != current.revision => Ok(None),
                Some(_) => Err(unmet),
                None => Err(address.not_found()),
            };
        }
        let old = self.decode_stored(kind, current).await?;
        let mut request = Request {
            kind,
            requested: None,
            subresource: "",
            operation: Admitted::Delete,
            namespace: &address.namespace,
            name: &address.name,
            caller,
            object: None,
            old: Some(old),
            dry_run: options.is_dry_run(),
            warnings: Vec::new(),
            late: Late::default(),
        };
        self.admission.mutate(&mut request).await?;
        self.admission.validate(&mut request).await?;
        let old = request.old.take().ok_or_else(|| Status::internal("admission lost the object"))?;
        let mut new = old.clone();
        self.begin_deletion(kind, &mut new, options);
        if is_finished(kind, &new) {
            return Ok(self
                .remove(address, current, &old, options.is_dry_run())
                .await?
                .map(|_| Deleted::Gone(success(address, current))));
        }
        if options.is_dry_run() {
            return Ok(Some(Deleted::Later(Written {
                json: new.to_vec().into(),
                revision: 0,
                warnings: Vec::new(),
                created: false,
            })));
        }
        let value = self.encode_value(kind, &new).await?;
        if current.is_same(&value) {
            let json = self.show_stored(kind, current).await?;
            let written = Written { json, revision: current.revision, warnings: Vec::new(), created: false };
            return Ok(Some(Deleted::Later(written)));
        }
        let key = address.key();
        let txn = Txn {
            compare: vec![Compare::unchanged(key.clone(), current.revision)],
            success: vec![Operation::put(key.clone(), value.clone())],
            failure: Vec::new(),
        };
        let outcome = self.store.txn(txn).await.map_err(|error| store_failed(&error))?;
        if !outcome.succeeded {
            return Ok(None);
        }
        let json = self.show(kind, &key, &value, outcome.revision).await?;
        Ok(Some(Deleted::Later(Written {
            json,
            revision: outcome.revision,
            warnings: Vec::new(),
            created: false,
        })))
    }

    /// Marks the object as terminating, with the grace that is asked and granted.
    fn begin_deletion(&self, kind: &Descriptor, object: &mut Object, options: &DeleteOptions) {
        if let Some(finalizer) = options.propagation() {
            let mut finalizers: Vec<Value> = object
                .finalizers()
                .filter(|one| *one != ORPHAN && *one != FOREGROUND)
                .map(Value::from)
                .collect();
            finalizers.extend(finalizer.map(Value::from));
            if finalizers.is_empty() {
                object.remove_at(&["metadata", "finalizers"]);
            } else {
                object.set_at(&["metadata", "finalizers"], finalizers);
            }
        }
        let seconds = match kind.strategy.grace(object, options.grace_period_seconds) {
            Grace::None => 0,
            Grace::Seconds(seconds) => seconds.max(0),
        };
        let before = object.integer(&["metadata", "deletionGracePeriodSeconds"]);
        if object.is_terminating() && before.is_some_and(|before| before <= seconds) {
            // A second deletion can only shorten the grace.
            return;
        }
        let now = self.clock.now();
        let first = !object.is_terminating();
        let at = now.checked_add(jiff::SignedDuration::from_secs(seconds)).unwrap_or(now);
        object.set_at(&["metadata", "deletionTimestamp"], api::time::format(at));
        object.set_at(&["metadata", "deletionGracePeriodSeconds"], seconds);
        if first && object.generation() > 0 {
            object.set_at(&["metadata", "generation"], object.generation() + 1);
        }
        kind.strategy.prepare_delete(object);
    }

    /// Ends an object whose last update removed what held it.
    pub(super) async fn finish_deletion(
        &self,
        address: &Address,
        current: &Stored,
        last: Object,
        dry_run: bool,
        warnings: Vec<String>,
    ) -> Result<Option<Written>, Status> {
        let Some(revision) = self.remove(address, current, &last, dry_run).await? else { return Ok(None) };
        let mut last = last;
        last.set_at(&["metadata", "resourceVersion"], revision.to_string());
        Ok(Some(Written { json: Bytes::from(last.to_vec()), revision, warnings, created: false }))
    }

    /// Removes the object if nobody changed it since; the revision, if so.
    async fn remove(
        &self,
        address: &Address,
        current: &Stored,
        old: &Object,
        dry_run: bool,
    ) -> Result<Option<u64>, Status> {
        let companions = self.companions(&address.kind, Some(old), None, 0).await?;
        if dry_run {
            return Ok(Some(current.revision));
        }
        let key = address.key();
        let mut success = vec![Operation::delete(key.clone())];
        success.extend(companions.operations);
        let txn =
            Txn { compare: vec![Compare::unchanged(key, current.revision)], success, failure: Vec::new() };
        let outcome = self.store.txn(txn).await.map_err(|error| store_failed(&error))?;
        Ok(outcome.succeeded.then_some(outcome.revision))
    }

    /// Deletes every object that a query selects; the JSON of those deleted.
    ///
    /// # Errors
    /// The first deletion that is refused.
    pub async fn delete_collection(
        &self,
        caller: &Caller,
        address: &Address,
        query: &ListQuery,
        options: &DeleteOptions,
    ) -> Result<Vec<Bytes>, Status> {
        options.check()?;
        let listed = self.list(address, query).await?;
        let mut deleted = Vec::with_capacity(listed.objects.len());
        for object in &listed.objects {
            let one = Address {
                kind: address.kind.clone(),
                namespace: object.namespace().to_owned(),
                name: object.name().to_owned(),
            };
            let mut options = options.clone();
            // Never another object that has taken the name since the list.
            options.preconditions =
                Some(metav1::Preconditions { uid: Some(object.uid().to_owned()), resource_version: None });
            match self.delete(caller, &one, &options).await {
                Ok(Deleted::Later(written)) => deleted.push(written.json),
                Ok(Deleted::Gone(_)) => deleted.push(self.present(&address.kind, object)?),
                Err(status) if matches!(status.reason, Reason::NotFound | Reason::Conflict) => {}
                Err(status) => return Err(status),
            }
        }
        Ok(deleted)
    }
}

fn unmet_precondition(address: &Address, options: &DeleteOptions, current: &Stored) -> Option<Status> {
    let wanted = options.preconditions.as_ref()?;
    if let Some(uid) = wanted.uid.as_deref().filter(|uid| *uid != current.uid()) {
        return Some(address.conflict(&format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            current.uid()
        )));
    }
    let version = wanted.resource_version.as_deref()?;
    (version != current.revision.to_string()).then(|| {
        address.conflict(&format!(
            "Precondition failed: ResourceVersion in precondition: {version}, ResourceVersion in object meta: {}",
            current.revision
        ))
    })
}

fn success(address: &Address, current: &Stored) -> Status {
    Status::success(Details {
        name: address.name.clone(),
        group: address.kind.group.clone(),
        kind: address.kind.resource.clone(),
        uid: current.uid().to_owned(),
        ..Details::default()
    })
}
