//! One port, two fronts: gRPC and REST are told apart by the content type.

use std::sync::Arc;

use api::Status;
use client::to_grpc;
use daemon::server::{Peer, Service};
use http::{HeaderMap, Request, Response, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tower_service::Service as _;

use crate::audit;
use crate::authz::Attributes;
use crate::deadline::late;
use crate::entry::Sender;
use crate::gate::Gate;
use crate::grpc::Services;
use crate::rest::{Answer, MAX_BODY, Rest};

/// gRPC's code for it, as it travels.
const OUT_OF_RANGE: &[u8] = b"11";

/// Both fronts.
pub struct Front {
    gate: Arc<Gate>,
    rest: Arc<Rest>,
    services: Services,
}

impl Front {
    /// Fronts before one gate.
    #[must_use]
    pub const fn new(gate: Arc<Gate>, rest: Arc<Rest>, services: Services) -> Self {
        Self { gate, rest, services }
    }

    async fn grpc(&self, mut request: Request<Incoming>, peer: &Peer) -> Response<Answer> {
        let authenticator = self.gate.authenticator();
        let found = authenticator.authenticate(peer, request.headers_mut()).await;
        let path = request.uri().path();
        let user = match found.and_then(|user| authenticator.admit(&user, path).map(|()| user)) {
            Ok(user) => user,
            Err(status) => {
                // What it asks is in its body, which nobody reads for a stranger.
                let path = path.to_owned();
                let ask = Attributes { verb: "post".to_owned(), path, ..Attributes::default() };
                audit::unauthenticated(&ask, request.headers().contains_key(header::AUTHORIZATION));
                return refused(&status);
            }
        };
        match Sender::new(user, request.headers_mut()) {
            Ok(sender) => request.extensions_mut().insert(sender),
            Err(status) => return refused(&status),
        };
        let request = request.map(tonic::body::Body::new);
        // The generated services never fail: errors are answers.
        let answered = if request.uri().path().starts_with("/corten.node.") {
            self.services.node.clone().call(request).await
        } else {
            let limit = self.gate.doors().deadline.longest();
            let answering = tokio::time::timeout(limit, self.services.objects.clone().call(request));
            let Ok(answered) = answering.await else { return refused(&late()) };
            answered
        };
        match answered {
            Ok(response) if is_too_large(response.headers()) => refused(&Status::too_large(MAX_BODY)),
            Ok(response) => response.map(boxed),
            Err(never) => match never {},
        }
    }
}

impl Front {
    async fn route(&self, request: Request<Incoming>, peer: &Peer, is_grpc: bool) -> Response<Answer> {
        if is_grpc {
            return self.grpc(request, peer).await;
        }
        Arc::clone(&self.rest).answer(request, peer).await
    }
}

fn refused(status: &Status) -> Response<Answer> {
    audit::failed(status);
    to_grpc(status).into_http::<tonic::body::Body>().map(boxed)
}

/// Whether the generated code refused a message for its size: it gives a code of
/// its own, without a Kubernetes status.
fn is_too_large(headers: &HeaderMap) -> bool {
    headers.get("grpc-status").is_some_and(|code| code.as_bytes() == OUT_OF_RANGE)
        && !headers.contains_key("grpc-status-details-bin")
}

fn boxed(body: tonic::body::Body) -> Answer {
    body.map_err(Into::into).boxed_unsync()
}

impl Service for Front {
    type Body = Answer;

    async fn answer(self: Arc<Self>, request: Request<Incoming>, peer: Arc<Peer>) -> Response<Answer> {
        let content_type = request.headers().get(header::CONTENT_TYPE).map(|value| value.as_bytes());
        let is_grpc = content_type.is_some_and(|value| value.starts_with(b"application/grpc"));
        let Some(audit) = self.gate.doors().audit.clone() else {
            return self.route(request, &peer, is_grpc).await;
        };
        let headers = request.headers().clone();
        let uri = request.uri().path_and_query().filter(|_| !is_grpc).map(ToString::to_string);
        let answering = self.route(request, &peer, is_grpc);
        audit.follow(&headers, &uri.unwrap_or_default(), peer.address, answering).await
    }
}
