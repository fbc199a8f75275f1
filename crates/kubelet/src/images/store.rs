//! Images in containerd: blobs in its content store, names in its image store,
//! layers unpacked as snapshots.
//!
//! What belongs together is tied with containerd's garbage-collection labels:
//! a name keeps its manifest, the manifest its blobs, the configuration the
//! unpacked layers.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use containerd_client::services::v1 as services;
use containerd_client::services::v1::snapshots as snaps;
use containerd_client::types::Descriptor;
use futures::{Stream, StreamExt as _};
use oci_client::manifest::{OciDescriptor, OciImageManifest};
use parking_lot::Mutex;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::pod::hex;
use crate::runtime::containerd::{Containerd, RuntimeError, failed, gone_is_fine};
use crate::runtime::spec::ImageConfig;

/// The snapshotter in use.
pub const SNAPSHOTTER: &str = "overlayfs";
/// Largest piece of a blob sent at once.
const CHUNK: usize = 1 << 20;
/// Largest manifest or configuration that is read.
const LARGEST_DOCUMENT: i64 = 16 << 20;

/// An image that can be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Its full name.
    pub name: String,
    /// Digest of its manifest (of the list, if it came as one).
    pub digest: String,
    /// Identity in a container's status: repository and digest.
    pub id: String,
    /// The topmost layer's snapshot; empty for an image without layers.
    pub chain: String,
    /// Bytes of its blobs.
    pub size: u64,
    /// What it says about the process.
    pub config: ImageConfig,
}

/// A blob's description.
#[derive(Clone, Debug)]
pub struct Blob {
    /// Media type.
    pub media_type: String,
    /// Digest.
    pub digest: String,
    /// Length in bytes.
    pub size: u64,
}

impl From<&OciDescriptor> for Blob {
    fn from(descriptor: &OciDescriptor) -> Self {
        Self {
            media_type: descriptor.media_type.clone(),
            digest: descriptor.digest.clone(),
            size: u64::try_from(descriptor.size).unwrap_or_default(),
        }
    }
}

impl Blob {
    fn descriptor(&self) -> Descriptor {
        Descriptor {
            media_type: self.media_type.clone(),
            digest: self.digest.clone(),
            size: i64::try_from(self.size).unwrap_or(i64::MAX),
            ..Descriptor::default()
        }
    }
}

/// The digest of bytes.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(bytes)))
}

/// The name of the snapshot that a layer makes on top of others.
#[must_use]
pub fn chain_id(parent: &str, diff: &str) -> String {
    if parent.is_empty() { diff.to_owned() } else { digest(format!("{parent} {diff}").as_bytes()) }
}

/// The architecture's name in image manifests.
#[must_use]
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Images in containerd.
#[derive(Clone)]
pub struct Store {
    containerd: Containerd,
    /// Images by digest: what a digest means never changes.
    known: Arc<Mutex<HashMap<String, Image>>>,
}

impl Store {
    /// The store behind a connection.
    #[must_use]
    pub fn new(containerd: Containerd) -> Self {
        Self { containerd, known: Arc::default() }
    }

    /// The same store under a lease that protects what is being added, until it is
    /// dropped.
    pub(crate) async fn leased(&self) -> Result<Self, RuntimeError> {
        if self.containerd.has_lease() {
            return Ok(self.clone());
        }
        Ok(Self { containerd: self.containerd.with_lease().await?, known: Arc::clone(&self.known) })
    }

    /// An image by its full name, ready to run; unpacks it if need be.
    ///
    /// # Errors
    /// When containerd fails, or what it has is not an image for this machine.
    pub async fn find(&self, name: &str) -> Result<Option<Arc<Image>>, RuntimeError> {
        let request = self.containerd.request(services::GetImageRequest { name: name.to_owned() });
        let found = self.containerd.images().get(request).await.map_err(failed(format!("get image {name}")));
        let target = match found {
            Ok(answer) => answer.into_inner().image.and_then(|image| image.target),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error),
        };
        let Some(target) = target else { return Ok(None) };
        let known = self.known.lock().get(&target.digest).cloned();
        let image = match known {
            Some(image) => image,
            None => {
                let image = self.leased().await?.unpack(name, &target.digest).await?;
                self.known.lock().insert(target.digest.clone(), image.clone());
                image
            }
        };
        let id = identity(name, &target.digest);
        Ok(Some(Arc::new(Image { name: name.to_owned(), id, ..image })))
    }

    /// All names with their digests and sizes, for the node's status.
    ///
    /// # Errors
    /// When containerd fails.
    pub async fn list(&self) -> Result<Vec<(String, String, u64)>, RuntimeError> {
        let request = self.containerd.request(services::ListImagesRequest::default());
        let images =
            self.containerd.images().list(request).await.map_err(failed("list images"))?.into_inner().images;
        let known = self.known.lock();
        Ok(images
            .into_iter()
            .filter_map(|image| {
                let digest = image.target?.digest;
                let size = known.get(&digest).map_or(0, |image| image.size);
                Some((image.name, digest, size))
            })
            .collect())
    }

    /// Removes a name; containerd collects what it alone kept.
    ///
    /// # Errors
    /// When containerd fails.
    pub async fn remove(&self, name: &str) -> Result<(), RuntimeError> {
        let request = services::DeleteImageRequest { name: name.to_owned(), ..Default::default() };
        let removed = self.containerd.images().delete(self.containerd.request(request)).await;
        gone_is_fine(removed.map_err(failed(format!("remove image {name}"))))
    }

    /// Whether a blob is here.
    pub(crate) async fn has(&self, digest: &str) -> Result<bool, RuntimeError> {
        let request = self.containerd.request(services::InfoRequest { digest: digest.to_owned() });
        match self.containerd.content().info(request).await.map_err(failed(format!("look for blob {digest}")))
        {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// A small blob.
    pub(crate) async fn read(&self, digest: &str) -> Result<Vec<u8>, RuntimeError> {
        let request =
            services::ReadContentRequest { digest: digest.to_owned(), offset: 0, size: LARGEST_DOCUMENT };
        let what = || failed(format!("read blob {digest}"));
        // The size asked for must not exceed the blob's.
        let info = services::InfoRequest { digest: digest.to_owned() };
        let info = self.containerd.content().info(self.containerd.request(info)).await.map_err(what())?;
        let size = info.into_inner().info.map_or(0, |info| info.size).min(LARGEST_DOCUMENT);
        let request = services::ReadContentRequest { size, ..request };
        let mut stream = self
            .containerd
            .content()
            .read(self.containerd.open_ended(request))
            .await
            .map_err(what())?
            .into_inner();
        let mut bytes = Vec::new();
        while let Some(part) = stream.message().await.map_err(what())? {
            bytes.extend(part.data);
        }
        Ok(bytes)
    }

    /// Writes a blob from a stream; containerd checks its digest.
    pub(crate) async fn write<S, E>(
        &self,
        blob: &Blob,
        labels: HashMap<String, String>,
        data: S,
    ) -> Result<(), RuntimeError>
    where
        S: Stream<Item = Result<Bytes, E>> + Unpin + Send,
        E: std::fmt::Display,
    {
        if self.has(&blob.digest).await? {
            return self.label(&blob.digest, labels).await;
        }
        let reference = format!("corten-{}-{}", blob.digest, uuid::Uuid::new_v4());
        let (sender, receiver) = mpsc::channel(4);
        let call = async {
            let request = self.containerd.open_ended(ReceiverStream::new(receiver));
            let mut answers = self.containerd.content().write(request).await?.into_inner();
            while answers.message().await?.is_some() {}
            Ok::<(), containerd_client::tonic::Status>(())
        };
        let (answer, sent) = futures::join!(call, send(sender, reference.clone(), blob, labels, data));
        let answer = answer.map_err(failed(format!("write blob {}", blob.digest)));
        if sent.is_err() || answer.as_ref().is_err_and(|error| !error.already_exists()) {
            let abort = self.containerd.request(services::AbortRequest { r#ref: reference });
            // The lease or containerd's own clean-up takes what this leaves.
            let _ignored = self.containerd.content().abort(abort).await;
        }
        sent?;
        match answer {
            Err(error) if !error.already_exists() => Err(error),
            _ => Ok(()),
        }
    }

    /// Adds labels to a blob.
    async fn label(&self, digest: &str, labels: HashMap<String, String>) -> Result<(), RuntimeError> {
        if labels.is_empty() {
            return Ok(());
        }
        let paths = labels.keys().map(|key| format!("labels.{key}")).collect();
        let info = services::Info { digest: digest.to_owned(), labels, ..Default::default() };
        let request =
            services::UpdateRequest { info: Some(info), update_mask: Some(prost_types::FieldMask { paths }) };
        let updated = self.containerd.content().update(self.containerd.request(request)).await;
        updated.map(drop).map_err(failed(format!("label blob {digest}")))
    }

    /// Writes a manifest (or a list) whose blobs are here, and gives it names.
    pub(crate) async fn finish(
        &self,
        names: &[String],
        media_type: &str,
        manifest: &[u8],
    ) -> Result<Vec<Arc<Image>>, RuntimeError> {
        let blob =
            Blob { media_type: media_type.to_owned(), digest: digest(manifest), size: manifest.len() as u64 };
        self.write_document(&blob, manifest).await?;
        let mut images = Vec::new();
        for name in names {
            self.tag(name, &blob).await?;
            images.extend(self.find(name).await?);
        }
        Ok(images)
    }

    /// Writes a manifest or list with references to everything below it.
    pub(crate) async fn write_document(&self, blob: &Blob, bytes: &[u8]) -> Result<(), RuntimeError> {
        let document: Value = serde_json::from_slice(bytes)
            .map_err(|error| RuntimeError::Unfit(format!("manifest {}: {error}", blob.digest)))?;
        let mut labels = HashMap::new();
        let children = ["manifests", "layers"]
            .iter()
            .flat_map(|key| document[*key].as_array().into_iter().flatten())
            .chain(Some(&document["config"]));
        for (number, child) in children.filter_map(|child| child["digest"].as_str()).enumerate() {
            labels.insert(format!("containerd.io/gc.ref.content.{number}"), child.to_owned());
        }
        let data = futures::stream::iter([Ok::<_, std::convert::Infallible>(Bytes::copy_from_slice(bytes))]);
        self.write(blob, labels, data).await
    }

    async fn tag(&self, name: &str, blob: &Blob) -> Result<(), RuntimeError> {
        let image = services::Image {
            name: name.to_owned(),
            target: Some(blob.descriptor()),
            ..services::Image::default()
        };
        let create = services::CreateImageRequest { image: Some(image.clone()), ..Default::default() };
        let created = self.containerd.images().create(self.containerd.request(create)).await;
        match created.map_err(failed(format!("name image {name}"))) {
            Err(error) if error.already_exists() => {}
            other => return other.map(drop),
        }
        let update = services::UpdateImageRequest { image: Some(image), ..Default::default() };
        let updated = self.containerd.images().update(self.containerd.request(update)).await;
        updated.map(drop).map_err(failed(format!("rename image {name}")))
    }

    /// Follows a manifest (or picks from a list) and unpacks its layers.
    async fn unpack(&self, name: &str, target: &str) -> Result<Image, RuntimeError> {
        let manifest = self.manifest(target, 0).await?;
        let config: Value = parse(&manifest.config.digest, &self.read(&manifest.config.digest).await?)?;
        let diffs: Vec<&str> =
            config["rootfs"]["diff_ids"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        if diffs.len() != manifest.layers.len() {
            return Err(RuntimeError::Unfit(format!(
                "image {name} has {} layers, but its configuration names {}",
                manifest.layers.len(),
                diffs.len()
            )));
        }
        let mut chain = String::new();
        for (layer, diff) in manifest.layers.iter().zip(diffs) {
            let next = chain_id(&chain, diff);
            self.unpack_layer(&Blob::from(layer), diff, &chain, &next).await?;
            chain = next;
        }
        let keep = format!("containerd.io/gc.ref.snapshot.{SNAPSHOTTER}");
        self.label(&manifest.config.digest, [(keep, chain.clone())].into()).await?;
        let size = manifest.layers.iter().map(|layer| layer.size).sum::<i64>() + manifest.config.size;
        Ok(Image {
            name: name.to_owned(),
            digest: target.to_owned(),
            id: identity(name, target),
            chain,
            size: u64::try_from(size).unwrap_or_default(),
            config: image_config(&config),
        })
    }

    /// The manifest for this machine below a digest.
    async fn manifest(&self, digest: &str, depth: u8) -> Result<OciImageManifest, RuntimeError> {
        let document: Value = parse(digest, &self.read(digest).await?)?;
        if document["config"].is_object() {
            return serde_json::from_value(document)
                .map_err(|error| RuntimeError::Unfit(format!("manifest {digest}: {error}")));
        }
        let child = pick(&document).filter(|_| depth < 4).ok_or_else(|| {
            RuntimeError::Unfit(format!("no image for linux/{} in {digest}", architecture()))
        })?;
        Box::pin(self.manifest(&child, depth + 1)).await
    }

    async fn unpack_layer(
        &self,
        layer: &Blob,
        diff: &str,
        parent: &str,
        chain: &str,
    ) -> Result<(), RuntimeError> {
        let stat = snaps::StatSnapshotRequest { snapshotter: SNAPSHOTTER.to_owned(), key: chain.to_owned() };
        if self.containerd.snapshots().stat(self.containerd.request(stat)).await.is_ok() {
            return Ok(());
        }
        let key = format!("extract-{} {chain}", uuid::Uuid::new_v4());
        let prepare = snaps::PrepareSnapshotRequest {
            snapshotter: SNAPSHOTTER.to_owned(),
            key: key.clone(),
            parent: parent.to_owned(),
            ..Default::default()
        };
        let mounts = self
            .containerd
            .snapshots()
            .prepare(self.containerd.request(prepare))
            .await
            .map_err(failed(format!("prepare layer {}", layer.digest)))?
            .into_inner()
            .mounts;
        let result = self.fill_layer(layer, diff, chain, &key, mounts).await;
        if result.is_err() {
            let remove = snaps::RemoveSnapshotRequest { snapshotter: SNAPSHOTTER.to_owned(), key };
            // The error that matters is the first.
            let _ignored = self.containerd.snapshots().remove(self.containerd.request(remove)).await;
        }
        match result {
            // Somebody else was quicker.
            Err(error) if error.already_exists() => Ok(()),
            other => other,
        }
    }

    async fn fill_layer(
        &self,
        layer: &Blob,
        diff: &str,
        chain: &str,
        key: &str,
        mounts: Vec<containerd_client::types::Mount>,
    ) -> Result<(), RuntimeError> {
        let apply = services::ApplyRequest { diff: Some(layer.descriptor()), mounts, ..Default::default() };
        let applied = self
            .containerd
            .diff()
            .apply(self.containerd.open_ended(apply))
            .await
            .map_err(failed(format!("unpack layer {}", layer.digest)))?;
        let applied = applied.into_inner().applied.map(|applied| applied.digest).unwrap_or_default();
        if applied != diff {
            return Err(RuntimeError::Unfit(format!(
                "layer {} unpacks to {applied}, but its image's configuration says {diff}",
                layer.digest
            )));
        }
        let commit = snaps::CommitSnapshotRequest {
            snapshotter: SNAPSHOTTER.to_owned(),
            name: chain.to_owned(),
            key: key.to_owned(),
            ..Default::default()
        };
        let committed = self.containerd.snapshots().commit(self.containerd.request(commit)).await;
        committed.map(drop).map_err(failed(format!("commit layer {}", layer.digest)))
    }
}

/// Sends a blob in pieces, and asks to commit it.
async fn send<S, E>(
    sender: mpsc::Sender<services::WriteContentRequest>,
    reference: String,
    blob: &Blob,
    labels: HashMap<String, String>,
    mut data: S,
) -> Result<(), RuntimeError>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
    E: std::fmt::Display,
{
    let total = i64::try_from(blob.size).unwrap_or(i64::MAX);
    let message = |action: services::WriteAction, offset: i64, data: Vec<u8>| services::WriteContentRequest {
        action: action.into(),
        r#ref: reference.clone(),
        total,
        expected: blob.digest.clone(),
        offset,
        data,
        labels: HashMap::new(),
    };
    let mut offset = 0_i64;
    while let Some(part) = data.next().await {
        let mut part =
            part.map_err(|error| RuntimeError::Unfit(format!("read blob {}: {error}", blob.digest)))?;
        while !part.is_empty() {
            let piece = part.split_to(part.len().min(CHUNK));
            let length = i64::try_from(piece.len()).unwrap_or_default();
            // If nobody listens any more, the call's own error says why.
            if sender.send(message(services::WriteAction::Write, offset, piece.to_vec())).await.is_err() {
                return Ok(());
            }
            offset += length;
        }
    }
    let commit = services::WriteContentRequest {
        labels,
        ..message(services::WriteAction::Commit, offset, Vec::new())
    };
    // As above.
    let _ignored = sender.send(commit).await;
    Ok(())
}

fn parse(digest: &str, bytes: &[u8]) -> Result<Value, RuntimeError> {
    serde_json::from_slice(bytes)
        .map_err(|error| RuntimeError::Unfit(format!("{digest} is not JSON: {error}")))
}

/// The digest of the entry for this machine in a list.
pub(crate) fn pick(index: &Value) -> Option<String> {
    let entries: Vec<&Value> = index["manifests"].as_array()?.iter().collect();
    let fits = |entry: &&&Value| {
        entry["platform"]["os"] == "linux" && entry["platform"]["architecture"] == architecture()
    };
    let unsaid = |entry: &&&Value| entry["platform"].is_null();
    let entry = entries.iter().find(fits).or_else(|| entries.iter().find(unsaid))?;
    entry["digest"].as_str().map(str::to_owned)
}

/// `repository@digest`.
fn identity(name: &str, digest: &str) -> String {
    let repository = name.split('@').next().unwrap_or_default();
    let repository = match repository.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => repository,
    };
    format!("{repository}@{digest}")
}

fn image_config(document: &Value) -> ImageConfig {
    let config = &document["config"];
    let text = |key: &str| config[key].as_str().unwrap_or_default().to_owned();
    let list = |key: &str| -> Vec<String> {
        config[key].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    ImageConfig {
        environment: list("Env"),
        entrypoint: list("Entrypoint"),
        command: list("Cmd"),
        user: text("User"),
        working_dir: text("WorkingDir"),
        stop_signal: text("StopSignal"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains() {
        let a = "sha256:aaaa";
        assert_eq!(chain_id("", a), a);
        assert_eq!(chain_id(a, "sha256:bbbb"), digest(b"sha256:aaaa sha256:bbbb"));
    }

    #[test]
    fn identities() {
        assert_eq!(
            identity("docker.io/library/busybox:1", "sha256:00"),
            "docker.io/library/busybox@sha256:00"
        );
        assert_eq!(identity("localhost:5000/a", "sha256:00"), "localhost:5000/a@sha256:00");
        assert_eq!(identity("localhost:5000/a@sha256:11", "sha256:00"), "localhost:5000/a@sha256:00");
    }

    #[test]
    fn the_entry_for_this_machine() {
        let index = serde_json::json!({"manifests": [
            {"digest": "other", "platform": {"os": "linux", "architecture": "s390x"}},
            {"digest": "ours", "platform": {"os": "linux", "architecture": architecture()}},
        ]});
        assert_eq!(pick(&index).as_deref(), Some("ours"));
        assert_eq!(pick(&serde_json::json!({"manifests": [{"digest": "only"}]})).as_deref(), Some("only"));
        assert_eq!(
            pick(&serde_json::json!({"manifests": [{"digest": "x", "platform": {"os": "windows"}}]})),
            None
        );
    }
}
