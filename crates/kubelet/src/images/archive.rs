//! Images from archives on disk: an OCI layout or the output of `docker save`,
//! as an uncompressed tar file.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::store::{Blob, Image, Store, digest, pick};
use crate::pod::hex;
use crate::runtime::containerd::RuntimeError;

const PIECE: usize = 1 << 20;

/// An archive that cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// Reading it failed.
    #[error("read image archive {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not an image archive.
    #[error("image archive {}: {why}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// containerd.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
}

/// An open archive: where in the file each member is.
struct Archive {
    path: PathBuf,
    members: HashMap<String, (u64, u64)>,
}

/// Imports an archive; gives the images in it.
///
/// # Errors
/// When it cannot be read, is no image archive, or containerd fails.
pub async fn import(store: &Store, path: &Path) -> Result<Vec<Arc<Image>>, ArchiveError> {
    let owned = path.to_owned();
    let archive = tokio::task::spawn_blocking(move || Archive::open(owned))
        .await
        .map_err(|error| malformed(path, error.to_string()))??;
    archive.import(&store.leased().await?).await
}

/// Imports every `*.tar` of a directory, in the order of names. An archive that
/// fails is reported and does not stop the others.
pub async fn import_directory(store: &Store, directory: &Path) {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "tar"))
        .collect();
    paths.sort();
    for path in paths {
        match import(store, &path).await {
            Ok(images) => {
                for image in images {
                    tracing::info!(image = %image.name, archive = %path.display(), "imported");
                }
            }
            Err(error) => tracing::error!(error = %super::chain(&error), "image archive not imported"),
        }
    }
}

fn malformed(path: &Path, why: impl Into<String>) -> ArchiveError {
    ArchiveError::Malformed { path: path.to_owned(), why: why.into() }
}

impl Archive {
    fn open(path: PathBuf) -> Result<Self, ArchiveError> {
        let read = |source| ArchiveError::Read { path: path.clone(), source };
        let file = File::open(&path).map_err(read)?;
        let mut members = HashMap::new();
        for entry in tar::Archive::new(file).entries_with_seek().map_err(read)? {
            let entry = entry.map_err(read)?;
            let name = entry.path().map_err(read)?.to_string_lossy().trim_start_matches("./").to_owned();
            members.insert(name, (entry.raw_file_position(), entry.size()));
        }
        Ok(Self { path, members })
    }

    async fn import(&self, store: &Store) -> Result<Vec<Arc<Image>>, ArchiveError> {
        if self.members.contains_key("manifest.json") {
            self.import_docker(store).await
        } else if self.members.contains_key("index.json") {
            self.import_layout(store).await
        } else {
            Err(malformed(&self.path, "neither manifest.json nor index.json is in it"))
        }
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, ArchiveError> {
        let (offset, size) =
            *self.members.get(name).ok_or_else(|| malformed(&self.path, format!("no {name} in it")))?;
        let read = |source| ArchiveError::Read { path: self.path.clone(), source };
        let mut file = File::open(&self.path).map_err(read)?;
        file.seek(SeekFrom::Start(offset)).map_err(read)?;
        let mut bytes = Vec::new();
        file.take(size).read_to_end(&mut bytes).map_err(read)?;
        Ok(bytes)
    }

    fn json(&self, name: &str) -> Result<Value, ArchiveError> {
        serde_json::from_slice(&self.read(name)?)
            .map_err(|error| malformed(&self.path, format!("{name}: {error}")))
    }

    /// Copies a member into the store.
    async fn copy(&self, store: &Store, name: &str, blob: &Blob) -> Result<(), ArchiveError> {
        let (offset, size) =
            *self.members.get(name).ok_or_else(|| malformed(&self.path, format!("no {name} in it")))?;
        let (sender, receiver) = mpsc::channel(4);
        let path = self.path.clone();
        let reader = tokio::task::spawn_blocking(move || {
            let outcome = read_pieces(&path, offset, size, |piece| sender.blocking_send(Ok(piece)).is_ok());
            if let Err(error) = outcome {
                // The receiver reports it; if it is gone, nobody needs it.
                let _ignored = sender.blocking_send(Err(error));
            }
        });
        store.write(blob, HashMap::new(), ReceiverStream::new(receiver)).await?;
        reader.await.map_err(|error| malformed(&self.path, error.to_string()))
    }

    async fn import_docker(&self, store: &Store) -> Result<Vec<Arc<Image>>, ArchiveError> {
        let list = self.json("manifest.json")?;
        let mut images = Vec::new();
        for entry in list.as_array().into_iter().flatten() {
            let config = entry["Config"]
                .as_str()
                .ok_or_else(|| malformed(&self.path, "no Config in manifest.json"))?;
            let config_bytes = self.read(config)?;
            let config_blob = Blob {
                media_type: "application/vnd.oci.image.config.v1+json".to_owned(),
                digest: digest(&config_bytes),
                size: config_bytes.len() as u64,
            };
            self.copy(store, config, &config_blob).await?;
            let mut layers = Vec::new();
            for layer in entry["Layers"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                let blob = self.layer(layer)?;
                self.copy(store, layer, &blob).await?;
                layers.push(descriptor(&blob));
            }
            let media_type = "application/vnd.oci.image.manifest.v1+json";
            let manifest = json!({
                "schemaVersion": 2, "mediaType": media_type,
                "config": descriptor(&config_blob), "layers": layers,
            });
            let names =
                self.names(entry["RepoTags"].as_array().into_iter().flatten().filter_map(Value::as_str))?;
            images.extend(store.finish(&names, media_type, manifest.to_string().as_bytes()).await?);
        }
        Ok(images)
    }

    fn names<'a>(&self, names: impl Iterator<Item = &'a str>) -> Result<Vec<String>, ArchiveError> {
        names
            .map(|name| {
                super::parse(name)
                    .map(|name| name.whole())
                    .map_err(|error| malformed(&self.path, error.to_string()))
            })
            .collect()
    }

    /// A layer's description: its digest must be computed.
    fn layer(&self, name: &str) -> Result<Blob, ArchiveError> {
        let (offset, size) =
            *self.members.get(name).ok_or_else(|| malformed(&self.path, format!("no {name} in it")))?;
        let mut hash = Sha256::new();
        let mut magic = [0_u8; 2];
        let mut seen = 0_usize;
        read_pieces(&self.path, offset, size, |piece| {
            if seen == 0 && piece.len() > 2 {
                magic.copy_from_slice(&piece[..2]);
            }
            seen += piece.len();
            hash.update(&piece);
            true
        })
        .map_err(|source| ArchiveError::Read { path: self.path.clone(), source })?;
        let media_type = if magic == [0x1f, 0x8b] {
            "application/vnd.oci.image.layer.v1.tar+gzip"
        } else {
            "application/vnd.oci.image.layer.v1.tar"
        };
        Ok(Blob {
            media_type: media_type.to_owned(),
            digest: format!("sha256:{}", hex(&hash.finalize())),
            size,
        })
    }

    async fn import_layout(&self, store: &Store) -> Result<Vec<Arc<Image>>, ArchiveError> {
        let index = self.json("index.json")?;
        let mut images = Vec::new();
        for entry in index["manifests"].as_array().into_iter().flatten() {
            let digest = entry["digest"].as_str().unwrap_or_default();
            let annotation = |key: &str| entry["annotations"][key].as_str();
            let name = annotation("io.containerd.image.name")
                .or_else(|| annotation("org.opencontainers.image.ref.name"));
            let names = self.names(name.into_iter())?;
            if names.is_empty() {
                return Err(malformed(&self.path, format!("no name for {digest} in index.json")));
            }
            let bytes = self.import_tree(store, digest, 0).await?;
            let media_type =
                entry["mediaType"].as_str().unwrap_or("application/vnd.oci.image.manifest.v1+json");
            images.extend(store.finish(&names, media_type, &bytes).await?);
        }
        Ok(images)
    }

    /// Copies what is below a manifest or a list (this machine's part of it),
    /// and gives its bytes.
    async fn import_tree(&self, store: &Store, digest: &str, depth: u8) -> Result<Vec<u8>, ArchiveError> {
        let bytes = self.read(&member(digest))?;
        let document: Value = serde_json::from_slice(&bytes)
            .map_err(|error| malformed(&self.path, format!("{digest}: {error}")))?;
        if document["config"].is_object() {
            let layers = document["layers"].as_array().into_iter().flatten();
            for value in layers.chain(Some(&document["config"])) {
                let blob = Blob {
                    media_type: value["mediaType"].as_str().unwrap_or_default().to_owned(),
                    digest: value["digest"].as_str().unwrap_or_default().to_owned(),
                    size: value["size"].as_u64().unwrap_or_default(),
                };
                self.copy(store, &member(&blob.digest), &blob).await?;
            }
            return Ok(bytes);
        }
        let child = pick(&document)
            .filter(|_| depth < 4)
            .ok_or_else(|| malformed(&self.path, format!("no image for this machine in {digest}")))?;
        let child_bytes = Box::pin(self.import_tree(store, &child, depth + 1)).await?;
        let blob = Blob {
            media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
            digest: child,
            size: child_bytes.len() as u64,
        };
        store.write_document(&blob, &child_bytes).await?;
        Ok(bytes)
    }
}

fn member(digest: &str) -> String {
    format!("blobs/{}", digest.replacen(':', "/", 1))
}

fn descriptor(blob: &Blob) -> Value {
    json!({"mediaType": blob.media_type, "digest": blob.digest, "size": blob.size})
}

/// Reads part of a file in pieces until `take` has had enough.
fn read_pieces(
    path: &Path,
    offset: u64,
    size: u64,
    mut take: impl FnMut(Bytes) -> bool,
) -> std::io::Result<()> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut left = size;
    while left > 0 {
        let length = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        let mut piece = vec![0; length];
        file.read_exact(&mut piece)?;
        left -= length as u64;
        if !take(piece.into()) {
            return Ok(());
        }
    }
    Ok(())
}
