//! Images from registries.

use std::collections::HashMap;

use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _};
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::errors::OciDistributionError;
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use serde_json::Value;

use super::credentials::Credentials;
use super::store::{Blob, Image, Store, pick};
use crate::runtime::containerd::RuntimeError;
use std::sync::Arc;

const MANIFEST_TYPES: [&str; 4] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

/// A pull that failed.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
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
    /// containerd.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
}

/// How registries are reached.
#[derive(Clone, Debug, Default)]
pub struct Registries {
    /// Registries that speak plain HTTP; those on this machine always do.
    pub plain_http: Vec<String>,
    /// Registries to ask first, by the registry that they mirror.
    pub mirrors: HashMap<String, Vec<String>>,
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
        let mut sources = Vec::new();
        for mirror in self.mirrors.get(reference.registry()).into_iter().flatten() {
            let mut source = reference.clone();
            source.set_mirror_registry(mirror.clone());
            sources.push(source);
        }
        sources.push(reference.clone());
        let mut last = None;
        for source in &sources {
            for auth in credentials.matching(reference) {
                match self.pull_from(source, &auth, reference, store).boxed().await {
                    Ok(image) => return Ok(image),
                    Err(error) => last = Some(error),
                }
            }
        }
        Err(last.unwrap_or_else(|| PullError::Unfit(format!("no source for {reference}"))))
    }

    async fn pull_from(
        &self,
        source: &Reference,
        auth: &RegistryAuth,
        reference: &Reference,
        store: &Store,
    ) -> Result<Arc<Image>, PullError> {
        let registry = source.resolve_registry();
        let protocol = if self.is_plain(registry) { ClientProtocol::Http } else { ClientProtocol::Https };
        let config = ClientConfig { protocol, user_agent: "corten-kubelet", ..ClientConfig::default() };
        let client = Client::new(config);
        let leased = store.leased().await?;
        let pull = Pull { client, source, auth, store: &leased };
        let result = pull.run(reference).boxed().await;
        leased.release().await;
        result
    }
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
                    "no image for linux/{} in {reference}",
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
            .map_err(|error| self.failed(error))?;
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
        let blobs: Vec<Blob> = layers.chain(Some(&manifest["config"])).map(blob).collect::<Result<_, _>>()?;
        let total: u64 = blobs.iter().map(|blob| blob.size).sum();
        tracing::info!(image = %self.source, blobs = blobs.len(), bytes = total, "pulling");
        let mut calls: Vec<BoxFuture<'_, Result<u64, PullError>>> = Vec::new();
        for blob in &blobs {
            calls.push(self.blob(blob).boxed());
        }
        let mut results = futures::stream::iter(calls).buffer_unordered(3);
        let mut done = 0;
        while let Some(result) = results.next().await {
            done += result?;
            tracing::info!(image = %self.source, bytes = done, of = total, "pulled");
        }
        Ok(())
    }

    async fn blob(&self, blob: &Blob) -> Result<u64, PullError> {
        if !self.store.has(&blob.digest).await? {
            let stream = self
                .client
                .pull_blob_stream(self.source, blob.digest.as_str())
                .await
                .map_err(|error| self.failed(error))?;
            self.store.write(blob, HashMap::new(), stream.stream).await?;
        }
        Ok(blob.size)
    }

    fn failed(&self, error: OciDistributionError) -> PullError {
        PullError::Registry { registry: self.source.resolve_registry().to_owned(), source: Box::new(error) }
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
}
