//! Channels to the kubelets, with the API server's client certificate.

use std::collections::HashMap;

use api::{Object, Status};
use client::ClientFiles;
use parking_lot::Mutex;
use serde_json::Value;
use tonic::transport::Channel;

use crate::cache::WatchCache;

/// The node service of one kubelet.
pub type NodeClient = wire::node::node_client::NodeClient<Channel>;

/// The order in which a node's addresses are tried.
const PREFERRED: [&str; 5] = ["InternalIP", "ExternalIP", "Hostname", "InternalDNS", "ExternalDNS"];
/// Where a kubelet listens if its node does not say.
const DEFAULT_PORT: i64 = 10_250;

/// The ways to the nodes. Channels are opened when wanted and kept.
pub struct Kubelets {
    files: ClientFiles,
    channels: Mutex<HashMap<String, Channel>>,
}

impl Kubelets {
    /// Ways to kubelets whose certificates the CA in `files` signed.
    #[must_use]
    pub fn new(files: ClientFiles) -> Self {
        Self { files, channels: Mutex::default() }
    }

    /// The way to a node by name.
    ///
    /// # Errors
    /// The node does not exist or has no address.
    pub fn node(&self, cache: &WatchCache, name: &str) -> Result<NodeClient, Status> {
        let found = cache.resource("", "nodes").get("", name);
        let node = found.ok_or_else(|| Status::not_found("", "nodes", name))?;
        let node = node.object().map_err(Status::internal)?;
        let (host, port) = endpoint(&node).ok_or_else(|| {
            Status::internal(format!("node {name:?} has no address, so its kubelet cannot be reached"))
        })?;
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        let uri = format!("https://{host}:{port}");
        let key = format!("{name} {uri}");
        if let Some(channel) = self.channels.lock().get(&key) {
            return Ok(client_over(channel.clone()));
        }
        let mut files = self.files.clone();
        // A kubelet's certificate is for its node's name, whatever the address.
        files.server_name = Some(name.to_owned());
        let channel = client::grpc_channel(&uri, files).map_err(Status::internal)?;
        self.channels.lock().insert(key, channel.clone());
        Ok(client_over(channel))
    }
}

fn client_over(channel: Channel) -> NodeClient {
    NodeClient::new(channel).max_decoding_message_size(16 << 20)
}

fn endpoint(node: &Object) -> Option<(String, i64)> {
    let addresses = node.at(&["status", "addresses"])?.as_array()?;
    let of_type = |wanted: &&str| addresses.iter().find(|one| one["type"] == **wanted);
    let address = PREFERRED.iter().find_map(of_type)?["address"].as_str()?.to_owned();
    let port = node.at(&["status", "daemonEndpoints", "kubeletEndpoint", "Port"]).and_then(Value::as_i64);
    Some((address, port.filter(|port| *port > 0).unwrap_or(DEFAULT_PORT)))
}
