//! Requests passed on to another API server, in the name of the user who asks.

use api::{Reason, Status};
use bytes::Bytes;
use daemon::tasks;
use futures::stream;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use hyper_util::rt::TokioIo;

use super::{Aggregation, EXTRA, GROUPS, Remote, UID, USER};
use crate::authn::User;
use crate::rest::{Answer, full, pieces};

/// Headers that concern one connection only (RFC 9110), and credentials.
const OWN: [HeaderName; 6] = [
    header::CONNECTION,
    header::AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::UPGRADE,
    header::PROXY_AUTHORIZATION,
];
/// Who a request is from; nobody else may say so.
const CLAIMED: &str = "x-remote-";

/// A body that is passed on.
pub(crate) type Passed = UnsyncBoxBody<Bytes, hyper::Error>;

impl Aggregation {
    /// Has another server answer.
    ///
    /// # Errors
    /// It is not available.
    pub(crate) async fn forward(
        &self,
        remote: &Remote,
        user: &User,
        mut request: Request<Passed>,
    ) -> Result<Response<Answer>, Status> {
        if !remote.is_available {
            return Err(Status::new(Reason::ServiceUnavailable, "service unavailable"));
        }
        let failed = |why: String| {
            Status::new(Reason::ServiceUnavailable, format!("error trying to reach service: {why}"))
        };
        let to = remote.to.as_ref().map_err(|why| failed(why.clone()))?;
        let upgrade = request.headers().get(header::UPGRADE).cloned();
        let client = upgrade.is_some().then(|| hyper::upgrade::on(&mut request));
        let stream = self.outward.open(to, self.identity.clone(), remote.trust).await.map_err(failed)?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| failed(error.to_string()))?;
        tasks::spawn("aggregated", async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "a connection to an extension API server ended");
            }
        });
        let (mut parts, body) = request.into_parts();
        speak_for(user, &mut parts.headers)?;
        if let Some(upgrade) = upgrade {
            parts.headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
            parts.headers.insert(header::UPGRADE, upgrade);
        }
        let host = HeaderValue::try_from(to.authority()).map_err(Status::internal)?;
        parts.headers.insert(header::HOST, host);
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        parts.uri = path.parse().map_err(Status::internal)?;
        parts.version = http::Version::HTTP_11;
        let answered = sender.send_request(Request::from_parts(parts, body)).await;
        let mut response = answered.map_err(|error| failed(error.to_string()))?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS
            && let Some(client) = client
        {
            let server = hyper::upgrade::on(&mut response);
            tasks::spawn("aggregated-upgrade", async move {
                if let (Ok(client), Ok(server)) = tokio::join!(client, server) {
                    let (mut client, mut server) = (TokioIo::new(client), TokioIo::new(server));
                    if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut server).await {
                        tracing::debug!(%error, "an upgraded connection to an extension API server ended");
                    }
                }
            });
            return Ok(response.map(|_| full(Bytes::new())));
        }
        let (mut parts, body) = response.into_parts();
        OWN.iter().chain(&[header::TRANSFER_ENCODING]).for_each(|name| drop(parts.headers.remove(name)));
        // The sender must live as long as the body.
        let data = stream::unfold((body, sender), |(mut body, sender)| async {
            loop {
                // Trailers are not passed on.
                if let Ok(data) = body.frame().await?.ok()?.into_data() {
                    return Some((data, (body, sender)));
                }
            }
        });
        Ok(Response::from_parts(parts, pieces(data)))
    }
}

/// Says whom the request is from, and lets nobody else say it.
fn speak_for(user: &User, headers: &mut HeaderMap) -> Result<(), Status> {
    OWN.iter().for_each(|name| drop(headers.remove(name)));
    let claimed: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with(CLAIMED)).cloned().collect();
    for name in claimed {
        headers.remove(name);
    }
    let mut add = |name: &str, value: &str| -> Result<(), Status> {
        let name = HeaderName::try_from(name).map_err(Status::internal)?;
        let value = HeaderValue::try_from(value).map_err(Status::internal)?;
        headers.append(name, value);
        Ok(())
    };
    add(USER, &user.name)?;
    if !user.uid.is_empty() {
        add(UID, &user.uid)?;
    }
    for group in &user.groups {
        add(GROUPS, group)?;
    }
    for (key, values) in &user.extra {
        let key = form_urlencoded::byte_serialize(key.as_bytes()).collect::<String>().replace('+', "%20");
        for value in values {
            add(&format!("{EXTRA}{key}"), value)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_server_says_who_asks() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("x-remote-user", "root"),
            ("x-remote-group", "system:masters"),
            ("x-remote-extra-a", "b"),
            ("authorization", "Bearer secret"),
            ("accept", "x"),
        ] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let user = User {
            name: "jane".to_owned(),
            groups: vec!["a".to_owned(), "b".to_owned()],
            extra: [("x.io/Scope".to_owned(), vec!["one".to_owned()])].into(),
            ..User::default()
        };
        speak_for(&user, &mut headers).expect("headers");
        let mut shown: Vec<String> = headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().expect("text")))
            .collect();
        shown.sort();
        assert_eq!(
            shown,
            [
                "accept: x",
                "x-remote-extra-x.io%2fscope: one",
                "x-remote-group: a",
                "x-remote-group: b",
                "x-remote-user: jane"
            ]
        );
    }
}
