//! Certificates that the cluster signs: a key made here, a request, and the
//! wait for its answer.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use api::metav1::ObjectMeta;
use api::openapi::ByteString;
use api::types::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec};
use client::Client;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

use crate::pki::Pair;

const POLL: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_mins(2);

/// What is asked for.
#[derive(Clone, Debug)]
pub enum Wanted {
    /// A node's certificate for talking to the API server.
    Client,
    /// A node's certificate for being called, at these addresses.
    Serving(Vec<IpAddr>),
}

impl Wanted {
    const fn signer(&self) -> &'static str {
        match self {
            Self::Client => "kubernetes.io/kube-apiserver-client-kubelet",
            Self::Serving(_) => "kubernetes.io/kubelet-serving",
        }
    }

    const fn usage(&self) -> &'static str {
        match self {
            Self::Client => "client auth",
            Self::Serving(_) => "server auth",
        }
    }
}

/// The name under which a node is a user.
#[must_use]
pub fn node_user(node: &str) -> String {
    format!("system:node:{node}")
}

/// Has the cluster sign a certificate of a node.
///
/// # Errors
/// The request is refused, denied, or not answered in time.
pub async fn obtain(client: &Client, node: &str, wanted: &Wanted) -> anyhow::Result<Pair> {
    let key = KeyPair::generate().context("generate a key")?;
    let created = client
        .create(&request(&key, node, wanted)?)
        .await
        .with_context(|| format!("ask for a certificate of {}", wanted.signer()))?;
    let name = created.metadata.name.unwrap_or_default();
    let answered = async {
        loop {
            let request = client.get::<CertificateSigningRequest>("", &name).await?;
            let status = request.status.unwrap_or_default();
            if let Some(certificate) = status.certificate.filter(|bytes| !bytes.0.is_empty()) {
                let certificate = String::from_utf8(certificate.0).context("read the certificate")?;
                return Ok(Pair { certificate, key: key.serialize_pem() });
            }
            let conditions = status.conditions.unwrap_or_default();
            if let Some(no) = conditions.iter().find(|one| matches!(one.type_.as_str(), "Denied" | "Failed"))
            {
                bail!("the certificate was not signed: {}", no.message.clone().unwrap_or_default());
            }
            tokio::time::sleep(POLL).await;
        }
    };
    match tokio::time::timeout(PATIENCE, answered).await {
        Ok(outcome) => outcome,
        Err(_) => bail!(
            "the request {name} of {} was not approved in {} seconds; look at it on the control plane: \
             kubectl describe csr {name}",
            wanted.signer(),
            PATIENCE.as_secs()
        ),
    }
}

fn request(key: &KeyPair, node: &str, wanted: &Wanted) -> anyhow::Result<CertificateSigningRequest> {
    let mut hosts = Vec::new();
    if let Wanted::Serving(addresses) = wanted {
        hosts.push(node.to_owned());
        hosts.extend(addresses.iter().map(ToString::to_string));
    }
    let mut params = CertificateParams::new(hosts).context("names for the certificate")?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
    params.distinguished_name.push(DnType::CommonName, node_user(node));
    let request = params.serialize_request(key).context("make a certificate request")?;
    let pem = request.pem().context("write a certificate request")?;
    let usages = ["digital signature", wanted.usage()].map(str::to_owned).into();
    Ok(CertificateSigningRequest {
        metadata: ObjectMeta { generate_name: Some("node-csr-".to_owned()), ..ObjectMeta::default() },
        spec: CertificateSigningRequestSpec {
            request: ByteString(pem.into_bytes()),
            signer_name: wanted.signer().to_owned(),
            usages: Some(usages),
            ..CertificateSigningRequestSpec::default()
        },
        ..CertificateSigningRequest::default()
    })
}
