//! Requests that end at a node: logs, exec, attach, port-forward, proxy.
//!
//! The API server authorizes, finds the node, and passes the stream on to the
//! kubelet's gRPC service.

mod any_certificate;
mod kubelet;
mod logs;
mod outward;
mod port_forward;
mod proxy;
mod remote_command;
mod spdy;
mod upgrade;
mod websocket;

use std::sync::Arc;

use api::{Object, Status};
use http::{Method, Request, Response};
use hyper::body::Incoming;
use serde_json::Value;

use crate::authn::User;
use crate::gate::{Gate, Target};
use crate::registry::{Address, Caller};
use crate::rest::{Answer, Query};

pub use kubelet::{Kubelets, NodeClient};
pub use outward::Outward;
pub(crate) use outward::{Destination, Place, Trust};

/// Passes requests on to nodes.
pub struct Connector {
    kubelets: Arc<Kubelets>,
}

/// A pod that runs somewhere, and the way to its node.
pub(crate) struct Located {
    pub(crate) pod: Object,
    pub(crate) node: NodeClient,
    pub(crate) node_name: String,
}

impl Connector {
    /// A connector over the ways to the nodes.
    #[must_use]
    pub const fn new(kubelets: Arc<Kubelets>) -> Self {
        Self { kubelets }
    }

    /// The ways to the nodes.
    #[must_use]
    pub const fn kubelets(&self) -> &Arc<Kubelets> {
        &self.kubelets
    }

    /// Whether a target's requests end at a node.
    #[must_use]
    pub fn handles(&self, target: &Target) -> bool {
        target.group.is_empty()
            && matches!(
                (target.resource.as_str(), target.subresource.as_str()),
                ("pods", "log" | "exec" | "attach" | "portforward" | "proxy")
                    | ("nodes" | "services", "proxy")
            )
    }

    /// Answers such a request.
    ///
    /// # Errors
    /// As a status, until the stream is open.
    pub async fn connect(
        &self,
        gate: &Arc<Gate>,
        user: Arc<User>,
        target: Target,
        rest: String,
        request: Request<Incoming>,
    ) -> Result<Response<Answer>, Status> {
        let verb = match *request.method() {
            Method::POST => "create",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            _ => "get",
        };
        let mut named = target.clone();
        if target.subresource == "proxy" {
            // `scheme:name:port` is how a proxy names a port.
            proxy::split_name(&target.name).1.clone_into(&mut named.name);
        }
        let allowed = gate.allow(&user, verb, &named).await?;
        if target.subresource != "log" {
            let query = Query::parse(request.uri().query().unwrap_or_default());
            let caller = Caller { user, field_manager: String::new() };
            gate.admit_connection(&caller, &allowed, options_of(&query, &rest)).await?;
        }
        match target.subresource.as_str() {
            "log" => logs::answer(self, gate, &allowed.address, request).await,
            "exec" | "attach" => {
                let located = self.locate(gate, &allowed.address).await?;
                remote_command::answer(located, &target.subresource, request)
            }
            "portforward" => port_forward::answer(self.locate(gate, &allowed.address).await?, request),
            _ => proxy::answer(self, gate, &allowed.address, &target, &rest, request).await,
        }
    }

    /// Finds a pod's node.
    pub(crate) async fn locate(&self, gate: &Gate, address: &Address) -> Result<Located, Status> {
        let stored = gate.registry().get(address, "").await?;
        let pod = stored.object().map_err(Status::internal)?;
        let node_name = pod.text(&["spec", "nodeName"]).to_owned();
        if node_name.is_empty() {
            return Err(Status::bad_request(format!("pod {} does not have a host assigned", address.name)));
        }
        let node = self.kubelets.node(gate.registry().cache(), &node_name)?;
        Ok(Located { pod, node, node_name })
    }
}

/// The options of a connection, as its query has them.
fn options_of(query: &Query, path: &str) -> Object {
    let mut options = Object::default();
    for name in ["stdin", "stdout", "stderr", "tty"] {
        if query.flag(name) {
            options.set(name, true);
        }
    }
    if let Some(container) = query.get("container") {
        options.set("container", container);
    }
    let command: Vec<Value> = query.all("command").map(Value::from).collect();
    if !command.is_empty() {
        options.set("command", command);
    }
    let ports = query.all("ports").flat_map(|list| list.split(','));
    let ports: Vec<Value> = ports.filter_map(|port| Some(port.parse::<u16>().ok()?.into())).collect();
    if !ports.is_empty() {
        options.set("ports", ports);
    }
    if !path.is_empty() {
        options.set("path", path);
    }
    options
}

impl Located {
    /// The container that a request means.
    pub(crate) fn container(&self, wanted: Option<&str>) -> Result<String, Status> {
        let names = |list: &str| -> Vec<String> {
            let containers = self.pod.at(&["spec", list]).and_then(serde_json::Value::as_array);
            containers
                .into_iter()
                .flatten()
                .filter_map(|one| one["name"].as_str())
                .map(str::to_owned)
                .collect()
        };
        let main = names("containers");
        let name = self.pod.name();
        match wanted.filter(|wanted| !wanted.is_empty()) {
            None => match (self.pod.annotation("kubectl.kubernetes.io/default-container"), main.as_slice()) {
                (Some(default), _) if main.iter().any(|one| one == default) => Ok(default.to_owned()),
                (_, [only]) => Ok(only.clone()),
                _ => Err(Status::bad_request(format!(
                    "a container name must be specified for pod {name}, choose one of: [{}]",
                    main.join(" ")
                ))),
            },
            Some(wanted) => {
                let all = [main, names("initContainers"), names("ephemeralContainers")].concat();
                if all.iter().any(|one| one == wanted) {
                    Ok(wanted.to_owned())
                } else {
                    Err(Status::bad_request(format!("container {wanted} is not valid for pod {name}")))
                }
            }
        }
    }

    /// The reference for the node.
    pub(crate) fn reference(&self, container: &str) -> wire::node::PodRef {
        wire::node::PodRef {
            namespace: self.pod.namespace().to_owned(),
            name: self.pod.name().to_owned(),
            uid: self.pod.uid().to_owned(),
            container: container.to_owned(),
            node: self.node_name.clone(),
        }
    }
}
