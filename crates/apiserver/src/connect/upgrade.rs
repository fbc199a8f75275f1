//! Leaving HTTP: which streaming protocol a client asks for, and the answer.
//!
//! Newer clients upgrade to a WebSocket; older ones, and client-go's fallback,
//! to SPDY/3.1. Both offer protocols of their own, of which the best is taken.

use api::{Reason, Status};
use base64::Engine as _;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use sha1::Digest as _;

use crate::rest::{Answer, full};

/// The header with which SPDY clients offer protocols and are told the choice.
const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");

/// What a connection becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carrier {
    WebSocket,
    Spdy,
}

/// The protocols that a resource speaks over each carrier, the best first.
pub(super) struct Offer {
    pub(super) web_socket: &'static [&'static str],
    /// The protocol of a WebSocket client that names none.
    pub(super) default: Option<&'static str>,
    pub(super) spdy: &'static [&'static str],
}

/// An upgrade that was agreed on.
pub(super) struct Upgrade {
    pub(super) carrier: Carrier,
    pub(super) protocol: &'static str,
    pub(super) response: Response<Answer>,
    pub(super) connection: OnUpgrade,
}

/// Agrees on a protocol.
///
/// # Errors
/// The request is no upgrade, or nothing that it offers is known.
pub(super) fn agree(request: &mut Request<Incoming>, offer: &Offer) -> Result<Upgrade, Status> {
    let (carrier, protocol, headers) = choose(request.headers(), offer)?;
    let mut response = Response::new(full(bytes::Bytes::new()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().extend(headers);
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    Ok(Upgrade { carrier, protocol, response, connection: hyper::upgrade::on(request) })
}

/// Whether a request asks to become a WebSocket.
pub(super) fn wants_web_socket(headers: &HeaderMap) -> bool {
    text(headers, &header::UPGRADE).eq_ignore_ascii_case("websocket")
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn offered<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Vec<&'a str> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|one| !one.is_empty()).collect()
}

type Choice = (Carrier, &'static str, HeaderMap);

fn choose(headers: &HeaderMap, offer: &Offer) -> Result<Choice, Status> {
    if wants_web_socket(headers) {
        return web_socket(headers, offer);
    }
    if !text(headers, &header::UPGRADE).eq_ignore_ascii_case("SPDY/3.1") {
        return Err(Status::bad_request(
            "unable to upgrade: missing upgrade headers in request: connect with a WebSocket or SPDY/3.1",
        ));
    }
    let mut chosen = HeaderMap::new();
    chosen.insert(header::UPGRADE, HeaderValue::from_static("SPDY/3.1"));
    let wanted = offered(headers, &STREAM_PROTOCOL);
    let known = offer.spdy.iter().copied().find(|one| wanted.contains(one));
    let protocol = known.ok_or_else(|| nothing_known(&wanted, offer.spdy))?;
    chosen.insert(STREAM_PROTOCOL, HeaderValue::from_static(protocol));
    Ok((Carrier::Spdy, protocol, chosen))
}

fn nothing_known(wanted: &[&str], known: &[&str]) -> Status {
    let message = format!(
        "unable to upgrade: unable to negotiate protocol: client supports {wanted:?}, server accepts {known:?}"
    );
    Status::new(Reason::Forbidden, message)
}

/// Chooses the protocol and computes the answer to the client's key (RFC 6455).
fn web_socket(headers: &HeaderMap, offer: &Offer) -> Result<Choice, Status> {
    let wanted = offered(headers, &header::SEC_WEBSOCKET_PROTOCOL);
    let known = offer.web_socket.iter().copied().find(|one| wanted.contains(one));
    let default = offer.default.filter(|_| wanted.is_empty());
    let protocol = known.or(default).ok_or_else(|| nothing_known(&wanted, offer.web_socket))?;
    let key = text(headers, &header::SEC_WEBSOCKET_KEY);
    if key.is_empty() || text(headers, &header::SEC_WEBSOCKET_VERSION) != "13" {
        return Err(Status::bad_request("unable to upgrade: not a WebSocket handshake of version 13"));
    }
    let mut hash = sha1::Sha1::new();
    hash.update(key.as_bytes());
    hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let accept = base64::engine::general_purpose::STANDARD.encode(hash.finalize());
    let mut chosen = HeaderMap::new();
    chosen.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    chosen.insert(header::SEC_WEBSOCKET_ACCEPT, HeaderValue::from_str(&accept).map_err(Status::internal)?);
    if !wanted.is_empty() {
        // A client that offered none must not be told one.
        chosen.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    }
    Ok((Carrier::WebSocket, protocol, chosen))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFER: Offer =
        Offer { web_socket: &["v5", "v4"], default: Some("v1"), spdy: &["v4.channel.k8s.io"] };

    fn of(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn the_best_protocol_is_taken() {
        // The key and its answer stand in RFC 6455, section 1.3.
        let handshake = [
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        let offering = |more: &[(&'static str, &'static str)]| of(&[&handshake[..], more].concat());
        let (carrier, protocol, headers) =
            choose(&offering(&[("sec-websocket-protocol", "v4, v5")]), &OFFER).expect("agreed");
        assert_eq!((carrier, protocol), (Carrier::WebSocket, "v5"));
        assert_eq!(headers["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(headers["sec-websocket-protocol"], "v5");
        let (_, protocol, headers) = choose(&offering(&[]), &OFFER).expect("the default");
        assert_eq!(protocol, "v1");
        assert!(!headers.contains_key("sec-websocket-protocol"));
        let refused = choose(&offering(&[("sec-websocket-protocol", "v9")]), &OFFER).expect_err("unknown");
        assert_eq!(refused.code, 403);

        let spdy = of(&[("upgrade", "SPDY/3.1"), ("x-stream-protocol-version", "v9, v4.channel.k8s.io")]);
        let (carrier, protocol, headers) = choose(&spdy, &OFFER).expect("agreed");
        assert_eq!((carrier, protocol), (Carrier::Spdy, "v4.channel.k8s.io"));
        assert_eq!(headers["x-stream-protocol-version"], "v4.channel.k8s.io");
        assert_eq!(choose(&of(&[]), &OFFER).expect_err("no upgrade").code, 400);
        assert!(choose(&of(&[("upgrade", "websocket")]), &OFFER).is_err(), "no key");
    }
}
