//! Images from registries: which address to ask ([`Registries`]), and one pull
//! from one address ([`Pull`]).
//!
//! Nothing of a pull is kept until it is whole: blobs are written under a lease,
//! and containerd checks each digest before it takes a blob.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _};
use oci_client::client::{Certificate, CertificateEncoding, ClientConfig, ClientProtocol};
use oci_client::errors::{OciDistributionError, OciErrorCode};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use serde_json::Value;

use super::credentials::Credentials;
use super::download;
use super::hosts::{self, Host, HostsError};
use super::store::{Blob, Image, Store, pick};
use crate::runtime::containerd::RuntimeError;

const MANIFEST_TYPES: [&str; 4] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];
/// Blobs of an image that are downloaded at once (containerd's default).
const PARALLEL: usize = 3;
const CONNECT_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(30);
/// A registry that sends nothing for so long is gone.
const READ_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(60);

/// A pull that failed.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// There is no such image.
    #[error("{0}: not found")]
    NotFound(String),
    /// The registry does not let us in.
    #[error(
        "pull access denied, repository does not exist or may require authorization: authorization failed"
    )]
    Denied(#[source] Box<OciDistributionError>),
    /// The registry, or the way to it.
    #[error("pull from {registry}")]
    Registry {
        /// Its address.
        registry: String,
        /// Why.
        source: Box<OciDistributionError>,
    },
    /// It answered with something that is not an image for this machine.
    #[error("{0}")]
    Unfit(String),
    /// How to reach the registry is not known.
    #[error(transparent)]
    Hosts(#[from] HostsError),
    /// containerd.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
}

impl PullError {
    fn of(registry: &str, what: &str, error: OciDistributionError) -> Self {
        match &error {
            OciDistributionError::ImageManifestNotFoundError(_)
            | OciDistributionError::ServerError { code: 404, .. } => Self::NotFound(what.to_owned()),
            OciDistributionError::AuthenticationFailure(_)
            | OciDistributionError::UnauthorizedError { .. }
            | OciDistributionError::ServerError { code: 401 | 403, .. } => Self::Denied(Box::new(error)),
            OciDistributionError::RegistryError { envelope, .. } => {
                let has =
                    |wanted: &[OciErrorCode]| envelope.errors.iter().any(|one| wanted.contains(&one.code));
                if has(&[OciErrorCode::Unauthorized, OciErrorCode::Denied]) {
                    Self::Denied(Box::new(error))
                } else if has(&[
                    OciErrorCode::ManifestUnknown,
                    OciErrorCode::NameUnknown,
                    OciErrorCode::NotFound,
                ]) {
                    Self::NotFound(what.to_owned())
                } else {
                    Self::Registry { registry: registry.to_owned(), source: Box::new(error) }
                }
            }
            _ => Self::Registry { registry: registry.to_owned(), source: Box::new(error) },
        }
    }
}

/// How registries are reached.
#[derive(Clone, Debug, Default)]
pub struct Registries {
    /// Registries that speak plain HTTP; those on this machine always do.
    pub plain_http: Vec<String>,
    /// Registries to ask first, by the registry that they mirror.
    pub mirrors: HashMap<String, Vec<String>>,
    /// Directory of `hosts.toml` files, which go before the rest.
    pub config: Option<PathBuf>,
}

impl Registries {
    fn is_plain(&self, registry: &str) -> bool {
        let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
        let is_local = host == "localhost"
            || host
                .trim_matches(['[', ']'])
                .parse::<std::net::IpAddr>()
                .is_ok_and(|address| address.is_loopback());
        is_local || self.plain_http.iter().any(|plain| plain == registry)
    }

    /// The addresses that serve a registry's images, in the order to try.
    fn hosts(&self, registry: &str) -> Result<Vec<Host>, HostsError> {
        if let Some(directory) = &self.config
            && let Some(hosts) = hosts::read(directory, registry)?
        {
            return Ok(hosts);
        }
        let mirrors = self.mirrors.get(registry).into_iter().flatten();
        let all = mirrors.map(String::as_str).chain([registry]);
        Ok(all.map(|address| Host::new(address, self.is_plain(address))).collect())
    }

    /// Pulls an image into the store, from its mirrors or its registry, with
    /// the first credentials that work.
    ///
    /// # Errors
    /// The last failure, when nothing worked.
    pub async fn pull(
        &self,
        reference: &Reference,
        credentials: &Credentials,
        store: &Store,
    ) -> Result<Arc<Image>, PullError> {
        let mut last = None;
        let by_digest = reference.digest().is_some();
        let hosts = self.hosts(reference.registry())?;
        for host in hosts.iter().filter(|host| host.pulls && (host.resolves || by_digest)) {
            for auth in credentials.matching(&host.address, reference) {
                match pull_from(host, &auth, reference, store).boxed().await {
                    Ok(image) => return Ok(image),
                    // Other credentials may do.
                    Err(error @ PullError::Denied(_)) => last = Some(error),
                    Err(error) => {
                        last = Some(error);
                        break;
                    }
                }
            }
        }
        Err(last.unwrap_or_else(|| PullError::Unfit(format!("no host may be asked for {reference}"))))
    }
}

async fn pull_from(
    host: &Host,
    auth: &RegistryAuth,
    reference: &Reference,
    store: &Store,
) -> Result<Arc<Image>, PullError> {
    let mut source = reference.clone();
    if host.address != reference.resolve_registry() && host.address != reference.registry() {
        source.set_mirror_registry(host.address.clone());
    }
    let protocol = if host.is_plain { ClientProtocol::Http } else { ClientProtocol::Https };
    let config = ClientConfig {
        protocol,
        user_agent: "corten-kubelet",
        accept_invalid_certificates: host.skips_verification,
        extra_root_certificates: authorities(host)?,
        connect_timeout: Some(CONNECT_TIMEOUT),
        read_timeout: Some(READ_TIMEOUT),
        ..ClientConfig::default()
    };
    let client =
        Client::try_from(config).map_err(|error| PullError::of(&host.address, &reference.whole(), error))?;
    let leased = store.leased().await?;
    let pull = Pull { client, source: &source, auth, store: &leased };
    pull.run(reference).boxed().await
}

fn authorities(host: &Host) -> Result<Vec<Certificate>, HostsError> {
    let read = |path: &PathBuf| {
        let data = std::fs::read(path).map_err(|source| HostsError::Read { path: path.clone(), source })?;
        Ok(Certificate { encoding: CertificateEncoding::Pem, data })
    };
    host.authorities.iter().map(read).collect()
}

struct Pull<'a> {
    client: Client,
    source: &'a Reference,
    auth: &'a RegistryAuth,
    store: &'a Store,
}

impl Pull<'_> {
    async fn run(&self, reference: &Reference) -> Result<Arc<Image>, PullError> {
        let (top, top_digest) = self.manifest(self.source).await?;
        let document = json(&top_digest, &top)?;
        if document["config"].is_object() {
            self.blobs(&document).await?;
        } else {
            let child = pick(&document).ok_or_else(|| {
                PullError::Unfit(format!(
                    "no match for platform linux/{} in manifest {top_digest}: not found",
                    super::store::architecture()
                ))
            })?;
            let (bytes, digest) = self.manifest(&self.source.clone_with_digest(child)).await?;
            let document = json(&digest, &bytes)?;
            self.blobs(&document).await?;
            let blob = Blob { media_type: media_type(&document), digest, size: bytes.len() as u64 };
            self.store.write_document(&blob, &bytes).await?;
        }
        let images = self.store.finish(&[reference.whole()], &media_type(&document), &top).await?;
        images
            .into_iter()
            .next()
            .ok_or_else(|| PullError::Unfit(format!("{reference} vanished after the pull")))
    }

    async fn manifest(&self, reference: &Reference) -> Result<(Vec<u8>, String), PullError> {
        let (bytes, _) = self
            .client
            .pull_manifest_raw(reference, self.auth, &MANIFEST_TYPES)
            .await
            .map_err(|error| self.failed(&reference.whole(), error))?;
        // The digest that counts is that of the bytes we got.
        let digest = super::store::digest(&bytes);
        match reference.digest() {
            Some(expected) if expected.starts_with("sha256:") && expected != digest => Err(PullError::Unfit(
                format!("registry sent a manifest with digest {digest} for {reference}"),
            )),
            _ => Ok((bytes.to_vec(), digest)),
        }
    }

    /// Configuration and layers, several at once.
    async fn blobs(&self, manifest: &Value) -> Result<(), PullError> {
        let layers = manifest["layers"].as_array().into_iter().flatten();
        let mut blobs: Vec<Blob> =
            layers.chain(Some(&manifest["config"])).map(blob).collect::<Result<_, _>>()?;
        // An image may have the same layer more than once.
        blobs.sort_by(|a, b| a.digest.cmp(&b.digest));
        blobs.dedup_by(|a, b| a.digest == b.digest);
        let total: u64 = blobs.iter().map(|blob| blob.size).sum();
        tracing::info!(image = %self.source, blobs = blobs.len(), bytes = total, "pulling");
        let mut calls: Vec<BoxFuture<'_, Result<u64, PullError>>> = Vec::new();
        for blob in &blobs {
            calls.push(self.blob(blob).boxed());
        }
        let mut results = futures::stream::iter(calls).buffer_unordered(PARALLEL);
        let mut done = 0;
        while let Some(result) = results.next().await {
            done += result?;
            tracing::info!(image = %self.source, bytes = done, of = total, "pulled");
        }
        Ok(())
    }

    async fn blob(&self, blob: &Blob) -> Result<u64, PullError> {
        if !self.store.has(&blob.digest).await? {
            let stream = download::blob(&self.client, self.source, blob)
                .await
                .map_err(|error| self.failed(&blob.digest, error))?;
            self.store.write(blob, HashMap::new(), stream).await?;
        }
        Ok(blob.size)
    }

    fn failed(&self, what: &str, error: OciDistributionError) -> PullError {
        PullError::of(self.source.resolve_registry(), what, error)
    }
}

fn json(digest: &str, bytes: &[u8]) -> Result<Value, PullError> {
    serde_json::from_slice(bytes).map_err(|error| PullError::Unfit(format!("manifest {digest}: {error}")))
}

fn media_type(document: &Value) -> String {
    let default = if document["config"].is_object() { MANIFEST_TYPES[2] } else { MANIFEST_TYPES[0] };
    document["mediaType"].as_str().unwrap_or(default).to_owned()
}

fn blob(value: &Value) -> Result<Blob, PullError> {
    let text = |key: &str| value[key].as_str().map(str::to_owned);
    text("mediaType")
        .zip(text("digest"))
        .zip(value["size"].as_u64())
        .map(|((media_type, digest), size)| Blob { media_type, digest, size })
        .ok_or_else(|| PullError::Unfit(format!("malformed descriptor {value}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_registries() {
        let registries =
            Registries { plain_http: vec!["registry.lab:5000".to_owned()], ..Registries::default() };
        for (registry, expected) in [
            ("localhost:5000", true),
            ("127.0.0.1:5000", true),
            ("[::1]:5000", true),
            ("registry.lab:5000", true),
            ("registry.lab", false),
            ("docker.io", false),
        ] {
            assert_eq!(registries.is_plain(registry), expected, "{registry}");
        }
    }

    #[test]
    fn mirrors_are_asked_first() {
        let mirrors = [("docker.io".to_owned(), vec!["localhost:5000".to_owned()])].into();
        let registries = Registries { mirrors, ..Registries::default() };
        let hosts = registries.hosts("docker.io").expect("hosts");
        assert_eq!(hosts, [Host::new("localhost:5000", true), Host::new("docker.io", false)]);
        assert_eq!(registries.hosts("quay.io").expect("hosts"), [Host::new("quay.io", false)]);
    }
}
