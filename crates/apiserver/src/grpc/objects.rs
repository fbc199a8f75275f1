//! The object service.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use api::{Reason, Status};
use client::to_grpc;
use daemon::Shutdown;
use futures::{Stream, StreamExt as _, stream};
use http::Method;
use serde_json::{Value, json};
use tonic::{Request, Response};
use wire::objects as pb;
use wire::objects::objects_server::Objects;

use super::aggregated::{Other, Others, With};
use super::sender_of;
use crate::audit;
use crate::authn::User;
use crate::authz::Attributes;
use crate::cache::ChangeKind;
use crate::entry::{Entered, Sender};
use crate::flow::Reading;
use crate::gate::{Body, Gate, Shown, Target, field_selector, label_selector};
use crate::registry::{
    Beat, Caller, DeleteOptions, Deleted, FieldValidation, IncludeObject, ListQuery, Listed, Matching,
    MediaType, PacedWatch, PatchKind, Shape, UpdateOptions, View, WatchBatch, WatchQuery, Written,
    decode_options,
};
use crate::rest;

/// Bytes of objects in one page of a list.
const PAGE: usize = 1 << 20;

type Reply<T> = Result<Response<T>, tonic::Status>;
type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, tonic::Status>> + Send>>;

/// The object service before a gate.
pub struct ObjectsFront {
    gate: Arc<Gate>,
    others: Others,
    shutdown: Shutdown,
    documents: rest::Documents,
}

impl ObjectsFront {
    pub(super) fn new(gate: Arc<Gate>, others: Others, shutdown: Shutdown) -> Self {
        Self { gate, others, shutdown, documents: rest::Documents::default() }
    }

    async fn enter(&self, sender: &Sender, ask: &Attributes) -> Result<Entered, tonic::Status> {
        self.enter_reading(sender, ask, Reading::default()).await
    }

    /// Lets in what reads many objects.
    async fn enter_reading(
        &self,
        sender: &Sender,
        ask: &Attributes,
        reading: Reading,
    ) -> Result<Entered, tonic::Status> {
        self.gate.enter(sender, ask, reading).await.map_err(|turned| refused(turned.into()))
    }

    /// Whoever else answers for a target, if the user may ask that.
    async fn other<'a>(
        &'a self,
        user: &'a User,
        target: &'a Target,
        ask: Attributes,
    ) -> Result<Option<Other<'a>>, tonic::Status> {
        let Some(other) = self.others.find(user, target) else { return Ok(None) };
        self.gate.authorizer().check(user, &ask).await.map_err(refused)?;
        Ok(Some(other))
    }

    /// Lets a read of a path in.
    async fn enter_path<T>(&self, request: &Request<T>, path: &str) -> Result<Entered, tonic::Status> {
        let ask = Attributes { verb: "get".to_owned(), path: path.to_owned(), ..Attributes::default() };
        self.enter(&sender_of(request)?, &ask).await
    }
}

fn target(target: Option<pb::Target>) -> Result<Target, tonic::Status> {
    let target = target.ok_or_else(|| tonic::Status::invalid_argument("the request has no target"))?;
    Ok(Target {
        group: target.group,
        version: target.version,
        resource: target.resource,
        subresource: target.subresource,
        namespace: target.namespace,
        name: target.name,
    })
}

/// What a request asks that selects objects.
fn selecting(target: &Target, verb: &str, labels: &str, fields: &str) -> Result<Attributes, tonic::Status> {
    Ok(Attributes {
        labels: label_selector(labels).map_err(refused)?,
        fields: field_selector(fields).map_err(refused)?,
        ..target.asks(verb)
    })
}

#[expect(clippy::needless_pass_by_value, reason = "fits map_err")]
fn refused(status: Status) -> tonic::Status {
    audit::failed(&status);
    to_grpc(&status)
}

fn validation(value: i32) -> FieldValidation {
    match pb::FieldValidation::try_from(value) {
        Ok(pb::FieldValidation::Ignore) => FieldValidation::Ignore,
        Ok(pb::FieldValidation::Strict) => FieldValidation::Strict,
        _ => FieldValidation::Warn,
    }
}

fn matching(text: &str) -> Result<Matching, tonic::Status> {
    match text {
        "" => Ok(Matching::Unset),
        "NotOlderThan" => Ok(Matching::NotOlderThan),
        "Exact" => Ok(Matching::Exact),
        other => {
            Err(tonic::Status::invalid_argument(format!("resource_version_match {other:?} is not known")))
        }
    }
}

fn shape(form: i32) -> Shape {
    match pb::Form::try_from(form) {
        Ok(pb::Form::Table) => Shape::Table(IncludeObject::Metadata),
        Ok(pb::Form::Metadata) => Shape::Metadata,
        Ok(pb::Form::Object) | Err(_) => Shape::Object,
    }
}

fn object(written: Written) -> Response<pb::Object> {
    Response::new(pb::Object { json: written.json, revision: written.revision, warnings: written.warnings })
}

fn made(value: &Value) -> Response<pb::Object> {
    Response::new(pb::Object { json: value.to_string().into(), ..Default::default() })
}

#[tonic::async_trait]
impl Objects for ObjectsFront {
    type ListStream = Streamed<pb::ListPage>;
    type WatchStream = Streamed<pb::WatchBatch>;

    async fn get(&self, request: Request<pb::GetRequest>) -> Reply<pb::Object> {
        let sender = sender_of(&request)?;
        let request = request.into_inner();
        let target = target(request.target)?;
        let entered = self.enter(&sender, &target.asks("get")).await?;
        if let Some(other) = self.other(&entered.user, &target, target.asks("get")).await? {
            let with = With::form(request.form, false).and("resourceVersion", &request.resource_version);
            return other.object(Method::GET, with).await.map(Response::new).map_err(refused);
        }
        let (kind, shown) =
            self.gate.get(&entered.user, &target, &request.resource_version).await.map_err(refused)?;
        let stored = match shown {
            Shown::Made(json) => return Ok(Response::new(pb::Object { json, ..Default::default() })),
            Shown::Stored(stored) => stored,
        };
        let mut view = View::new(kind, shape(request.form));
        let json = view.object(self.gate.registry(), &stored).map_err(refused)?;
        Ok(Response::new(pb::Object { json, revision: stored.revision, warnings: Vec::new() }))
    }

    async fn list(&self, request: Request<pb::ListRequest>) -> Reply<Self::ListStream> {
        let sender = sender_of(&request)?;
        let request = request.into_inner();
        let target = target(request.target)?;
        let limit = usize::try_from(request.limit).unwrap_or(usize::MAX);
        let reading = Reading { limit, ..Reading::default() };
        let entered = self.enter_reading(&sender, &target.asks("list"), reading).await?;
        let ask = selecting(&target, "list", &request.label_selector, &request.field_selector)?;
        if let Some(other) = self.other(&entered.user, &target, ask).await? {
            let count = if request.limit > 0 { request.limit.to_string() } else { String::new() };
            let with = With::form(request.form, true)
                .and("labelSelector", &request.label_selector)
                .and("fieldSelector", &request.field_selector)
                .and("limit", &count)
                .and("continue", &request.continue_token)
                .and("resourceVersion", &request.resource_version)
                .and("resourceVersionMatch", &request.resource_version_match);
            let page = other.list(with).await.map_err(refused)?;
            return Ok(Response::new(stream::iter([Ok(page)]).boxed()));
        }
        let query = ListQuery {
            labels: label_selector(&request.label_selector).map_err(refused)?,
            fields: field_selector(&request.field_selector).map_err(refused)?,
            limit,
            continue_token: request.continue_token,
            resource_version: request.resource_version,
            matching: matching(&request.resource_version_match)?,
        };
        let (kind, listed) = self.gate.list(&entered.user, &target, &query).await.map_err(refused)?;
        let registry = self.gate.registry();
        let mut view = View::new(kind, shape(request.form));
        let metadata = json!({"resourceVersion": listed.revision.to_string()});
        let pages = match view.table(registry, &listed, metadata) {
            Some(table) => vec![Ok(page(vec![table.map_err(refused)?], &listed))],
            None => {
                let mut items = Vec::with_capacity(listed.objects.len());
                for object in &listed.objects {
                    items.push(view.object(registry, object).map_err(refused)?);
                }
                pages(items, &listed)
            }
        };
        Ok(Response::new(stream::iter(pages).boxed()))
    }

    async fn watch(&self, request: Request<pb::WatchRequest>) -> Reply<Self::WatchStream> {
        let sender = sender_of(&request)?;
        let request = request.into_inner();
        let target = target(request.target.clone())?;
        let sends_initial =
            request.send_initial_events || matches!(request.resource_version.as_str(), "" | "0");
        let reading = Reading { sends_initial, ..Reading::default() };
        let entered = self.enter_reading(&sender, &target.asks("watch"), reading).await?;
        let ask = selecting(&target, "watch", &request.label_selector, &request.field_selector)?;
        if let Some(other) = self.other(&entered.user, &target, ask).await? {
            let seconds = request.timeout_seconds;
            let seconds = if seconds > 0 { seconds.to_string() } else { String::new() };
            let with = With::form(request.form, false)
                .and("labelSelector", &request.label_selector)
                .and("fieldSelector", &request.field_selector)
                .and("resourceVersion", &request.resource_version)
                .and("resourceVersionMatch", &request.resource_version_match)
                .flag("allowWatchBookmarks", request.allow_bookmarks)
                .flag("sendInitialEvents", request.send_initial_events)
                .and("timeoutSeconds", &seconds);
            let batches = other.watch(with).await.map_err(refused)?;
            return Ok(Response::new(batches.map(Ok).boxed()));
        }
        let query = WatchQuery {
            labels: label_selector(&request.label_selector).map_err(refused)?,
            fields: field_selector(&request.field_selector).map_err(refused)?,
            resource_version: request.resource_version.clone(),
            matching: matching(&request.resource_version_match)?,
            send_initial_events: request.send_initial_events.then_some(true),
        };
        let (kind, watch) = self.gate.watch(&entered.user, &target, &query).await.map_err(refused)?;
        let lifetime =
            (request.timeout_seconds > 0).then(|| Duration::from_secs(request.timeout_seconds.into()));
        let batches = Batches {
            watch: PacedWatch::new(watch, request.allow_bookmarks, lifetime, self.shutdown.clone()),
            view: View::new(kind, shape(request.form)),
            gate: Arc::clone(&self.gate),
        };
        let stream = stream::unfold(Some(batches), |state| async {
            let mut state = state?;
            match state.next().await {
                Some(Ok(batch)) => Some((Ok(batch), Some(state))),
                Some(Err(status)) => Some((Ok(error_batch(&status)), None)),
                None => None,
            }
        });
        Ok(Response::new(stream.boxed()))
    }

    async fn create(&self, request: Request<pb::CreateRequest>) -> Reply<pb::Object> {
        let sender = sender_of(&request)?;
        let request = request.into_inner();
        let target = target(request.target)?;
        let entered = self.enter(&sender, &target.asks("create")).await?;
        if let Some(other) = self.other(&entered.user, &target, target.asks("create")).await? {
            let with = With::body("application/json", request.json).writing(
                request.dry_run,
                &request.field_manager,
                validation(request.field_validation),
            );
            return other.object(Method::POST, with).await.map(Response::new).map_err(refused);
        }
        let caller = Caller { user: Arc::clone(&entered.user), field_manager: request.field_manager.clone() };
        let body = Body {
            media: MediaType::Json,
            bytes: &request.json,
            validation: validation(request.field_validation),
        };
        self.gate.create(&caller, &target, body, request.dry_run).await.map(object).map_err(refused)
    }

    async fn update(&self, request: Request<pb::UpdateRequest>) -> Reply<pb::Object> {
        let sender = sender_of(&request)?;
        let request = request.into_inner();
        let target = target(request.target)?;
        let entered = self.enter(&sender, &target.asks("update")).await?;
        if let Some(other) = self.other(&entered.user, &target, target.asks("update")).await? {
            let with = With::body("application/json", request.json).writing(
                request.dry_run,
                &request.field_manager,
                validation(request.field_validation),
            );
            return other.object(Method::PUT, with).await.map(Response::new).map_err(refused);
        }
        let caller = Caller { user: Arc::clone(&entered.user), field_manager: request.field_manager.clone() };
        let body = Body {
            media: MediaType::Json,
            bytes: &request.json,
            validation: validation(request.field_validation),
        };
        self.gate.update(&caller, &target, body, request.dry_run).await.map(object).map_err(refused)
    }

    async fn patch(&self, request: Request<pb::PatchRequest>) -> Reply<pb::Object> {
        use pb::patch_request::Type;
        let sender = sender_of(&request)?;
        let request = request.into_inner();
        let kind = match request.r#type() {
            Type::Json => PatchKind::Json,
            Type::Merge => PatchKind::Merge,
            Type::StrategicMerge => PatchKind::Strategic,
            Type::Apply if request.field_manager.is_empty() => {
                return Err(refused(Status::new(
                    Reason::Invalid,
                    "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch",
                )));
            }
            Type::Apply => PatchKind::Apply { force: request.force },
            Type::Unspecified => {
                return Err(refused(Status::new(
                    Reason::UnsupportedMediaType,
                    "the request does not say which type of patch it is",
                )));
            }
        };
        let target = target(request.target)?;
        let entered = self.enter(&sender, &target.asks("patch")).await?;
        if let Some(other) = self.other(&entered.user, &target, target.asks("patch")).await? {
            let media = match kind {
                PatchKind::Json => "application/json-patch+json",
                PatchKind::Merge => "application/merge-patch+json",
                PatchKind::Strategic => "application/strategic-merge-patch+json",
                PatchKind::Apply { .. } => "application/apply-patch+yaml",
            };
            let with = With::body(media, request.patch)
                .writing(request.dry_run, &request.field_manager, validation(request.field_validation))
                .flag("force", request.force);
            return other.object(Method::PATCH, with).await.map(Response::new).map_err(refused);
        }
        let caller = Caller { user: Arc::clone(&entered.user), field_manager: request.field_manager.clone() };
        let options = UpdateOptions {
            dry_run: request.dry_run,
            field_validation: validation(request.field_validation),
            ..UpdateOptions::default()
        };
        self.gate.patch(&caller, &target, kind, &request.patch, &options).await.map(object).map_err(refused)
    }

    async fn delete(&self, request: Request<pb::DeleteRequest>) -> Reply<pb::Object> {
        let sender = sender_of(&request)?;
        let request = request.into_inner();
        let target = target(request.target)?;
        let entered = self.enter(&sender, &target.asks("delete")).await?;
        if let Some(other) = self.other(&entered.user, &target, target.asks("delete")).await? {
            let with = With::body("application/json", request.options);
            return other.object(Method::DELETE, with).await.map(Response::new).map_err(refused);
        }
        let caller = Caller { user: Arc::clone(&entered.user), field_manager: String::new() };
        let options: DeleteOptions =
            decode_options(None, MediaType::Json, &request.options).map_err(refused)?;
        match self.gate.delete(&caller, &target, &options).await.map_err(refused)? {
            Deleted::Gone(status) => Ok(made(&status.to_json())),
            Deleted::Later(written) => Ok(object(written)),
        }
    }

    async fn delete_collection(&self, request: Request<pb::DeleteCollectionRequest>) -> Reply<pb::Object> {
        let sender = sender_of(&request)?;
        let request = request.into_inner();
        let target = target(request.target)?;
        let entered = self.enter(&sender, &target.asks("deletecollection")).await?;
        let ask = selecting(&target, "deletecollection", &request.label_selector, &request.field_selector)?;
        if let Some(other) = self.other(&entered.user, &target, ask).await? {
            let with = With::body("application/json", request.options)
                .and("labelSelector", &request.label_selector)
                .and("fieldSelector", &request.field_selector);
            return other.object(Method::DELETE, with).await.map(Response::new).map_err(refused);
        }
        let caller = Caller { user: Arc::clone(&entered.user), field_manager: String::new() };
        let options: DeleteOptions =
            decode_options(None, MediaType::Json, &request.options).map_err(refused)?;
        let query = ListQuery {
            labels: label_selector(&request.label_selector).map_err(refused)?,
            fields: field_selector(&request.field_selector).map_err(refused)?,
            ..ListQuery::default()
        };
        let (_, items) =
            self.gate.delete_collection(&caller, &target, &query, &options).await.map_err(refused)?;
        let names: Vec<Value> = items
            .iter()
            .filter_map(|item| serde_json::from_slice::<Value>(item).ok())
            .map(|item| json!({"metadata": {"name": item["metadata"]["name"], "namespace": item["metadata"]["namespace"]}}))
            .collect();
        Ok(made(&json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": names})))
    }

    async fn discover(&self, request: Request<pb::DiscoverRequest>) -> Reply<pb::Object> {
        let _entered = self.enter_path(&request, "/apis").await?;
        let kinds = self.gate.registry().kinds().all();
        let mut all = rest::aggregated_groups(&kinds, true);
        let others = rest::aggregated_groups(&kinds, false);
        if let (Some(items), Value::Array(more)) = (all["items"].as_array_mut(), &others["items"]) {
            items.extend(more.iter().cloned());
        }
        self.others.add_to(&mut all);
        Ok(made(&all))
    }

    async fn open_api(&self, request: Request<pb::OpenApiRequest>) -> Reply<pb::Object> {
        let entered = self.enter_path(&request, "/openapi/v3").await?;
        let request = request.into_inner();
        let target =
            Target { group: request.group.clone(), version: request.version.clone(), ..Target::default() };
        let ask = Attributes { verb: "get".into(), path: "/openapi/v3".into(), ..Attributes::default() };
        if let Some(other) = self.other(&entered.user, &target, ask).await? {
            return other.document().await.map(Response::new).map_err(refused);
        }
        if !self.gate.registry().kinds().has_version(&request.group, &request.version) {
            return Err(refused(Status::no_such_resource()));
        }
        let kinds = self.gate.registry().kinds().all();
        let path = format!("{}/{}", request.group, request.version);
        let (_, json) = self.documents.document(&kinds, &path, &request.group, &request.version);
        Ok(Response::new(pb::Object { json, ..Default::default() }))
    }

    async fn version(&self, request: Request<pb::VersionRequest>) -> Reply<pb::Object> {
        let _entered = self.enter_path(&request, "/version").await?;
        Ok(made(&rest::version()))
    }
}

fn page(items: Vec<bytes::Bytes>, listed: &Listed) -> pb::ListPage {
    pb::ListPage {
        items,
        revision: listed.revision,
        continue_token: listed.continue_token.clone(),
        remaining: listed.remaining.and_then(|count| i64::try_from(count).ok()),
    }
}

/// Splits a list into messages of about [`PAGE`] bytes; there is always one.
fn pages(items: Vec<bytes::Bytes>, listed: &Listed) -> Vec<Result<pb::ListPage, tonic::Status>> {
    let mut pages = Vec::new();
    let mut current = Vec::new();
    let mut size = 0;
    for item in items {
        size += item.len();
        current.push(item);
        if size >= PAGE {
            pages.push(Ok(page(std::mem::take(&mut current), listed)));
            size = 0;
        }
    }
    if !current.is_empty() || pages.is_empty() {
        pages.push(Ok(page(current, listed)));
    }
    pages
}

fn error_batch(status: &Status) -> pb::WatchBatch {
    let event = pb::WatchEvent {
        r#type: pb::watch_event::Type::Error.into(),
        json: status.to_bytes().into(),
        revision: 0,
    };
    pb::WatchBatch { events: vec![event] }
}

/// A watch as the batches that a client reads.
struct Batches {
    watch: PacedWatch,
    view: View,
    gate: Arc<Gate>,
}

impl Batches {
    async fn next(&mut self) -> Option<Result<pb::WatchBatch, Status>> {
        let events = match self.watch.next().await? {
            Ok(Beat::Changes(batch)) => self.events(&batch),
            Ok(Beat::Bookmark(revision)) => Ok(vec![self.bookmark(revision, false)]),
            Err(status) => Err(status),
        };
        Some(events.map(|events| pb::WatchBatch { events }))
    }

    fn events(&mut self, batch: &WatchBatch) -> Result<Vec<pb::WatchEvent>, Status> {
        use pb::watch_event::Type;
        let mut events = Vec::with_capacity(batch.items.len() + 1);
        for item in &batch.items {
            let kind = match item.kind {
                ChangeKind::Added => Type::Added,
                ChangeKind::Modified => Type::Modified,
                ChangeKind::Deleted => Type::Deleted,
            };
            let json = self.view.object(self.gate.registry(), &item.object)?;
            events.push(pb::WatchEvent { r#type: kind.into(), json, revision: item.object.revision });
        }
        if batch.initial_end {
            events.push(self.bookmark(batch.revision, true));
        }
        Ok(events)
    }

    fn bookmark(&self, revision: u64, initial_end: bool) -> pb::WatchEvent {
        let json = self.view.bookmark(revision, initial_end);
        pb::WatchEvent { r#type: pb::watch_event::Type::Bookmark.into(), json, revision }
    }
}
