//! What a cluster gets besides its daemons: the service under which pods find
//! cluster DNS.

use std::net::IpAddr;

use anyhow::Context as _;
use api::types::core::v1::Service;
use api::types::discovery::v1::EndpointSlice;
use api::{Reason, Status};
use client::Client;
use serde_json::json;

/// Makes the service at `address` and its endpoint, unless they are there.
///
/// # Errors
/// The server's refusal.
pub async fn publish_dns(client: &Client, address: IpAddr, endpoint: IpAddr) -> anyhow::Result<()> {
    let service: Service = serde_json::from_value(json!({
        "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": {"k8s-app": "kube-dns", "kubernetes.io/name": "CoreDNS"}},
        "spec": {
            "clusterIP": address.to_string(),
            "ports": [
                {"name": "dns", "protocol": "UDP", "port": 53, "targetPort": 53},
                {"name": "dns-tcp", "protocol": "TCP", "port": 53, "targetPort": 53},
            ],
        },
    }))?;
    let slice: EndpointSlice = serde_json::from_value(json!({
        "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": {"kubernetes.io/service-name": "kube-dns"}},
        "addressType": if endpoint.is_ipv4() { "IPv4" } else { "IPv6" },
        "endpoints": [{"addresses": [endpoint.to_string()], "conditions": {"ready": true}}],
        "ports": [
            {"name": "dns", "protocol": "UDP", "port": 53},
            {"name": "dns-tcp", "protocol": "TCP", "port": 53},
        ],
    }))?;
    accept_existing(
        client.find::<Service>("kube-system", "kube-dns").await?.is_none(),
        client.create(&service),
    )
    .await?;
    accept_existing(
        client.find::<EndpointSlice>("kube-system", "kube-dns").await?.is_none(),
        client.create(&slice),
    )
    .await
}

async fn accept_existing<K>(
    absent: bool,
    create: impl Future<Output = Result<K, Status>>,
) -> anyhow::Result<()> {
    if !absent {
        return Ok(());
    }
    match create.await {
        Ok(_) => Ok(()),
        Err(status) if status.reason == Reason::AlreadyExists => Ok(()),
        Err(status) => Err(status).context("publish cluster DNS"),
    }
}
