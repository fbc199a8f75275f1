//! `kubeadm join`: makes this host a node of a cluster.
//!
//! The cluster is known by an address, a token, and the digest of its authority.
//! What is sent, the token first of all, goes over a connection whose server was
//! proven by that digest.

use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use api::types::core::v1::{ConfigMap, Node};
use client::kubeconfig::{Impersonation, Material};
use client::{Client, Session};

use crate::certificate::Digest;
use crate::host::Host;
use crate::pki::Pair;
use crate::preflight::{self, Role};
use crate::settings::{CONFIG_MAP, Cluster};
use crate::signing::{self, Wanted};
use crate::token::Token;
use crate::{discovery, node};

/// What to join.
#[derive(Clone, Debug)]
pub struct Options {
    /// `HOST:PORT` of the API server.
    pub endpoint: String,
    /// What proves that this host is wanted.
    pub token: Token,
    /// What proves the cluster.
    pub digests: Vec<Digest>,
    /// This host as a node.
    pub node_name: String,
    /// Where this host is reached; from where it reaches the API server, if not given.
    pub address: Option<IpAddr>,
    /// Archives of images that are loaded at start.
    pub images: Option<PathBuf>,
    /// Preflight checks that are only warnings.
    pub ignored: Vec<String>,
}

/// A cluster that took this host's word.
pub struct Joined {
    /// The authority's certificate.
    pub authority: String,
    /// The node's certificates.
    pub credentials: node::Credentials,
    /// What all members agree on.
    pub cluster: Cluster,
    /// Where this host is reached.
    pub address: IpAddr,
    /// The cluster, as this node.
    pub client: Client,
}

/// Joins.
///
/// # Errors
/// What could not be done, and what to do about it.
pub async fn join(host: &Host, options: &Options, say: &dyn Fn(&str)) -> anyhow::Result<()> {
    say("[preflight] Running pre-flight checks");
    let role = Role {
        address: options.address.unwrap_or(IpAddr::from([127, 0, 0, 1])),
        ports: vec![10_250],
        local_ports: vec![10_248, 10_256],
        serves_dns: false,
        programs: vec!["kubelet", "kube-proxy"],
    };
    preflight::check(host, &role).judge(&options.ignored, say)?;
    let joined = introduce(options, say).await?;
    node::write_files(host, &joined.authority, &options.endpoint, &joined.credentials)?;
    let node = host.node(&options.node_name, joined.address, &joined.cluster, options.images.clone());
    node::start(host, &node.daemons(), say).await?;
    node::wait_until_ready(&joined.client, &options.node_name, say).await
}

/// Finds the cluster and gets certificates from it; nothing on the host changes.
///
/// # Errors
/// The cluster is another, does not know the token, or signs nothing.
pub async fn introduce(options: &Options, say: &dyn Fn(&str)) -> anyhow::Result<Joined> {
    let endpoint = &options.endpoint;
    say(&format!("[discovery] Looking for the cluster's authority at {endpoint}"));
    let found = discovery::find(endpoint, &options.digests).await?;
    let address = options.address.unwrap_or(found.own_address);
    let session = |token: Option<String>, pair: Option<&Pair>| {
        let bytes = |text: &str| Material::Bytes(text.as_bytes().to_vec());
        let session = Session {
            server: format!("https://{endpoint}"),
            ca: Some(bytes(&found.authority)),
            server_name: None,
            identity: pair.map(|pair| (bytes(&pair.certificate), bytes(&pair.key))),
            token: token.map(|token| Material::Bytes(token.into_bytes())),
            impersonation: Impersonation::default(),
            namespace: "default".to_owned(),
        };
        Client::new(&session, "kubeadm")
    };
    let client = session(Some(options.token.reveal()), None)?;
    say(&format!("[preflight] Reading configuration from the ConfigMap {CONFIG_MAP:?} in \"kube-system\""));
    let map = client.get::<ConfigMap>("kube-system", CONFIG_MAP).await.map_err(explain)?;
    let cluster = Cluster::from_config_map(&map)?;
    let name = &options.node_name;
    if client.find::<Node>("", name).await?.is_some_and(|node| node::is_ready(&node)) {
        bail!(
            "a node with the name {name:?} is Ready in the cluster already; delete it (kubectl delete node {name}), \
             or choose another name with --node-name"
        );
    }
    say("[tls-bootstrap] Asking for the kubelet's client certificate");
    let own = signing::obtain(&client, name, &Wanted::Client).await?;
    let client = session(None, Some(&own))?;
    say("[tls-bootstrap] Asking for the kubelet's serving certificate");
    let serving = signing::obtain(&client, name, &Wanted::Serving(vec![address])).await?;
    let credentials = node::Credentials { client: own, serving };
    Ok(Joined { authority: found.authority.clone(), credentials, cluster, address, client })
}

fn explain(status: api::Status) -> anyhow::Error {
    if status.reason == api::Reason::Unauthorized {
        return anyhow::anyhow!(
            "the cluster does not know the token, or it has expired; make one on the control plane: \
             kubeadm token create --print-join-command"
        );
    }
    anyhow::Error::from(status).context("read the cluster's configuration")
}

/// What to say at the end.
#[must_use]
pub const fn next_steps() -> &'static str {
    "\nThis node has joined the cluster:\n\
     * Certificate signing requests were sent to apiserver and a response was received.\n\
     * The Kubelet was informed of the new secure connection details.\n\n\
     Run 'kubectl get nodes' on the control-plane to see this node join the cluster."
}

/// Checks `HOST:PORT`.
///
/// # Errors
/// It has another form.
pub fn endpoint(text: &str) -> Result<String, String> {
    let parts = text.rsplit_once(':').filter(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    parts.map(|_| text.to_owned()).ok_or_else(|| format!("{text:?} is not HOST:PORT"))
}

/// A node's own session, for renewing its certificates.
///
/// # Errors
/// The host is no node.
pub fn own_client(host: &Host) -> anyhow::Result<Client> {
    let session =
        Session::from_file(&host.kubeconfig("kubelet.conf")).context("use this node's credentials")?;
    Ok(Client::new(&session, "kubeadm")?)
}
