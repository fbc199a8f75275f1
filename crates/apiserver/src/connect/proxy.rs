//! `proxy`: an HTTP request passed on to a pod, a service's pod, or a kubelet.
//!
//! Pods are reached through their node's port-forward stream, so that the API
//! server needs no route into the pod network.

use std::sync::Arc;

use api::{Reason, Status};
use daemon::tasks;
use futures::{StreamExt as _, stream};
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use wire::node::HttpRequest;

use super::port_forward::tunnel;
use super::{Connector, Located, NodeClient};
use crate::gate::{Gate, Target};
use crate::registry::Address;
use crate::rest::{Answer, pieces, read_body};

/// Headers that concern one connection only (RFC 9110), and our own credentials.
const HOP: [HeaderName; 7] = [
    header::CONNECTION,
    header::AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::PROXY_AUTHORIZATION,
];

/// `scheme:name:port`, `name:port` or `name`.
pub(super) fn split_name(text: &str) -> (&str, &str, &str) {
    let parts: Vec<&str> = text.split(':').collect();
    match parts.as_slice() {
        [scheme, name, port] => (scheme, name, port),
        [name, port] => ("", name, port),
        _ => ("", text, ""),
    }
}

pub(super) async fn answer(
    connector: &Connector,
    gate: &Arc<Gate>,
    address: &Address,
    target: &Target,
    rest: &str,
    request: Request<Incoming>,
) -> Result<Response<Answer>, Status> {
    let (_, name, port) = split_name(&target.name);
    let mut address = address.clone();
    name.clone_into(&mut address.name);
    let mut path = if rest.is_empty() { "/".to_owned() } else { rest.to_owned() };
    if let Some(query) = request.uri().query() {
        path = format!("{path}?{query}");
    }
    match target.resource.as_str() {
        "nodes" => {
            let node = connector.kubelets().node(gate.registry().cache(), name)?;
            to_kubelet(node, path, request).await
        }
        "services" => {
            let (pod, port) = pick_endpoint(gate, &address, port)?;
            to_pod(connector.locate(gate, &pod).await?, port, &path, request).await
        }
        _ => {
            let located = connector.locate(gate, &address).await?;
            let port = pod_port(&located, port)?;
            to_pod(located, port, &path, request).await
        }
    }
}

fn pod_port(located: &Located, port: &str) -> Result<u32, Status> {
    if let Ok(number) = port.parse() {
        return Ok(number);
    }
    let containers = located.pod.at(&["spec", "containers"]).and_then(Value::as_array);
    let ports = containers.into_iter().flatten().filter_map(|one| one["ports"].as_array()).flatten();
    let number = |one: &Value| one["containerPort"].as_u64().and_then(|port| u32::try_from(port).ok());
    let found = if port.is_empty() {
        ports.filter_map(number).next().or(Some(80))
    } else {
        ports.filter(|one| one["name"] == port).find_map(number)
    };
    found.ok_or_else(|| Status::bad_request(format!("pod {} has no port named {port:?}", located.pod.name())))
}

/// A ready endpoint of a service, and the number of the port there.
fn pick_endpoint(gate: &Gate, service: &Address, port: &str) -> Result<(Address, u32), Status> {
    let unavailable = || {
        Status::new(
            Reason::ServiceUnavailable,
            format!("no endpoints available for service {:?}", service.name),
        )
    };
    let pods = gate.registry().kinds().find("", "v1", "pods").ok_or_else(Status::no_such_resource)?;
    let slices = gate.registry().cache().resource("discovery.k8s.io", "endpointslices");
    let selected = crate::cache::Selected {
        namespace: service.namespace.clone(),
        labels: api::LabelSelector::from_requirements(vec![api::selector::Requirement {
            key: "kubernetes.io/service-name".to_owned(),
            test: api::selector::Test::In(vec![service.name.clone()]),
        }]),
        ..Default::default()
    };
    let found = gate.registry().cache().resource("", "services").get(&service.namespace, &service.name);
    let spec = found.ok_or_else(|| service.not_found())?.object().map_err(Status::internal)?;
    let service_ports = spec.at(&["spec", "ports"]).and_then(Value::as_array).cloned().unwrap_or_default();
    let wanted = service_ports
        .iter()
        .find(|one| port.is_empty() || one["name"] == port || one["port"] == port)
        .ok_or_else(|| Status::bad_request(format!("service {:?} has no port {port:?}", service.name)))?;
    let mut candidates = Vec::new();
    for slice in slices.list(&selected, 0, None).0 {
        let slice = slice.object().map_err(Status::internal)?;
        let ports = slice.get("ports").and_then(Value::as_array).cloned().unwrap_or_default();
        let Some(number) = ports
            .iter()
            .find(|one| {
                one["name"].as_str().unwrap_or_default() == wanted["name"].as_str().unwrap_or_default()
            })
            .and_then(|one| one["port"].as_u64())
        else {
            continue;
        };
        for endpoint in slice.get("endpoints").and_then(Value::as_array).into_iter().flatten() {
            let ready = endpoint["conditions"]["ready"].as_bool().unwrap_or(true);
            if let (true, Some(name)) = (ready, endpoint["targetRef"]["name"].as_str()) {
                candidates.push((name.to_owned(), number));
            }
        }
    }
    if candidates.is_empty() {
        return Err(unavailable());
    }
    let (name, port) = candidates.swap_remove(rand::random_range(0..candidates.len()));
    let address = Address { kind: pods, namespace: service.namespace.clone(), name };
    Ok((address, u32::try_from(port).map_err(Status::internal)?))
}

async fn to_kubelet(
    mut node: NodeClient,
    path: String,
    request: Request<Incoming>,
) -> Result<Response<Answer>, Status> {
    let method = request.method().to_string();
    let body = read_body(request.into_body()).await?;
    let request = HttpRequest { method, path, body };
    let mut chunks = node.http(request).await.map_err(|status| client::of_grpc(&status))?.into_inner();
    let first = chunks
        .message()
        .await
        .map_err(|status| client::of_grpc(&status))?
        .ok_or_else(|| Status::internal("the kubelet sent no answer"))?;
    let code = u16::try_from(first.status).ok().and_then(|code| StatusCode::from_u16(code).ok());
    let headers = first.headers.clone();
    let rest = chunks.filter_map(|chunk| async { chunk.ok().map(|chunk| chunk.body) });
    let mut response = Response::new(pieces(stream::iter([first.body]).chain(rest)));
    *response.status_mut() = code.unwrap_or(StatusCode::BAD_GATEWAY);
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().insert(name, value);
        }
    }
    Ok(response)
}

async fn to_pod(
    located: Located,
    port: u32,
    path: &str,
    request: Request<Incoming>,
) -> Result<Response<Answer>, Status> {
    let refused = |error: String| {
        Status::new(Reason::ServiceUnavailable, format!("error trying to reach service: {error}"))
    };
    let reference = located.reference("");
    let host = format!("{}:{port}", located.pod.name());
    let stream = tunnel(located.node, reference, port).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| refused(error.to_string()))?;
    tasks::spawn("proxy-connection", async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a proxied connection ended");
        }
    });
    let (mut parts, body) = request.into_parts();
    let body = read_body(body).await?;
    HOP.iter().for_each(|name| drop(parts.headers.remove(name)));
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(header::HOST, HeaderValue::try_from(host).map_err(Status::internal)?);
    let mut onward = Request::new(Full::new(body));
    *onward.method_mut() = parts.method;
    *onward.uri_mut() =
        path.parse().map_err(|error| Status::bad_request(format!("path {path:?}: {error}")))?;
    *onward.headers_mut() = parts.headers;
    let response = sender.send_request(onward).await.map_err(|error| refused(error.to_string()))?;
    let (mut parts, body) = response.into_parts();
    HOP.iter().for_each(|name| drop(parts.headers.remove(name)));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(split_name("p"), ("", "p", ""));
        assert_eq!(split_name("p:80"), ("", "p", "80"));
        assert_eq!(split_name("https:p:web"), ("https", "p", "web"));
    }
}
