//! What both fronts call: resolve the target, authorize, then the registry's
//! verb; subresources and reviews included, so that a front only translates.

use std::sync::Arc;

use api::{LabelSelector, Object, Status};
use bytes::Bytes;
use resources::descriptor::ScalePaths;
use resources::{Descriptor, Part, Subresource};

use crate::audit;
use crate::authn::{Authenticator, User};
use crate::authz::{Attributes, Authorizer};
use crate::entry::Doors;
use crate::registry::{
    Address, BodyKind, Caller, CreateOptions, Decoded, DeleteOptions, Deleted, FieldValidation, ListQuery,
    Listed, MediaType, Owners, PatchKind, Registry, UpdateOptions, Watch, WatchQuery, Written, decode,
};
use crate::stored::Stored;
use crate::{reviews, scale};

/// Where a request points.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// Empty for the core group.
    pub group: String,
    /// The version.
    pub version: String,
    /// Plural.
    pub resource: String,
    /// Empty for the main resource.
    pub subresource: String,
    /// Empty for cluster scope, and all namespaces.
    pub namespace: String,
    /// Empty for collections.
    pub name: String,
}

impl Target {
    /// What a request asks that does `verb` to this.
    #[must_use]
    pub fn asks(&self, verb: &str) -> Attributes {
        Attributes {
            verb: verb.to_owned(),
            group: self.group.clone(),
            version: self.version.clone(),
            resource: self.resource.clone(),
            subresource: self.subresource.clone(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            ..Attributes::default()
        }
    }
}

/// A body as it came.
#[derive(Clone, Copy, Debug)]
pub struct Body<'a> {
    /// Its encoding.
    pub media: MediaType,
    /// The bytes.
    pub bytes: &'a [u8],
    /// What happens to unknown fields.
    pub validation: FieldValidation,
}

/// What a get shows.
pub enum Shown {
    /// A stored object.
    Stored(Arc<Stored>),
    /// Something made for the request.
    Made(Bytes),
}

/// Everything that a request needs, shared by both fronts.
pub struct Gate {
    registry: Registry,
    authenticator: Authenticator,
    authorizer: Arc<Authorizer>,
    doors: Doors,
}

/// A target that was found and allowed.
#[derive(Debug)]
pub struct Allowed {
    /// The kind, and the object or collection.
    pub address: Address,
    /// The subresource, if one.
    pub subresource: Option<Subresource>,
}

impl Allowed {
    fn part(&self) -> Part<'_> {
        match self.subresource.as_ref().map(|one| one.name.as_str()) {
            None => Part::Main,
            Some("status") => Part::Status,
            Some(other) => Part::Other(other),
        }
    }

    fn is_scale(&self) -> bool {
        self.subresource.as_ref().is_some_and(|one| one.scale.is_some())
    }

    /// The kind that bodies of this target have.
    fn body_kind(&self) -> BodyKind<'_> {
        let kind = &*self.address.kind;
        match &self.subresource {
            Some(one) if one.kind != kind.kind || one.group_version.is_some() => match &one.group_version {
                Some((group, version)) => BodyKind::other(group, version, &one.kind),
                None => BodyKind::other(&kind.group, &kind.version, &one.kind),
            },
            _ => BodyKind::of(kind),
        }
    }
}

impl Gate {
    /// A gate before a registry.
    #[must_use]
    pub const fn new(
        registry: Registry,
        authenticator: Authenticator,
        authorizer: Arc<Authorizer>,
        doors: Doors,
    ) -> Self {
        Self { registry, authenticator, authorizer, doors }
    }

    /// What lets requests in.
    #[must_use]
    pub const fn doors(&self) -> &Doors {
        &self.doors
    }

    /// The registry.
    #[must_use]
    pub const fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Who asks.
    #[must_use]
    pub const fn authenticator(&self) -> &Authenticator {
        &self.authenticator
    }

    /// Who may.
    #[must_use]
    pub fn authorizer(&self) -> &Authorizer {
        &self.authorizer
    }

    /// Finds the target, and checks that the user may do `verb` to it.
    ///
    /// # Errors
    /// No such resource, no such verb, or forbidden.
    pub async fn allow(&self, user: &User, verb: &str, target: &Target) -> Result<Allowed, Status> {
        self.allow_as(user, &target.asks(verb), target).await
    }

    /// [`Self::allow`] for what is selected only.
    async fn allow_selection(
        &self,
        user: &User,
        verb: &str,
        target: &Target,
        (labels, fields): (&LabelSelector, &api::FieldSelector),
    ) -> Result<Allowed, Status> {
        let asked = Attributes { labels: labels.clone(), fields: fields.clone(), ..target.asks(verb) };
        self.allow_as(user, &asked, target).await
    }

    async fn allow_as(&self, user: &User, asked: &Attributes, target: &Target) -> Result<Allowed, Status> {
        let verb = asked.verb.as_str();
        // Forbidden comes before not found: what exists is not for everybody to know.
        self.authorizer.check(user, asked).await?;
        let kind = self
            .registry
            .kinds()
            .find(&target.group, &target.version, &target.resource)
            .ok_or_else(Status::no_such_resource)?;
        let subresource = match target.subresource.as_str() {
            "" => None,
            name => Some(kind.subresource(name).cloned().ok_or_else(Status::no_such_resource)?),
        };
        if kind.namespaced == target.namespace.is_empty()
            && !(kind.namespaced && is_collection_read(verb, target))
        {
            return Err(Status::no_such_resource());
        }
        let verbs = subresource.as_ref().map_or(&kind.verbs, |one| &one.verbs);
        if !verbs.iter().any(|one| one == verb) {
            return Err(Status::method_not_supported(&kind.group, &kind.resource, verb));
        }
        let address = Address { kind, namespace: target.namespace.clone(), name: target.name.clone() };
        Ok(Allowed { address, subresource })
    }

    /// Asks admission whether a connection to an object may be made, with the options
    /// with which it is asked for.
    ///
    /// # Errors
    /// The refusal.
    pub async fn admit_connection(
        &self,
        caller: &Caller,
        allowed: &Allowed,
        options: Object,
    ) -> Result<(), Status> {
        let subresource = allowed.subresource.as_ref();
        let mut options = options;
        options.set("apiVersion", "v1");
        options.set("kind", subresource.map_or("", |one| one.kind.as_str()));
        self.registry
            .admit_connection(
                caller,
                &allowed.address,
                subresource.map_or("", |one| one.name.as_str()),
                options,
            )
            .await
    }

    /// Reads one object, or a subresource of it.
    ///
    /// # Errors
    /// As a status.
    pub async fn get(
        &self,
        user: &User,
        target: &Target,
        resource_version: &str,
    ) -> Result<(Arc<Descriptor>, Shown), Status> {
        let allowed = self.allow(user, "get", target).await?;
        let stored = self.registry.get(&allowed.address, resource_version).await?;
        let kind = Arc::clone(&allowed.address.kind);
        if let Some(paths) = allowed.subresource.as_ref().and_then(|one| one.scale.as_ref()) {
            let object = Object::from_slice(&stored.json).map_err(Status::internal)?;
            let made = Bytes::from(scale::of(&object, paths).to_vec());
            audit::response_object(200, || made.clone());
            return Ok((kind, Shown::Made(made)));
        }
        audit::response_object(200, || stored.json.clone());
        Ok((kind, Shown::Stored(stored)))
    }

    /// Lists.
    ///
    /// # Errors
    /// As a status.
    pub async fn list(
        &self,
        user: &User,
        target: &Target,
        query: &ListQuery,
    ) -> Result<(Arc<Descriptor>, Listed), Status> {
        let target = with_named(target, &query.fields);
        let selected = (&query.labels, &query.fields);
        let allowed = self.allow_selection(user, "list", &target, selected).await?;
        let address = Address { name: String::new(), ..allowed.address };
        let listed = self.registry.list(&address, query).await?;
        audit::response_object(200, || list_json(&address.kind, &listed));
        Ok((address.kind, listed))
    }

    /// Begins a watch.
    ///
    /// # Errors
    /// As a status.
    pub async fn watch(
        &self,
        user: &User,
        target: &Target,
        query: &WatchQuery,
    ) -> Result<(Arc<Descriptor>, Watch), Status> {
        let target = with_named(target, &query.fields);
        let selected = (&query.labels, &query.fields);
        let allowed = self.allow_selection(user, "watch", &target, selected).await?;
        let address = Address { name: String::new(), ..allowed.address };
        let watch = self.registry.watch(&address, query).await?;
        Ok((address.kind, watch))
    }

    /// Creates an object, or does what creating a subresource or review means.
    ///
    /// # Errors
    /// As a status.
    pub async fn create(
        &self,
        caller: &Caller,
        target: &Target,
        body: Body<'_>,
        dry_run: bool,
    ) -> Result<Written, Status> {
        let allowed = self.allow(&caller.user, "create", target).await?;
        let body_kind = allowed.body_kind();
        let decoded = decode(&allowed.address.kind, &body_kind, body.media, body.bytes, body.validation)?;
        audit::request_object(&decoded.object);
        self.create_decoded(caller, target, &allowed, decoded, dry_run).await.inspect(tell)
    }

    async fn create_decoded(
        &self,
        caller: &Caller,
        target: &Target,
        allowed: &Allowed,
        decoded: Decoded,
        dry_run: bool,
    ) -> Result<Written, Status> {
        if let Some(subresource) = &allowed.subresource {
            return self
                .create_subresource(caller, allowed, &subresource.name, decoded.object, dry_run)
                .await;
        }
        let kind = &allowed.address.kind;
        if !kind.is_stored() {
            let json = reviews::answer(self, caller, &allowed.address, decoded.object).await?;
            return Ok(Written {
                json: json.to_vec().into(),
                revision: 0,
                warnings: decoded.warnings,
                created: true,
            });
        }
        if !target.name.is_empty() {
            return Err(Status::method_not_supported(&kind.group, &kind.resource, "create"));
        }
        self.guard_escalation(&caller.user, &allowed.address, &decoded.object)?;
        let options = CreateOptions { dry_run, ..CreateOptions::default() };
        self.registry
            .create(caller, allowed.address.clone(), decoded.object, &options, decoded.warnings)
            .await
    }

    async fn create_subresource(
        &self,
        caller: &Caller,
        allowed: &Allowed,
        subresource: &str,
        object: Object,
        dry_run: bool,
    ) -> Result<Written, Status> {
        let made = |object: Object| Written {
            json: object.to_vec().into(),
            revision: 0,
            warnings: Vec::new(),
            created: true,
        };
        let address = &allowed.address;
        match (address.kind.resource.as_str(), subresource) {
            ("serviceaccounts", "token") => {
                let (object, warnings) =
                    self.registry.admit_part(caller, address, subresource, object, dry_run).await?;
                let issued = reviews::issue_token(self, address, object).await?;
                Ok(Written { warnings, ..made(issued) })
            }
            ("pods", "binding") => self.bind(caller, address, object, dry_run).await,
            ("pods", "eviction") => {
                let (object, warnings) =
                    self.registry.admit_part(caller, address, subresource, object, dry_run).await?;
                let evicted = self.evict(caller, address, &object, dry_run).await?;
                Ok(Written { warnings, ..evicted })
            }
            _ => Err(Status::method_not_supported(&allowed.address.kind.group, subresource, "create")),
        }
    }

    /// Replaces an object or a part of it.
    ///
    /// # Errors
    /// As a status.
    pub async fn update(
        &self,
        caller: &Caller,
        target: &Target,
        body: Body<'_>,
        dry_run: bool,
    ) -> Result<Written, Status> {
        let allowed = self.allow(&caller.user, "update", target).await?;
        let body_kind = allowed.body_kind();
        let decoded = decode(&allowed.address.kind, &body_kind, body.media, body.bytes, body.validation)?;
        audit::request_object(&decoded.object);
        let options =
            UpdateOptions { dry_run, field_validation: body.validation, ..UpdateOptions::default() };
        if allowed.is_scale() {
            return self.update_scale(caller, &allowed, &decoded.object, &options).await.inspect(tell);
        }
        self.guard_escalation(&caller.user, &allowed.address, &decoded.object)?;
        let part = allowed.part();
        self.registry
            .update(caller, allowed.address.clone(), part, decoded.object, &options, decoded.warnings)
            .await
            .inspect(tell)
    }

    /// Patches an object or a part of it.
    ///
    /// # Errors
    /// As a status.
    pub async fn patch(
        &self,
        caller: &Caller,
        target: &Target,
        kind: PatchKind,
        patch: &[u8],
        options: &UpdateOptions,
    ) -> Result<Written, Status> {
        let allowed = self.allow(&caller.user, "patch", target).await?;
        audit::request_patch(patch);
        self.patch_allowed(caller, &allowed, (kind, patch), options).await.inspect(tell)
    }

    async fn patch_allowed(
        &self,
        caller: &Caller,
        allowed: &Allowed,
        (kind, patch): (PatchKind, &[u8]),
        options: &UpdateOptions,
    ) -> Result<Written, Status> {
        if let Some(paths) = allowed.subresource.as_ref().and_then(|one| one.scale.as_ref()) {
            let address = &allowed.address;
            if matches!(kind, PatchKind::Apply { .. }) {
                let config = scale::config(address, patch, paths)?.to_vec();
                let options = UpdateOptions { owners: Owners::TrackAs("scale"), ..options.clone() };
                let patch = (kind, config.as_slice());
                let part = Part::Main;
                let written =
                    self.registry.patch(caller, address.clone(), part, patch, &options, &|_| Ok(())).await?;
                return scale_of(written, paths);
            }
            let stored = self.registry.get(address, "").await?;
            let object = Object::from_slice(&stored.json).map_err(Status::internal)?;
            let patched = scale::patched(&scale::of(&object, paths), kind, patch)?;
            return self.update_scale(caller, allowed, &patched, options).await;
        }
        let guard = |object: &Object| self.guard_escalation(&caller.user, &allowed.address, object);
        let part = allowed.part();
        self.registry.patch(caller, allowed.address.clone(), part, (kind, patch), options, &guard).await
    }

    async fn update_scale(
        &self,
        caller: &Caller,
        allowed: &Allowed,
        wanted: &Object,
        options: &UpdateOptions,
    ) -> Result<Written, Status> {
        let Some(paths) = allowed.subresource.as_ref().and_then(|one| one.scale.as_ref()) else {
            return Err(Status::no_such_resource());
        };
        let transform = |object: &Object| {
            scale::apply(&allowed.address, object, wanted, paths).map(|new| (new, Vec::new()))
        };
        let options = UpdateOptions { owners: Owners::TrackAs("scale"), ..options.clone() };
        let written =
            self.registry.change(caller, &allowed.address, Part::Main, &options, &transform).await?;
        scale_of(written, paths)
    }

    /// Deletes an object.
    ///
    /// # Errors
    /// As a status.
    pub async fn delete(
        &self,
        caller: &Caller,
        target: &Target,
        options: &DeleteOptions,
    ) -> Result<Deleted, Status> {
        let allowed = self.allow(&caller.user, "delete", target).await?;
        audit::request_options(options);
        let deleted = self.registry.delete(caller, &allowed.address, options).await?;
        match &deleted {
            Deleted::Gone(status) => audit::response_object(200, || status.to_bytes().into()),
            Deleted::Later(written) => tell(written),
        }
        Ok(deleted)
    }

    /// Deletes what a query selects.
    ///
    /// # Errors
    /// As a status.
    pub async fn delete_collection(
        &self,
        caller: &Caller,
        target: &Target,
        query: &ListQuery,
        options: &DeleteOptions,
    ) -> Result<(Arc<Descriptor>, Vec<Bytes>), Status> {
        let selected = (&query.labels, &query.fields);
        let allowed = self.allow_selection(&caller.user, "deletecollection", target, selected).await?;
        audit::request_options(options);
        let items = self.registry.delete_collection(caller, &allowed.address, query, options).await?;
        Ok((allowed.address.kind, items))
    }
}

/// A list for the record.
fn list_json(kind: &Descriptor, listed: &Listed) -> Bytes {
    let head = serde_json::json!({
        "kind": format!("{}List", kind.kind), "apiVersion": kind.api_version(),
        "metadata": {"resourceVersion": listed.revision.to_string()},
    });
    let mut json = head.to_string().into_bytes();
    json.pop();
    json.extend_from_slice(b",\"items\":[");
    for (index, object) in listed.objects.iter().enumerate() {
        if index > 0 {
            json.push(b',');
        }
        json.extend_from_slice(&object.json);
    }
    json.extend_from_slice(b"]}");
    json.into()
}

/// Notes what was written in the request's record.
fn tell(written: &Written) {
    audit::response_object(if written.created { 201 } else { 200 }, || written.json.clone());
}

/// What was written, as its scale.
fn scale_of(written: Written, paths: &ScalePaths) -> Result<Written, Status> {
    let object = Object::from_slice(&written.json).map_err(Status::internal)?;
    Ok(Written { json: scale::of(&object, paths).to_vec().into(), ..written })
}

fn is_collection_read(verb: &str, target: &Target) -> bool {
    matches!(verb, "list" | "watch" | "deletecollection") && target.subresource.is_empty()
}

/// A list or watch of one name is authorized for that name.
fn with_named(target: &Target, fields: &api::FieldSelector) -> Target {
    let mut target = target.clone();
    if target.name.is_empty() {
        fields.required("metadata.name").unwrap_or_default().clone_into(&mut target.name);
    }
    target
}

/// Reads a label selector of a query.
///
/// # Errors
/// As a status.
pub fn label_selector(text: &str) -> Result<LabelSelector, Status> {
    LabelSelector::parse(text)
        .map_err(|error| Status::bad_request(format!("unable to parse requirement: {error}")))
}

/// Reads a field selector of a query.
///
/// # Errors
/// As a status.
pub fn field_selector(text: &str) -> Result<api::FieldSelector, Status> {
    api::FieldSelector::parse(text).map_err(|error| Status::bad_request(error.to_string()))
}
