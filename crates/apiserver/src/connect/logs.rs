//! `pods/log`: a stream of text.

use std::sync::Arc;

use api::Status;
use futures::{StreamExt as _, stream};
use http::{HeaderValue, Request, Response, header};
use hyper::body::Incoming;
use wire::node::LogsRequest;

use super::Connector;
use crate::gate::Gate;
use crate::registry::Address;
use crate::rest::{Answer, Query, pieces};

pub(super) async fn answer(
    connector: &Connector,
    gate: &Arc<Gate>,
    address: &Address,
    request: &Request<Incoming>,
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
    let request = LogsRequest {
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
    let chunks = node.logs(request).await.map_err(|status| client::of_grpc(&status))?.into_inner();
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
