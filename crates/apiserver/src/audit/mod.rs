//! The audit log: who did what, when and how it went, as far as a policy says.
//!
//! [`Audit::follow`] goes around a whole request. What happens inside is noted by
//! free functions ([`annotate`], [`request_object`], ...) in the record of the
//! request at hand, which travels with its task; without audit they find none and
//! do nothing.

mod event;
mod file;
mod flags;
mod policy;
mod sink;

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use api::{Object, Status};
use bytes::Bytes;
use daemon::{Clock, tasks};
use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use crate::authn::User;
use crate::authz::Attributes;
use crate::registry::DeleteOptions;
use crate::rest::Answer;
use event::{Arrival, Event};
use policy::{Decision, Level, Policy, Stage};
use sink::{Sink, Taken};

pub use flags::AuditFlags;

const ID: HeaderName = HeaderName::from_static("audit-id");
/// The longest id that is taken from a client.
const LONGEST_ID: usize = 64;

tokio::task_local! {
    /// The request at hand.
    static HERE: Arc<Visit>;
}

/// The audit log of this server.
pub struct Audit {
    policy: Policy,
    sinks: Vec<Arc<Sink>>,
    metrics: Metrics,
    clock: Arc<dyn Clock>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfPlugin {
    plugin: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfLevel {
    level: &'static str,
}

/// `apiserver_audit_*`.
#[derive(Default)]
struct Metrics {
    events: Counter,
    rejected: Counter,
    lost: Family<OfPlugin, Counter>,
    levels: Family<OfLevel, Counter>,
}

impl Metrics {
    fn lost(&self, plugin: &'static str) -> Counter {
        self.lost.get_or_create(&OfPlugin { plugin }).clone()
    }

    fn register(&self, registry: &mut Registry) {
        let all = registry.sub_registry_with_prefix("apiserver_audit");
        all.register("event", "Audit events made", self.events.clone());
        all.register("requests_rejected", "Requests refused for want of a record", self.rejected.clone());
        all.register("error", "Audit events lost", self.lost.clone());
        all.register("level", "Requests by the level of their record", self.levels.clone());
    }
}

/// A request under way.
struct Visit {
    audit: Arc<Audit>,
    arrival: Arrival,
    record: OnceLock<Record>,
}

/// What is recorded of it.
struct Record {
    decision: Decision,
    is_long: bool,
    /// Whoever sent it did not say who they are: it has one event only.
    is_unknown: bool,
    event: Mutex<Event>,
}

fn is_long(ask: &Attributes) -> bool {
    ask.verb == "watch"
        || matches!(ask.subresource.as_str(), "attach" | "exec" | "proxy" | "log" | "portforward")
}

impl Audit {
    fn new(policy: Policy, sinks: Vec<Arc<Sink>>, metrics: Metrics, clock: Arc<dyn Clock>) -> Self {
        Self { policy, sinks, metrics, clock }
    }

    /// Follows a request through to the end of its answer. `uri` is empty for gRPC.
    pub async fn follow(
        self: &Arc<Self>,
        headers: &HeaderMap,
        uri: &str,
        peer: std::net::SocketAddr,
        answering: impl Future<Output = Response<Answer>>,
    ) -> Response<Answer> {
        let arrival = arrival(headers, uri, peer, self.clock.now());
        let id = HeaderValue::from_str(&arrival.id);
        let visit = Arc::new(Visit { audit: Arc::clone(self), arrival, record: OnceLock::new() });
        let trail = Trail { visit: Arc::clone(&visit), is_over: false };
        let mut response = HERE.scope(visit, answering).await;
        if let Ok(id) = id {
            response.headers_mut().insert(ID, id);
        }
        trail.answered(response).await
    }

    /// Waits until everything is written.
    pub async fn flush(&self) {
        for sink in &self.sinks {
            sink.flush().await;
        }
    }
}

fn arrival(headers: &HeaderMap, uri: &str, peer: std::net::SocketAddr, at: jiff::Timestamp) -> Arrival {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let given = text(ID).filter(|id| !id.is_empty() && id.len() <= LONGEST_ID);
    let mut sources: Vec<String> = Vec::new();
    let is_address = |text: &&str| text.parse::<std::net::IpAddr>().is_ok();
    let forwarded = text(HeaderName::from_static("x-forwarded-for")).unwrap_or_default();
    sources.extend(forwarded.split(',').map(str::trim).filter(is_address).map(str::to_owned));
    if sources.is_empty() {
        let real = text(HeaderName::from_static("x-real-ip")).filter(is_address);
        sources.extend(real.map(str::to_owned));
    }
    let own = peer.ip().to_canonical().to_string();
    if sources.last() != Some(&own) {
        sources.push(own);
    }
    Arrival {
        id: given.map_or_else(|| uuid::Uuid::new_v4().to_string(), str::to_owned),
        uri: uri.to_owned(),
        agent: text(header::USER_AGENT).unwrap_or_default().to_owned(),
        sources,
        at,
    }
}

impl Visit {
    fn begin(&self, user: Option<&User>, ask: &Attributes) -> Option<&Record> {
        let decision = self.audit.policy.judge(user, ask);
        let level = decision.level;
        self.audit.metrics.levels.get_or_create(&OfLevel { level: level.name() }).inc();
        if level == Level::None {
            return None;
        }
        let event = Event::new(level, &self.arrival, user, ask);
        let record =
            Record { decision, is_long: is_long(ask), is_unknown: user.is_none(), event: Mutex::new(event) };
        Some(self.record.get_or_init(|| record))
    }

    /// Makes the event of a stage; what is still to be sent is given back.
    fn stage(&self, stage: Stage) -> (bool, Vec<(Arc<Sink>, Bytes)>) {
        let (mut is_kept, mut unsent) = (true, Vec::new());
        let Some(record) = self.record.get().filter(|record| !record.decision.omitted.contains(&stage))
        else {
            return (is_kept, unsent);
        };
        self.audit.metrics.events.inc();
        let mut event = record.event.lock();
        event.at(stage, self.audit.clock.now());
        for sink in &self.audit.sinks {
            match sink.take(&event) {
                Taken::Done(is_taken) => is_kept &= is_taken || !sink.is_strict(),
                Taken::Send(bytes) => unsent.push((Arc::clone(sink), bytes)),
            }
        }
        (is_kept, unsent)
    }

    /// The same, and waits until the event is sent.
    async fn pass(&self, stage: Stage) -> bool {
        let (mut is_kept, unsent) = self.stage(stage);
        for (sink, bytes) in unsent {
            is_kept &= sink.send(&[bytes]).await || !sink.is_strict();
        }
        is_kept
    }

    /// The same where nobody can wait.
    fn pass_behind(&self, stage: Stage) {
        for (sink, bytes) in self.stage(stage).1 {
            tasks::spawn("audit-last", async move { sink.send(&[bytes]).await });
        }
    }
}

/// Sees a request to its end, however it ends.
struct Trail {
    visit: Arc<Visit>,
    is_over: bool,
}

impl Trail {
    async fn answered(mut self, response: Response<Answer>) -> Response<Answer> {
        let Some(record) = self.visit.record.get() else {
            self.is_over = true;
            return response;
        };
        let is_grpc = response
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
        {
            let mut event = record.event.lock();
            let is_told = event.response_status.as_ref().is_some_and(|told| told.get("code").is_some());
            // Over gRPC every answer's code is 200: what the verb said counts.
            if !is_grpc || !is_told {
                event.answered(response.status().as_u16());
            }
        }
        if record.is_unknown {
            self.is_over = true;
            self.visit.pass(Stage::ResponseStarted).await;
            return response;
        }
        if record.is_long && response.status().as_u16() < 400 {
            self.visit.pass(Stage::ResponseStarted).await;
            // It is over with its body.
            return response.map(|body| Followed { body, trail: self }.boxed_unsync());
        }
        if record.is_long {
            self.visit.pass(Stage::ResponseStarted).await;
        }
        self.is_over = true;
        self.visit.pass(Stage::ResponseComplete).await;
        response
    }
}

impl Drop for Trail {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        if let Some(record) = self.visit.record.get() {
            let mut event = record.event.lock();
            if std::thread::panicking() {
                event.failed(&Status::internal("APIServer panic'd"));
                drop(event);
                return self.visit.pass_behind(Stage::Panic);
            }
            if event.response_status.is_none() {
                let early = serde_json::json!({
                    "metadata": {}, "status": "Success", "message": "Connection closed early", "code": 200,
                });
                event.response_status = Some(early);
            }
        }
        self.visit.pass_behind(Stage::ResponseComplete);
    }
}

/// A body with which its request ends.
struct Followed {
    body: Answer,
    #[expect(dead_code, reason = "it is dropped with the body")]
    trail: Trail,
}

impl Body for Followed {
    type Data = Bytes;
    type Error = <Answer as Body>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Does something with the record of the request at hand, if there is one.
fn with(what: impl FnOnce(&Record)) {
    // No task, no record: nothing is lost.
    let _ = HERE.try_with(|visit| visit.record.get().map(what));
}

/// Begins the record of the request at hand.
///
/// # Errors
/// It must be recorded and cannot be.
pub(crate) async fn begin(user: &User, ask: &Attributes) -> Result<(), Status> {
    let Ok(visit) = HERE.try_with(Arc::clone) else { return Ok(()) };
    if visit.begin(Some(user), ask).is_none() || visit.pass(Stage::RequestReceived).await {
        return Ok(());
    }
    visit.audit.metrics.rejected.inc();
    Err(Status::internal("failed to store audit event"))
}

/// Begins the record of a request of somebody who could not be told.
pub(crate) fn unauthenticated(ask: &Attributes, has_token: bool) {
    let _ = HERE.try_with(|visit| {
        if let Some(record) = visit.begin(None, ask) {
            let method = if has_token { "bearer" } else { "x509" };
            let why = format!("Authentication failed, attempted: {method}");
            record.event.lock().response_status = Some(serde_json::json!({"metadata": {}, "message": why}));
        }
    });
}

/// Notes whom the sender became.
pub(crate) fn impersonated(user: &User, constraint: &str) {
    with(|record| record.event.lock().impersonates(user, constraint));
}

/// Adds an annotation; the first value of a key stays.
pub(crate) fn annotate(key: impl Into<String>, value: impl FnOnce() -> String) {
    with(|record| {
        let mut event = record.event.lock();
        event.annotations.entry(key.into()).or_insert_with(value);
    });
}

/// Notes the object that a request brought.
pub(crate) fn request_object(object: &Object) {
    with(|record| {
        let mut event = record.event.lock();
        let of = event.object_ref();
        for (known, told) in [
            (&mut of.namespace, object.namespace()),
            (&mut of.name, object.name()),
            (&mut of.uid, object.uid()),
            (&mut of.resource_version, object.resource_version()),
        ] {
            if known.is_empty() {
                told.clone_into(known);
            }
        }
        if record.decision.level >= Level::Request {
            event.request_object = event::body(&object.to_vec(), record.decision.omits_managed_fields);
        }
    });
}

/// Notes a patch, JSON or YAML.
pub(crate) fn request_patch(patch: &[u8]) {
    with(|record| {
        if record.decision.level >= Level::Request {
            let json = || {
                let value = api::yaml::parse(std::str::from_utf8(patch).ok()?).ok()?;
                serde_json::value::to_raw_value(&value).ok()
            };
            record.event.lock().request_object = event::body(patch, false).or_else(json);
        }
    });
}

/// Notes the options with which something is deleted.
pub(crate) fn request_options(options: &DeleteOptions) {
    with(|record| {
        if record.decision.level >= Level::Request {
            let mut told = serde_json::json!(options);
            (told["kind"], told["apiVersion"]) = ("DeleteOptions".into(), "meta.k8s.io/v1".into());
            record.event.lock().request_object = serde_json::value::to_raw_value(&told).ok();
        }
    });
}

/// Notes the answer to the request at hand.
pub(crate) fn response_object(code: u16, json: impl FnOnce() -> Bytes) {
    with(|record| {
        let mut event = record.event.lock();
        event.answered(code);
        if record.decision.level >= Level::RequestResponse {
            event.response_object = event::body(&json(), record.decision.omits_managed_fields);
        }
    });
}

/// Notes that the request at hand failed.
pub(crate) fn failed(status: &Status) {
    with(|record| {
        let mut event = record.event.lock();
        if record.is_unknown {
            return event.answered(status.code);
        }
        event.failed(status);
        if record.decision.level >= Level::RequestResponse {
            event.response_object = event::body(&status.to_bytes(), false);
        }
    });
}
