//! Update and patch: read, change, check, write if nobody else wrote since.

use std::sync::Arc;

use api::patch::{PatchError, json_patch, merge_patch, strategic_merge};
use api::{Object, Reason, Status};
use resources::{Part, metadata};
use serde_json::Value;
use store::{Compare, Operation, Txn};

use super::owners::{self, Owners, Through};
use super::{Address, Caller, CreateOptions, FieldValidation, Registry, Written, store_failed};
use crate::admission::{Late, Operation as Admitted, Request};
use crate::stored::Stored;

/// Tries of a change that does not name a resource version.
const ATTEMPTS: u32 = 16;

/// How an update or patch is done.
#[derive(Clone, Debug, Default)]
pub struct UpdateOptions {
    /// Everything but the store.
    pub dry_run: bool,
    /// What happens to unknown fields in a patch's result.
    pub field_validation: FieldValidation,
    /// What happens to the owners of fields.
    pub owners: Owners,
    /// Whether admission has seen the request, in another form.
    pub is_admitted: bool,
}

/// The formats of patches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchKind {
    /// RFC 6902.
    Json,
    /// RFC 7396.
    Merge,
    /// Kubernetes' own.
    Strategic,
    /// Server-side apply.
    Apply {
        /// Whether fields are taken from their owners.
        force: bool,
    },
}

/// What has to be checked of a patch's result before anything else.
pub type Guard<'a> = &'a (dyn Fn(&Object) -> Result<(), Status> + Send + Sync);

/// What an attempt of a change starts from.
struct Base<'a> {
    stored: &'a Stored,
    /// Whether it came from the store, not from the cache.
    is_fresh: bool,
    attempt: u32,
}

/// From the current object to the wanted one.
type Transform<'a> = &'a (dyn Fn(&Object) -> Result<(Object, Vec<String>), Status> + Send + Sync);

impl Registry {
    /// Replaces an object, or a part of it.
    ///
    /// # Errors
    /// Why the object is refused, or why it cannot be stored.
    pub async fn update(
        &self,
        caller: &Caller,
        mut address: Address,
        part: Part<'_>,
        mut object: Object,
        options: &UpdateOptions,
        warnings: Vec<String>,
    ) -> Result<Written, Status> {
        if object.name().is_empty() {
            object.set_at(&["metadata", "name"], address.name.as_str());
        } else if object.name() != address.name {
            return Err(Status::bad_request(format!(
                "the name of the object ({}) does not match the name on the URL ({})",
                object.name(),
                address.name
            )));
        }
        super::create::settle_namespace(&mut address, &mut object)?;
        let kind = Arc::clone(&address.kind);
        if part == Part::Main
            && object.resource_version().is_empty()
            && !kind.strategy.updates_unconditionally()
            && self.cached(&address).is_some()
        {
            return Err(Status::invalid(
                &kind.group,
                &kind.kind,
                object.name(),
                &[api::FieldError::invalid(
                    &api::Path::new("metadata").child("resourceVersion"),
                    "",
                    "must be specified for an update",
                )],
            ));
        }
        if part == Part::Main && kind.strategy.creates_on_update() && self.current(&address).await?.is_none()
        {
            object.remove_at(&["metadata", "resourceVersion"]);
            let options = CreateOptions { dry_run: options.dry_run, owners: options.owners };
            return self.create(caller, address, object, &options, warnings).await;
        }
        let transform = |_: &Object| Ok((object.clone(), Vec::new()));
        let mut written = self.change(caller, &address, part, options, &transform).await?;
        written.warnings.splice(0..0, warnings);
        Ok(written)
    }

    /// Patches an object, or a part of it.
    ///
    /// # Errors
    /// Why the patch or its result is refused, or why it cannot be stored.
    pub async fn patch(
        &self,
        caller: &Caller,
        address: Address,
        part: Part<'_>,
        (kind, patch): (PatchKind, &[u8]),
        options: &UpdateOptions,
        guard: Guard<'_>,
    ) -> Result<Written, Status> {
        if let PatchKind::Apply { force } = kind {
            return self.apply(caller, address, part, (patch, force), options, guard).await;
        }
        let transform = |current: &Object| {
            let (new, warnings) = apply_patch(&address, kind, patch, current, options.field_validation)?;
            guard(&new)?;
            Ok((new, warnings))
        };
        self.change(caller, &address, part, options, &transform).await
    }

    /// Server-side apply: lays a configuration over the object, which it makes
    /// where there is none.
    async fn apply(
        &self,
        caller: &Caller,
        address: Address,
        part: Part<'_>,
        (config, force): (&[u8], bool),
        options: &UpdateOptions,
        guard: Guard<'_>,
    ) -> Result<Written, Status> {
        let repeated: Vec<String> = owners::repeated(config, options.field_validation)?.into_iter().collect();
        let config = owners::read_config(&address, config)?;
        let through = Through::of(part, options.owners);
        let settled = |live: &Object| {
            let mut object = self.applied(&address, caller, &through, live, (&config, force))?;
            // The configuration was checked; what it leaves out is filled in.
            address.kind.conform(&mut object).map_err(|error| Status::bad_request(error.to_string()))?;
            guard(&object)?;
            Ok((object, repeated.clone()))
        };
        if through.subresource.is_empty() && self.current(&address).await?.is_none() {
            if !config.uid().is_empty() {
                return Err(address.conflict(&format!(
                    "Precondition failed: UID in precondition: {}, UID in object meta: ",
                    config.uid()
                )));
            }
            let (object, warnings) = settled(&owners::empty(&address.kind))?;
            let create = CreateOptions { dry_run: options.dry_run, owners: Owners::Settled };
            let created = self.create(caller, address.clone(), object, &create, warnings).await;
            match created {
                // Somebody was quicker: there is something to apply to now.
                Err(status) if status.reason == Reason::AlreadyExists => {}
                other => return other,
            }
        }
        let options = UpdateOptions { owners: Owners::Settled, ..options.clone() };
        self.change(caller, &address, part, &options, &settled).await
    }

    /// Changes an object by a function of its current state.
    ///
    /// # Errors
    /// What the function refuses, or why the result is refused or not stored.
    pub async fn change(
        &self,
        caller: &Caller,
        address: &Address,
        part: Part<'_>,
        options: &UpdateOptions,
        transform: Transform<'_>,
    ) -> Result<Written, Status> {
        let mut current = match self.cached(address) {
            Some(cached) => cached,
            None => self.fresh(address).await?.ok_or_else(|| address.not_found())?,
        };
        let mut is_fresh = false;
        for attempt in 0..ATTEMPTS {
            let base = Base { stored: &current, is_fresh, attempt };
            match self.try_change(caller, address, part, options, transform, base).await {
                Ok(Some(written)) => return Ok(written),
                // Judged by a state that may have been stale: look again before refusing.
                Err(status) if is_fresh || !may_be_stale(&status) => return Err(status),
                Ok(None) | Err(_) => {}
            }
            current = self.fresh(address).await?.ok_or_else(|| address.not_found())?;
            is_fresh = true;
        }
        Err(address.conflict(Status::MODIFIED))
    }

    async fn try_change(
        &self,
        caller: &Caller,
        address: &Address,
        part: Part<'_>,
        options: &UpdateOptions,
        transform: Transform<'_>,
        base: Base<'_>,
    ) -> Result<Option<Written>, Status> {
        let kind = &address.kind;
        let current = base.stored;
        let old = self.decode_stored(kind, current).await?;
        let (mut new, mut warnings) = transform(&old)?;
        check_preconditions(address, &new, &old)?;
        keep_system_fields(&mut new, &old);
        kind.strategy.default(&mut new);
        kind.strategy.prepare_update(part, &mut new, &old);
        let subresource = Through::of(part, Owners::Track).subresource;
        match options.owners {
            Owners::Track => self.track(kind, caller, subresource, Some(&old), &mut new),
            Owners::TrackAs(name) => self.track(kind, caller, name, Some(&old), &mut new),
            Owners::Settled => {}
            Owners::Keep => keep_owners(&mut new, &old),
        }
        let mut request = Request {
            kind,
            requested: None,
            subresource,
            operation: Admitted::Update,
            namespace: &address.namespace,
            name: &address.name,
            caller,
            object: Some(new),
            old: Some(old),
            dry_run: options.dry_run,
            warnings: Vec::new(),
            late: Late::default(),
        };
        self.mutate(&mut request, options).await?;
        let (Some(mut new), Some(old)) = (request.object.take(), request.old.take()) else {
            return Err(Status::internal("admission lost the object"));
        };
        // What admission changed outside the part does not count.
        kind.strategy.prepare_update(part, &mut new, &old);
        let companions = self.companions(kind, Some(&old), Some(&mut new), base.attempt).await?;
        let mut errors = metadata::validate_update(kind, &new, &old);
        if part == Part::Main {
            errors.extend(kind.strategy.validate(&new));
        }
        errors.extend(kind.strategy.validate_update(part, &new, &old));
        if !errors.is_empty() {
            return Err(Status::invalid(&kind.group, &kind.kind, new.name(), &errors));
        }
        warnings.extend(kind.strategy.warnings(&new, Some(&old)));
        (request.object, request.old) = (Some(new), Some(old));
        self.judge(&mut request, options).await?;
        let charge = self.charge(&request).await?;
        warnings.append(&mut request.warnings);
        let new = request.object.take().ok_or_else(|| Status::internal("admission lost the object"))?;
        if super::delete::is_finished(kind, &new) {
            return self.finish_deletion(address, current, new, options.dry_run, warnings).await;
        }
        let value = self.encode_value(kind, &new).await?;
        if options.dry_run {
            return Ok(Some(Written { json: new.to_vec().into(), revision: 0, warnings, created: false }));
        }
        if current.is_same(&value) && companions.operations.is_empty() && charge.operations.is_empty() {
            if !base.is_fresh {
                // Against a cache that is behind, an undone change looks like none.
                return Ok(None);
            }
            let json = self.show_stored(kind, current).await?;
            return Ok(Some(Written { json, revision: current.revision, warnings, created: false }));
        }
        let key = address.key();
        let mut compare = vec![Compare::unchanged(key.clone(), current.revision)];
        compare.extend(companions.compare.into_iter().chain(charge.compare));
        let mut success = vec![Operation::put(key.clone(), value.clone())];
        success.extend(companions.operations.into_iter().chain(charge.operations));
        let outcome = self
            .store
            .txn(Txn { compare, success, failure: Vec::new() })
            .await
            .map_err(|error| store_failed(&error))?;
        if !outcome.succeeded {
            return Ok(None);
        }
        let json = self.show(kind, &key, &value, outcome.revision).await?;
        Ok(Some(Written { json, revision: outcome.revision, warnings, created: false }))
    }

    async fn mutate(&self, request: &mut Request<'_>, options: &UpdateOptions) -> Result<(), Status> {
        if options.is_admitted { Ok(()) } else { self.admission.mutate(request).await }
    }

    async fn judge(&self, request: &mut Request<'_>, options: &UpdateOptions) -> Result<(), Status> {
        if options.is_admitted { Ok(()) } else { self.admission.validate(request).await }
    }

    /// The object now, from the cache or, if it is not there, from the store.
    pub(super) async fn current(&self, address: &Address) -> Result<Option<Arc<Stored>>, Status> {
        match self.cached(address) {
            Some(cached) => Ok(Some(cached)),
            None => self.fresh(address).await,
        }
    }
}

/// Whether a refusal may come from a cache that is behind.
fn may_be_stale(status: &Status) -> bool {
    matches!(
        status.reason,
        Reason::Conflict | Reason::Invalid | Reason::NotFound | Reason::Unknown | Reason::Forbidden
    )
}

/// A resource version or uid in the new object must be those of the old one.
fn check_preconditions(address: &Address, new: &Object, old: &Object) -> Result<(), Status> {
    let version = new.resource_version();
    if !version.is_empty() && version != "0" && version != old.resource_version() {
        return Err(address.conflict(Status::MODIFIED));
    }
    if !new.uid().is_empty() && new.uid() != old.uid() {
        return Err(address.conflict(&format!(
            "Precondition failed: UID in precondition: {}, UID in object meta: {}",
            new.uid(),
            old.uid()
        )));
    }
    Ok(())
}

/// What only the server may set stays as it was.
fn keep_system_fields(new: &mut Object, old: &Object) {
    const KEPT: [&str; 6] = [
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generateName",
        "generation",
    ];
    for field in KEPT {
        match old.at(&["metadata", field]) {
            Some(value) => new.set_at(&["metadata", field], value.clone()),
            None => {
                new.remove_at(&["metadata", field]);
            }
        }
    }
    new.set_at(&["metadata", "resourceVersion"], old.resource_version());
    new.remove_at(&["metadata", "selfLink"]);
}

fn keep_owners(new: &mut Object, old: &Object) {
    match old.at(&["metadata", "managedFields"]) {
        Some(managed) => new.set_at(&["metadata", "managedFields"], managed.clone()),
        None => {
            new.remove_at(&["metadata", "managedFields"]);
        }
    }
}

fn apply_patch(
    address: &Address,
    patch_kind: PatchKind,
    patch: &[u8],
    current: &Object,
    validation: FieldValidation,
) -> Result<(Object, Vec<String>), Status> {
    let kind = &address.kind;
    let mut value = current.clone().into_value();
    match patch_kind {
        PatchKind::Json => json_patch(&mut value, patch).map_err(|error| patch_failed(&error))?,
        PatchKind::Merge => merge_patch(&mut value, parse_patch(patch)?),
        PatchKind::Strategic if !kind.strategy.merges_strategically() => {
            return Err(Status::new(
                Reason::UnsupportedMediaType,
                "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml",
            ));
        }
        PatchKind::Strategic => {
            let (Value::Object(patch), Value::Object(target)) = (parse_patch(patch)?, &mut value) else {
                return Err(Status::bad_request("a strategic merge patch must be a JSON object"));
            };
            strategic_merge(&kind.shape.0, kind.shape.1, target, patch)
                .map_err(|error| patch_failed(&error))?;
        }
        PatchKind::Apply { .. } => return Err(Status::internal("an apply is no patch of the object's text")),
    }
    let mut object = Object::from_value(value).map_err(|error| Status::bad_request(error.to_string()))?;
    object.set("apiVersion", kind.api_version());
    object.set("kind", kind.kind.as_str());
    if object.name() != address.name {
        return Err(Status::invalid(
            &kind.group,
            &kind.kind,
            &address.name,
            &[api::FieldError::invalid(
                &api::Path::new("metadata").child("name"),
                object.name(),
                "field is immutable",
            )],
        ));
    }
    let found = kind.conform(&mut object).map_err(|error| {
        let kind = &kind.kind;
        Status::new(
            Reason::BadRequest,
            format!("{kind} in version {:?} cannot be handled as a {kind}: {error}", address.kind.version),
        )
    })?;
    let texts: Vec<String> = found.unknown.iter().map(|path| format!("unknown field {path:?}")).collect();
    match validation {
        FieldValidation::Strict if !texts.is_empty() => {
            Err(Status::bad_request(format!("strict decoding error: {}", texts.join(", "))))
        }
        FieldValidation::Ignore => Ok((object, Vec::new())),
        FieldValidation::Strict | FieldValidation::Warn => Ok((object, texts)),
    }
}

fn parse_patch(patch: &[u8]) -> Result<Value, Status> {
    serde_json::from_slice(patch)
        .map_err(|error| Status::bad_request(format!("error decoding patch: {error}")))
}

fn patch_failed(error: &PatchError) -> Status {
    match error {
        PatchError::Malformed(_) => Status::bad_request(error.to_string()),
        PatchError::TooManyOperations(_) => Status::new(Reason::RequestEntityTooLarge, error.to_string()),
        PatchError::DoesNotApply(_) | PatchError::TestFailed(_) | PatchError::CopiesTooMuch(_) => {
            let message = format!("the server rejected our request due to an error in our request: {error}");
            Status::new(Reason::Invalid, message)
        }
    }
}
