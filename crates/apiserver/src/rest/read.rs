//! GET: one object, a list, a watch.

use std::sync::Arc;
use std::time::Duration;

use api::Status;
use bytes::{BufMut as _, Bytes, BytesMut};
use futures::stream;
use http::Response;
use resources::Descriptor;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::answer::{Answer, encoded, streamed};
use super::negotiate::{Accept, Shape};
use super::{Asked, Rest};
use crate::cache::ChangeKind;
use crate::gate::{Shown, Target};
use crate::registry::{IncludeObject, Listed, Tables, Watch, WatchBatch, partial_metadata};
use crate::stored::Stored;

/// Pieces of a long list on the wire.
const PIECE: usize = 64 << 10;
/// Time between bookmarks.
const BOOKMARK: Duration = Duration::from_secs(60);
/// How long a watch lives where the client does not say; spread, so that a
/// restart's herd of watches does not come back at once.
const WATCH_SECONDS: std::ops::Range<u64> = 1800..3600;
/// A watcher gets changes at most this often; what comes between goes together.
const GATHER: Duration = Duration::from_millis(5);

impl Rest {
    pub(super) async fn read(&self, asked: Asked, target: Target) -> Result<Response<Answer>, Status> {
        if target.name.is_empty() {
            if asked.query.flag("watch") {
                return self.watch(asked, target).await;
            }
            let (kind, listed) = self.gate.list(&asked.user, &target, &asked.query.list()?).await?;
            return self.show_list(&asked, &kind, listed);
        }
        let version = asked.query.get("resourceVersion").unwrap_or_default();
        let (kind, shown) = self.gate.get(&asked.user, &target, version).await?;
        let bytes = match (&shown, asked.accept.shape) {
            (Shown::Stored(stored), Shape::Table) => {
                let metadata = json!({"resourceVersion": stored.revision.to_string()});
                self.tables(&asked, &kind).table([&**stored], metadata, true)?
            }
            (Shown::Stored(stored), Shape::Metadata) => partial_metadata(stored)?,
            (Shown::Stored(stored), _) => self.gate.registry().present(&kind, stored)?,
            (Shown::Made(bytes), _) => bytes.clone(),
        };
        Ok(encoded(200, &asked.accept, bytes))
    }

    fn tables<'a>(&self, asked: &Asked, kind: &'a Descriptor) -> Tables<'a> {
        let include = include_object(asked);
        Tables { kind, now: self.gate.registry().clock().now(), include }
    }

    fn show_list(
        &self,
        asked: &Asked,
        kind: &Arc<Descriptor>,
        listed: Listed,
    ) -> Result<Response<Answer>, Status> {
        let metadata = list_metadata(&listed);
        if asked.accept.shape == Shape::Table {
            let objects = listed.objects.iter().map(|object| &**object);
            return Ok(encoded(200, &asked.accept, self.tables(asked, kind).table(objects, metadata, true)?));
        }
        let (list_kind, api_version) = if asked.accept.shape == Shape::Metadata {
            ("PartialObjectMetadataList".to_owned(), "meta.k8s.io/v1".to_owned())
        } else {
            (format!("{}List", kind.kind), kind.api_version())
        };
        let head = format!(
            "{{\"kind\":{},\"apiVersion\":{},\"metadata\":{metadata},\"items\":[",
            Value::from(list_kind),
            Value::from(api_version)
        );
        let plain = asked.accept.shape == Shape::Object && !kind.strategy.converts();
        if plain && asked.accept.media == crate::registry::MediaType::Json && !asked.accept.gzip {
            return Ok(streamed(stream::iter(pieces_of(head, listed.objects))));
        }
        let mut all = BytesMut::from(head.as_bytes());
        for (index, object) in listed.objects.iter().enumerate() {
            if index > 0 {
                all.put_u8(b',');
            }
            let item = if asked.accept.shape == Shape::Metadata {
                partial_metadata(object)?
            } else {
                self.gate.registry().present(kind, object)?
            };
            all.extend_from_slice(&item);
        }
        all.extend_from_slice(b"]}\n");
        Ok(encoded(200, &asked.accept, all.freeze()))
    }

    async fn watch(&self, asked: Asked, target: Target) -> Result<Response<Answer>, Status> {
        let (kind, watch) = self.gate.watch(&asked.user, &target, &asked.query.watch()?).await?;
        let seconds = match asked.query.number("timeoutSeconds")? {
            Some(seconds) if seconds > 0 => seconds.unsigned_abs(),
            _ => rand::random_range(WATCH_SECONDS),
        };
        let include = include_object(&asked);
        let stream = WatchFrames {
            watch,
            kind,
            accept: asked.accept,
            include,
            bookmarks: asked.query.flag("allowWatchBookmarks"),
            ends: Instant::now() + Duration::from_secs(seconds),
            next_bookmark: Instant::now() + BOOKMARK,
            delivered: None,
            headings: true,
            gate: Arc::clone(&self.gate),
            shutdown: self.shutdown.clone(),
        };
        Ok(streamed(stream::unfold(Some(stream), |state| async {
            let mut state = state?;
            match state.next().await {
                Some(Ok(bytes)) => Some((bytes, Some(state))),
                Some(Err(status)) => Some((frame("ERROR", &status.to_bytes()), None)),
                None => None,
            }
        })))
    }
}

/// How much of each object the client wants in a table.
fn include_object(asked: &Asked) -> IncludeObject {
    match asked.query.get("includeObject") {
        Some("None") => IncludeObject::None,
        Some("Object") => IncludeObject::Object,
        _ => IncludeObject::Metadata,
    }
}

fn list_metadata(listed: &Listed) -> Value {
    let mut metadata = Map::new();
    metadata.insert("resourceVersion".into(), listed.revision.to_string().into());
    if !listed.continue_token.is_empty() {
        metadata.insert("continue".into(), listed.continue_token.as_str().into());
        if let Some(remaining) = listed.remaining {
            metadata.insert("remainingItemCount".into(), remaining.into());
        }
    }
    Value::Object(metadata)
}

/// The list as pieces of about [`PIECE`] bytes, made as the client takes them.
fn pieces_of(head: String, objects: Vec<Arc<Stored>>) -> impl Iterator<Item = Bytes> + Send {
    let mut objects = objects.into_iter().enumerate().peekable();
    let mut head = Some(head);
    let mut done = false;
    std::iter::from_fn(move || {
        if done {
            return None;
        }
        let mut piece = BytesMut::with_capacity(PIECE + 4096);
        if let Some(head) = head.take() {
            piece.extend_from_slice(head.as_bytes());
        }
        while piece.len() < PIECE {
            let Some((index, object)) = objects.next() else {
                piece.extend_from_slice(b"]}\n");
                done = true;
                break;
            };
            if index > 0 {
                piece.put_u8(b',');
            }
            piece.extend_from_slice(&object.json);
        }
        Some(piece.freeze())
    })
}

fn frame(kind: &str, object: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(object.len() + 40);
    put_frame(&mut out, kind, object);
    out.freeze()
}

fn put_frame(out: &mut BytesMut, kind: &str, object: &[u8]) {
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(b"\",\"object\":");
    out.extend_from_slice(object);
    out.extend_from_slice(b"}\n");
}

/// A watch as the frames that a client reads.
struct WatchFrames {
    watch: Watch,
    kind: Arc<Descriptor>,
    accept: Accept,
    include: IncludeObject,
    bookmarks: bool,
    ends: Instant,
    next_bookmark: Instant,
    /// When the last changes went out.
    delivered: Option<Instant>,
    /// Whether the next table needs its headings.
    headings: bool,
    gate: Arc<crate::gate::Gate>,
    shutdown: daemon::Shutdown,
}

impl WatchFrames {
    async fn next(&mut self) -> Option<Result<Bytes, Status>> {
        if let Some(at) = self.delivered {
            tokio::time::sleep_until(at + GATHER).await;
        }
        let until = if self.bookmarks { self.ends.min(self.next_bookmark) } else { self.ends };
        tokio::select! {
            batch = self.watch.next() => {
                self.delivered = Some(Instant::now());
                Some(batch.and_then(|batch| self.frames(&batch)))
            }
            () = self.shutdown.begun() => None,
            () = tokio::time::sleep_until(until) => {
                let now = Instant::now();
                if now >= self.ends {
                    return None;
                }
                self.next_bookmark = now + BOOKMARK;
                let revision = self.watch.progress();
                Some(Ok(frame("BOOKMARK", self.bookmark(revision, false).to_string().as_bytes())))
            }
        }
    }

    fn frames(&mut self, batch: &WatchBatch) -> Result<Bytes, Status> {
        let size: usize = batch.items.iter().map(|item| item.object.json.len() + 40).sum();
        let mut out = BytesMut::with_capacity(size);
        for item in &batch.items {
            let kind = match item.kind {
                ChangeKind::Added => "ADDED",
                ChangeKind::Modified => "MODIFIED",
                ChangeKind::Deleted => "DELETED",
            };
            match self.accept.shape {
                Shape::Table => {
                    let tables = Tables {
                        kind: &self.kind,
                        now: self.gate.registry().clock().now(),
                        include: self.include,
                    };
                    let metadata = json!({"resourceVersion": item.object.revision.to_string()});
                    let headings = std::mem::take(&mut self.headings);
                    put_frame(&mut out, kind, &tables.table([&*item.object], metadata, headings)?);
                }
                Shape::Metadata => put_frame(&mut out, kind, &partial_metadata(&item.object)?),
                _ => put_frame(&mut out, kind, &self.gate.registry().present(&self.kind, &item.object)?),
            }
        }
        if batch.initial_end {
            put_frame(&mut out, "BOOKMARK", self.bookmark(batch.revision, true).to_string().as_bytes());
        }
        Ok(out.freeze())
    }

    fn bookmark(&self, revision: u64, initial_end: bool) -> Value {
        let mut metadata = json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
        if initial_end {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        match self.accept.shape {
            Shape::Table => json!({
                "kind": "Table", "apiVersion": "meta.k8s.io/v1", "columnDefinitions": null,
                "metadata": {"resourceVersion": revision.to_string()},
                "rows": [{"cells": [], "object": {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata}}],
            }),
            Shape::Metadata => {
                json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata})
            }
            _ => json!({"kind": self.kind.kind, "apiVersion": self.kind.api_version(), "metadata": metadata}),
        }
    }
}
