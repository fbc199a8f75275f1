//! Answers: JSON, YAML, protobuf, text, streams; compressed where it pays.

use std::io::Write as _;

use api::Status;
use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use serde::Serialize;

use super::negotiate::Accept;
use super::protobuf;
use crate::audit;
use crate::flow::{Busy, Flow, TOO_MANY};
use crate::registry::MediaType;

/// An error inside an answer that is under way.
pub(super) type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// The body of an answer.
pub type Answer = UnsyncBoxBody<Bytes, BodyError>;

/// Answers from this size on are compressed for clients that can read that.
const COMPRESS_FROM: usize = 128 << 10;

/// A body that is there already.
pub fn full(bytes: impl Into<Bytes>) -> Answer {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A body that comes in pieces.
pub fn pieces(stream: impl Stream<Item = Bytes> + Send + 'static) -> Answer {
    StreamBody::new(stream.map(|bytes| Ok(Frame::data(bytes)))).boxed_unsync()
}

pub(super) fn respond(code: u16, content_type: &'static str, body: Answer) -> Response<Answer> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// A JSON answer of a value.
pub fn json<T: Serialize>(code: u16, value: &T) -> Response<Answer> {
    match serde_json::to_vec(value) {
        Ok(bytes) => respond(code, "application/json", full(bytes)),
        Err(error) => failure(&Status::internal(error)),
    }
}

/// An answer of text.
pub(super) fn text(code: u16, text: String) -> Response<Answer> {
    respond(code, "text/plain; charset=utf-8", full(text))
}

/// An answer of JSON bytes, in the encoding that the client wants.
pub(super) fn encoded(code: u16, accept: &Accept, bytes: Bytes) -> Response<Answer> {
    match accept.media {
        MediaType::Json if accept.gzip && bytes.len() >= COMPRESS_FROM => compressed(code, &bytes),
        MediaType::Json => respond(code, "application/json", full(bytes)),
        MediaType::Protobuf => match protobuf::sealed(&bytes) {
            Ok(sealed) => respond(code, protobuf::MEDIA_TYPE, full(sealed.bytes)),
            Err(status) => failure(&status),
        },
        MediaType::Yaml => {
            let value: Result<serde_json::Value, _> = serde_json::from_slice(&bytes);
            match value
                .map_err(|error| error.to_string())
                .and_then(|value| api::yaml::format(&value).map_err(|error| error.to_string()))
            {
                Ok(text) => respond(code, "application/yaml", full(text)),
                Err(error) => failure(&Status::internal(error)),
            }
        }
    }
}

fn compressed(code: u16, bytes: &[u8]) -> Response<Answer> {
    let mut encoder =
        flate2::write::GzEncoder::new(Vec::with_capacity(bytes.len() / 8), flate2::Compression::fast());
    let written = encoder.write_all(bytes).and_then(|()| encoder.finish());
    match written {
        Ok(small) => {
            let mut response = respond(code, "application/json", full(small));
            response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
            response
        }
        Err(error) => failure(&Status::internal(error)),
    }
}

/// A streamed answer.
pub(super) fn streamed(
    content_type: &'static str,
    stream: impl Stream<Item = Bytes> + Send + 'static,
) -> Response<Answer> {
    respond(200, content_type, pieces(stream))
}

/// A status as an answer.
pub fn failure(status: &Status) -> Response<Answer> {
    audit::failed(status);
    let mut response = json(status.code, &status.to_json());
    let retry = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
    if retry > 0 {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(retry));
    }
    response
}

/// The answer to a request for which there is no room, as upstream has it: text.
pub(super) fn busy(busy: &Busy) -> Response<Answer> {
    let mut response = text(429, format!("{TOO_MANY}\n"));
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(busy.retry_after));
    if busy.flow != Flow::default() {
        tell_flow(&mut response, &busy.flow);
    }
    response
}

/// Says in an answer to which flow its request belonged.
pub(super) fn tell_flow(response: &mut Response<Answer>, flow: &Flow) {
    for (name, uid) in
        [("x-kubernetes-pf-flowschema-uid", &flow.schema), ("x-kubernetes-pf-prioritylevel-uid", &flow.level)]
    {
        if let Ok(value) = HeaderValue::from_str(uid) {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    }
}

/// Puts warnings on an answer, as RFC 7234 and client-go have them.
pub(super) fn warn(response: &mut Response<Answer>, warnings: &[String]) {
    for warning in warnings {
        let quoted = warning.replace('\\', "\\\\").replace('"', "\\\"").replace(['\r', '\n'], " ");
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
}
