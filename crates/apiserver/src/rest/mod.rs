//! The REST front: the Kubernetes HTTP API, translated into the gate's calls.

mod answer;
mod asks;
mod discovery;
mod issuer;
mod negotiate;
mod path;
mod protobuf;
mod query;
mod read;
mod write;

use std::sync::Arc;
use std::time::Duration;

use api::Status;
use bytes::Bytes;
use daemon::server::Peer;
use daemon::{Health, Shutdown};
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;

use crate::aggregation::Aggregation;
use crate::audit;
use crate::authn::User;
use crate::authz::Attributes;
use crate::connect::Connector;
use crate::deadline::within;
use crate::entry::{Entered, Sender, Turned};
use crate::gate::Gate;
use crate::registry::{Caller, IncludeObject, Shape};
use negotiate::Form;

pub use answer::{Answer, failure, full, json, pieces};
pub(crate) use discovery::add_remotes;
pub use discovery::{Documents, aggregated_groups, version};
pub use path::{RequestPath, parse_path};
pub use query::Query;

/// The largest body, as upstream.
pub const MAX_BODY: usize = 3 << 20;

/// The REST front.
pub struct Rest {
    pub(crate) gate: Arc<Gate>,
    pub(crate) health: Health,
    pub(crate) shutdown: Shutdown,
    pub(crate) connector: Arc<Connector>,
    pub(crate) documents: Arc<Documents>,
    aggregation: Arc<Aggregation>,
}

/// What a request asks, as its first line tells.
struct Question {
    query: query::Query,
    parsed: RequestPath,
    asked: Attributes,
    /// How long its answer may take.
    limit: Option<Duration>,
}

/// A request that was authenticated.
pub(crate) struct Asked {
    pub(crate) user: Arc<User>,
    pub(crate) query: query::Query,
    pub(crate) accept: negotiate::Accept,
}

impl Asked {
    /// The shape in which the client wants objects.
    fn shape(&self) -> Shape {
        match self.accept.form {
            Form::Table => Shape::Table(match self.query.get("includeObject") {
                Some("None") => IncludeObject::None,
                Some("Object") => IncludeObject::Object,
                _ => IncludeObject::Metadata,
            }),
            Form::Metadata => Shape::Metadata,
            Form::Object | Form::Discovery => Shape::Object,
        }
    }
}

impl Rest {
    /// A front before a gate.
    #[must_use]
    pub(crate) fn new(
        gate: Arc<Gate>,
        health: Health,
        shutdown: Shutdown,
        connector: Arc<Connector>,
        aggregation: Arc<Aggregation>,
    ) -> Self {
        let documents = Arc::new(Documents::default());
        Self { gate, health, shutdown, connector, documents, aggregation }
    }

    /// Answers one request; errors become a status.
    pub async fn answer(self: Arc<Self>, request: Request<Incoming>, peer: &Peer) -> Response<Answer> {
        let query = query::Query::parse(request.uri().query().unwrap_or_default());
        let path = request.uri().path();
        let parsed = parse_path(path);
        let asked = asks::asks(request.method(), path, &parsed, &query);
        let limit = match self.gate.doors().deadline.of(&asked, query.get("timeout")) {
            Ok(limit) => limit,
            Err(status) => return failure(&status),
        };
        let answering = self.try_answer(request, peer, Question { query, parsed, asked, limit });
        within(limit, answering).await.unwrap_or_else(|status| failure(&status))
    }

    async fn try_answer(
        &self,
        mut request: Request<Incoming>,
        peer: &Peer,
        question: Question,
    ) -> Result<Response<Answer>, Status> {
        let Question { query, parsed, asked, limit } = question;
        let user = match self.gate.authenticator().authenticate(peer, request.headers_mut()).await {
            Ok(user) => user,
            Err(status) => {
                audit::unauthenticated(&asked, request.headers().contains_key(header::AUTHORIZATION));
                return Err(status);
            }
        };
        self.gate
            .authenticator()
            .admit(&user, request.uri().path())
            .inspect_err(|_| audit::unauthenticated(&asked, false))?;
        let sender = Sender::new(user, request.headers_mut())?;
        let entered = match self.gate.enter(&sender, &asked, asks::reading(&query, limit)).await {
            Ok(entered) => entered,
            Err(Turned::Refused(status)) => return Err(*status),
            Err(Turned::Busy(busy)) => return Ok(answer::busy(&busy)),
        };
        let answered = self.entered(request, (parsed, &asked), query, &entered).await;
        let mut response = answered.unwrap_or_else(|status| failure(&status));
        if let Some(flow) = entered.flow() {
            answer::tell_flow(&mut response, &flow);
        }
        Ok(response)
    }

    /// Answers a request that was let in.
    async fn entered(
        &self,
        request: Request<Incoming>,
        (parsed, asked): (RequestPath, &Attributes),
        query: query::Query,
        entered: &Entered,
    ) -> Result<Response<Answer>, Status> {
        let path = request.uri().path();
        if let Some(remote) = self.aggregation.remote(path) {
            self.gate.authorizer().check(&entered.user, asked).await?;
            let request = request.map(http_body_util::BodyExt::boxed_unsync);
            return self.aggregation.forward(&remote, &entered.user, request).await;
        }
        let accept = negotiate::Accept::parse(request.headers(), self.offer(&parsed, path))?;
        let incoming = Asked { user: Arc::clone(&entered.user), query, accept };
        match parsed {
            RequestPath::Object { target, rest } => self.object(request, incoming, target, rest).await,
            RequestPath::Plain => self.plain(asked, &incoming).await,
        }
    }

    fn offer(&self, parsed: &RequestPath, path: &str) -> negotiate::Offer {
        match parsed {
            RequestPath::Object { target, .. } => {
                let kinds = self.gate.registry().kinds();
                let kind = kinds.find(&target.group, &target.version, &target.resource);
                match kind {
                    Some(kind) if !kind.is_stored() => negotiate::Offer::Bare,
                    Some(kind) if kind.strategy.document().is_none() => negotiate::Offer::BuiltIn,
                    _ => negotiate::Offer::Any,
                }
            }
            RequestPath::Plain if path.starts_with("/openapi/") => negotiate::Offer::Document,
            RequestPath::Plain => negotiate::Offer::Any,
        }
    }

    async fn object(
        &self,
        request: Request<Incoming>,
        incoming: Asked,
        target: crate::gate::Target,
        rest: String,
    ) -> Result<Response<Answer>, Status> {
        if self.connector.handles(&target) {
            return self.connector.connect(&self.gate, incoming.user, target, rest, request).await;
        }
        if !rest.is_empty() {
            return Err(Status::no_such_resource());
        }
        let method = request.method().clone();
        match (&method, target.name.is_empty()) {
            (&Method::GET | &Method::HEAD, _) => self.read(incoming, target).await,
            (&Method::POST, _) | (&Method::PUT | &Method::PATCH, false) | (&Method::DELETE, _) => {
                self.write(request, incoming, target).await
            }
            _ => Err(Status::new(
                api::Reason::MethodNotAllowed,
                "the server does not allow this method on the requested resource",
            )),
        }
    }

    /// Paths that are about no resource: health, version, discovery, documents.
    async fn plain(&self, asked: &Attributes, incoming: &Asked) -> Result<Response<Answer>, Status> {
        let path = asked.path.as_str();
        self.gate.authorizer().check(&incoming.user, asked).await?;
        if asked.verb != "get" {
            return Err(Status::new(
                api::Reason::MethodNotAllowed,
                "the server does not allow this method on the requested resource",
            ));
        }
        let endpoint = path.trim_start_matches('/').split('/').next().unwrap_or_default();
        match endpoint {
            "livez" | "readyz" | "healthz" => Ok(self.health_report(endpoint, &incoming.query)),
            "metrics" => Ok(answer::text(200, self.health.metrics_text())),
            "version" => Ok(json(200, &discovery::version())),
            _ if path == issuer::CONFIGURATION => {
                Ok(json(200, &issuer::configuration(self.gate.authenticator().tokens())))
            }
            _ if path == issuer::KEYS => {
                let keys = issuer::keys(self.gate.authenticator().tokens())?;
                let mut response = json(200, &keys);
                let media = header::HeaderValue::from_static("application/jwk-set+json");
                response.headers_mut().insert(header::CONTENT_TYPE, media);
                Ok(response)
            }
            _ => self.documents.answer(&self.gate, &self.aggregation, incoming, path),
        }
    }

    fn health_report(&self, endpoint: &str, query: &query::Query) -> Response<Answer> {
        let excluded: Vec<&str> = query.all("exclude").collect();
        let report = self.health.report(if endpoint == "readyz" { "readyz" } else { "livez" }, &excluded);
        let verbose = query.get("verbose").is_some();
        let text = if report.ok && !verbose { "ok".to_owned() } else { report.lines.join("\n") + "\n" };
        answer::text(if report.ok { 200 } else { 500 }, text)
    }

    pub(crate) fn caller(&self, incoming: &Asked, agent: Option<&str>) -> Caller {
        let manager = incoming.query.get("fieldManager").map(str::to_owned);
        let from_agent = || agent.and_then(|agent| agent.split('/').next()).unwrap_or("unknown").to_owned();
        Caller { user: Arc::clone(&incoming.user), field_manager: manager.unwrap_or_else(from_agent) }
    }
}

/// Reads a body of bounded size.
pub(crate) async fn read_body(body: Incoming) -> Result<Bytes, Status> {
    match Limited::new(body, MAX_BODY).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(Status::too_large(MAX_BODY)),
        Err(error) => Err(Status::bad_request(format!("cannot read the request's body: {error}"))),
    }
}
