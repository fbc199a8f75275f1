//! `pods/log`: a stream of text, in one body or in the messages of a WebSocket.

use std::sync::Arc;

use api::Status;
use daemon::tasks;
use futures::{StreamExt as _, stream};
use http::{HeaderValue, Request, Response, header};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use tonic::Streaming;
use wire::node::{Chunk, LogsRequest};

use super::upgrade::{self, Offer};
use super::{Connector, websocket};
use crate::gate::Gate;
use crate::registry::Address;
use crate::rest::{Answer, Query, pieces};

const OFFER: Offer = Offer {
    web_socket: &["binary.k8s.io", "base64.binary.k8s.io"],
    default: Some("binary.k8s.io"),
    spdy: &[],
};

pub(super) async fn answer(
    connector: &Connector,
    gate: &Arc<Gate>,
    address: &Address,
    mut request: Request<Incoming>,
) -> Result<Response<Answer>, Status> {
    let query = Query::parse(request.uri().query().unwrap_or_default());
    let located = connector.locate(gate, address).await?;
    let container = located.container(query.get("container"))?;
    let positive = |name: &str| -> Result<Option<i64>, Status> {
        match query.number(name)? {
            Some(value) if value < 0 => Err(Status::bad_request(format!(
                "{name}: Invalid value: {value}: must be greater than or equal to 0"
            ))),
            other => Ok(other),
        }
    };
    let wanted = LogsRequest {
        pod: Some(located.reference(&container)),
        follow: query.flag("follow"),
        previous: query.flag("previous"),
        since_seconds: positive("sinceSeconds")?,
        since_time: query.get("sinceTime").unwrap_or_default().to_owned(),
        timestamps: query.flag("timestamps"),
        tail_lines: positive("tailLines")?,
        limit_bytes: positive("limitBytes")?,
        stream: query.get("stream").unwrap_or_default().to_owned(),
    };
    let mut node = located.node;
    let upgrade = match upgrade::wants_web_socket(request.headers()) {
        true => Some(upgrade::agree(&mut request, &OFFER)?),
        false => None,
    };
    let chunks = node.logs(wanted).await.map_err(|status| client::of_grpc(&status))?.into_inner();
    if let Some(agreed) = upgrade {
        tasks::spawn("logs", over_web_socket(agreed.connection, agreed.protocol, chunks));
        return Ok(agreed.response);
    }
    let text = stream::unfold(Some(chunks), |chunks| async {
        let mut chunks = chunks?;
        match chunks.next().await? {
            Ok(chunk) => Some((chunk.data, Some(chunks))),
            Err(status) => {
                tracing::debug!(%status, "a log stream broke off");
                None
            }
        }
    });
    let mut response = Response::new(pieces(text));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    Ok(response)
}

async fn over_web_socket(connection: OnUpgrade, protocol: &str, mut chunks: Streaming<Chunk>) {
    let upgraded = match connection.await {
        Ok(upgraded) => upgraded,
        Err(error) => return tracing::debug!(%error, "an upgrade failed"),
    };
    let (mut to_client, mut from_client) = websocket::channels(upgraded, protocol).await;
    loop {
        tokio::select! {
            chunk = chunks.next() => {
                let Some(Ok(chunk)) = chunk else { break };
                if !to_client.send_piece(&chunk.data).await {
                    break;
                }
            }
            message = from_client.next() => {
                if message.is_none() {
                    break;
                }
            }
        }
    }
    to_client.close().await;
}
