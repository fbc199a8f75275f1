//! Joining against a real API server and the controllers: discovery, tokens,
//! requests for certificates, and who may approve them.

use std::net::IpAddr;
use std::time::Duration;

use api::types::certificates::v1::CertificateSigningRequest;
use api::types::core::v1::{Node, Secret};
use clap::Parser as _;
use client::{Client, Patch};
use controller_manager::flags::Flags;
use daemon::{Clock as _, Shell, SystemClock};
use kubeadm::certificate::{self, Digest};
use kubeadm::join::{self, Options};
use kubeadm::settings::Cluster;
use kubeadm::signing::{self, Wanted};
use kubeadm::token::{self, NODE_GROUP, Terms, Token};
use reconcile::Metrics;
use serde_json::json;
use testkit::{ControlPlane, eventually};

fn terms(expires: Option<jiff::Timestamp>) -> Terms {
    Terms {
        expires,
        usages: vec!["authentication".to_owned()],
        groups: vec![NODE_GROUP.to_owned()],
        description: String::new(),
    }
}

fn options(plane: &ControlPlane, token: &Token, name: &str, address: &str) -> anyhow::Result<Options> {
    Ok(Options {
        endpoint: plane.server().trim_start_matches("https://").to_owned(),
        token: token.clone(),
        digests: vec![Digest::of_pem(plane.authority().pem())?],
        node_name: name.to_owned(),
        address: Some(address.parse()?),
        images: None,
        ignored: Vec::new(),
    })
}

/// What `kubeadm init` leaves in a cluster, for `join` to find.
async fn prepare(plane: &ControlPlane, client: &Client) -> anyhow::Result<Token> {
    let token = Token::generate();
    client.create(&token::secret(&token, &terms(None))).await?;
    let cluster = Cluster {
        endpoint: plane.server().trim_start_matches("https://").to_owned(),
        pod_range: "10.244.0.0/16".parse()?,
        service_range: "10.96.0.0/16".parse()?,
        dns_domain: "cluster.local".to_owned(),
    };
    client.create(&cluster.to_config_map()?).await?;
    kubeadm::init::ensure_roles(client).await?;
    // A second time changes nothing.
    kubeadm::init::ensure_roles(client).await?;
    Ok(token)
}

fn why<T>(outcome: anyhow::Result<T>) -> String {
    outcome.err().map_or_else(|| "it was let in".to_owned(), |error| format!("{error:#}"))
}

async fn strangers(plane: &ControlPlane, client: &Client, token: &Token) -> anyhow::Result<()> {
    let good = options(plane, token, "n1", "10.0.0.1")?;
    let other = kubeadm::pki::Authority::generate("kubernetes", SystemClock.now())?.0;
    let digests = vec![Digest::of_pem(other.pem())?];
    let refused = why(join::introduce(&Options { digests, ..good.clone() }, &|_| {}).await);
    assert!(refused.contains("no authority with a digest that was given"), "{refused}");
    let unknown = Options { token: Token::generate(), ..good.clone() };
    let refused = why(join::introduce(&unknown, &|_| {}).await);
    assert!(refused.contains("does not know the token"), "{refused}");
    let old = Token::generate();
    let past = SystemClock.now() - Duration::from_secs(1);
    client.create(&token::secret(&old, &terms(Some(past)))).await?;
    let refused = why(join::introduce(&Options { token: old.clone(), ..good }, &|_| {}).await);
    assert!(refused.contains("does not know the token"), "{refused}");
    eventually("the expired token is deleted", || async {
        matches!(client.find::<Secret>(token::NAMESPACE, &token::secret_name(old.id())).await, Ok(None))
    })
    .await
}

async fn joins(plane: &ControlPlane, token: &Token) -> anyhow::Result<Client> {
    let joined = join::introduce(&options(plane, token, "n1", "10.0.0.1")?, &|_| {}).await?;
    assert_eq!(joined.authority.trim(), plane.authority().pem().trim());
    assert_eq!(joined.cluster.pod_range.to_string(), "10.244.0.0/16");
    let serving = certificate::read(&joined.credentials.serving.certificate)?;
    assert_eq!(serving.subject.hosts, ["n1", "10.0.0.1"]);
    assert_eq!(serving.subject.name, "system:node:n1");
    // The certificate makes a node of its bearer.
    joined.client.create(&serde_json::from_value::<Node>(json!({"metadata": {"name": "n1"}}))?).await?;
    let status = json!({"status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]}});
    joined.client.patch_status::<Node>("", "n1", &Patch::Merge(status)).await?;
    signing::obtain(&joined.client, "n1", &Wanted::Client).await?;
    Ok(joined.client)
}

/// A node may ask for anything, but what is not its own waits for a person.
async fn waits_for_a_person(admin: &Client, node: &Client) -> anyhow::Result<()> {
    let foreign: IpAddr = "10.0.0.9".parse()?;
    let asking = {
        let node = node.clone();
        daemon::tasks::spawn("asks", async move {
            signing::obtain(&node, "n1", &Wanted::Serving(vec![foreign])).await
        })
    };
    let open = || async {
        let requests = admin.list::<CertificateSigningRequest>(&client::ListOptions::default()).await.ok()?;
        requests
            .items
            .into_iter()
            .find(|request| request.status.as_ref().is_none_or(|one| one.conditions.is_none()))
    };
    eventually("the request is open", || async { open().await.is_some() }).await?;
    let request = open().await.expect("an open request");
    assert_eq!(request.spec.username.as_deref(), Some("system:node:n1"), "who asked is filled in");
    let name = request.metadata.name.clone().unwrap_or_default();
    let approval = json!({"status": {"conditions": [
        {"type": "Approved", "status": "True", "reason": "Person", "message": "it is fine"}]}});
    let target = || client::Target {
        subresource: "approval".to_owned(),
        ..client::verbs::target::<CertificateSigningRequest>("", &name)
    };
    let by = |client: Client, target| {
        let approval = approval.clone();
        async move { client.patch_json(target, &Patch::Merge(approval), &client::WriteOptions::default()).await }
    };
    let refused = by(node.clone(), target()).await.expect_err("a node approves nothing");
    assert_eq!(refused.reason, api::Reason::Forbidden, "{refused}");
    by(admin.clone(), target()).await?;
    let pair = asking.await??;
    assert_eq!(certificate::read(&pair.certificate)?.subject.hosts, ["n1", "10.0.0.9"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_joins_by_token_and_digest() -> anyhow::Result<()> {
    let plane = ControlPlane::start().await?;
    let client = plane.admin()?;
    let shell = Shell::quiet();
    let user =
        Client::new(&plane.session("system:kube-controller-manager", &[])?, "kube-controller-manager")?;
    let pki = |name: &str| plane.folder().join("pki").join(name).display().to_string();
    let flags = Flags::try_parse_from([
        "kube-controller-manager".to_owned(),
        "--kubeconfig=none".to_owned(),
        format!("--cluster-signing-cert-file={}", pki("ca.crt")),
        format!("--cluster-signing-key-file={}", pki("ca.key")),
    ])?;
    let (inner, stop) = (shell.clone(), shell.shutdown.clone());
    let running = daemon::tasks::spawn("controllers", async move {
        let ends = async move { stop.begun().await };
        controller_manager::control(flags, "PEM".into(), user, &inner, Metrics::default(), ends).await;
    });

    let token = prepare(&plane, &client).await?;
    strangers(&plane, &client, &token).await?;
    let node = joins(&plane, &token).await?;
    waits_for_a_person(&client, &node).await?;

    shell.shutdown.begin();
    running.await?;
    Ok(())
}
