//! GET: one object, a list, a watch.

use std::sync::Arc;
use std::time::Duration;

use api::Status;
use bytes::{BufMut as _, Bytes, BytesMut};
use futures::stream;
use http::Response;
use resources::Descriptor;
use serde_json::{Map, Value};

use super::answer::{Answer, encoded, full, respond, streamed};
use super::protobuf;
use super::{Asked, Rest};
use crate::cache::ChangeKind;
use crate::gate::{Gate, Shown, Target};
use crate::registry::{Beat, Listed, MediaType, PacedWatch, View, WatchBatch};
use crate::stored::Stored;

const JSON: &str = "application/json";
/// Pieces of a long list on the wire.
const PIECE: usize = 64 << 10;
/// How long a watch lives where the client does not say; spread, so that a
/// restart's herd of watches does not come back at once.
const WATCH_SECONDS: std::ops::Range<u64> = 1800..3600;

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
        if let (MediaType::Protobuf, Shown::Stored(stored)) = (asked.accept.media, &shown) {
            let mut view = View::new(kind, asked.shape());
            let sealed = protobuf::of_stored(&mut view, self.gate.registry(), stored)?;
            return Ok(respond(200, protobuf::MEDIA_TYPE, full(sealed.bytes)));
        }
        let bytes = match &shown {
            Shown::Stored(stored) => View::new(kind, asked.shape()).object(self.gate.registry(), stored)?,
            Shown::Made(bytes) => bytes.clone(),
        };
        Ok(encoded(200, &asked.accept, bytes))
    }

    fn show_list(
        &self,
        asked: &Asked,
        kind: &Arc<Descriptor>,
        listed: Listed,
    ) -> Result<Response<Answer>, Status> {
        let metadata = list_metadata(&listed);
        let registry = self.gate.registry();
        let mut view = View::new(Arc::clone(kind), asked.shape());
        if let Some(table) = view.table(registry, &listed, metadata.clone()) {
            return Ok(encoded(200, &asked.accept, table?));
        }
        let (list_kind, api_version) = view.list_kind();
        if asked.accept.media == MediaType::Protobuf {
            let sealed = listed.objects.iter().map(|one| protobuf::of_stored(&mut view, registry, one));
            let sealed: Vec<_> = sealed.collect::<Result<_, _>>()?;
            let pieces = protobuf::list((&list_kind, &api_version), &metadata, &sealed)?;
            return Ok(streamed(protobuf::MEDIA_TYPE, stream::iter(joined(pieces))));
        }
        let head = format!(
            "{{\"kind\":{},\"apiVersion\":{},\"metadata\":{metadata},\"items\":[",
            Value::from(list_kind),
            Value::from(api_version)
        );
        if view.is_plain() && asked.accept.media == MediaType::Json && !asked.accept.gzip {
            return Ok(streamed(JSON, stream::iter(pieces_of(head, listed.objects))));
        }
        let mut all = BytesMut::from(head.as_bytes());
        for (index, object) in listed.objects.iter().enumerate() {
            if index > 0 {
                all.put_u8(b',');
            }
            all.extend_from_slice(&view.object(registry, object)?);
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
        let bookmarks = asked.query.flag("allowWatchBookmarks");
        let lifetime = Duration::from_secs(seconds);
        let stream = WatchFrames {
            watch: PacedWatch::new(watch, bookmarks, Some(lifetime), self.shutdown.clone()),
            view: View::new(kind, asked.shape()),
            gate: Arc::clone(&self.gate),
            media: asked.accept.media,
        };
        let content_type = if asked.accept.media == MediaType::Protobuf { protobuf::STREAM } else { JSON };
        Ok(streamed(
            content_type,
            stream::unfold(Some(stream), |state| async {
                let mut state = state?;
                match state.next().await {
                    Some(Ok(bytes)) => Some((bytes, Some(state))),
                    Some(Err(status)) => Some((state.frame("ERROR", status.to_bytes().into()), None)),
                    None => None,
                }
            }),
        ))
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

/// Small pieces put together, so that the wire gets fewer of them.
fn joined(pieces: Vec<Bytes>) -> impl Iterator<Item = Bytes> + Send {
    let mut pieces = pieces.into_iter();
    std::iter::from_fn(move || {
        let mut joined = BytesMut::from(&pieces.next()?[..]);
        while joined.len() < PIECE {
            let Some(piece) = pieces.next() else { break };
            joined.extend_from_slice(&piece);
        }
        Some(joined.freeze())
    })
}

fn put_frame(out: &mut Vec<u8>, kind: &str, object: &[u8]) {
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(b"\",\"object\":");
    out.extend_from_slice(object);
    out.extend_from_slice(b"}\n");
}

/// A watch as the frames that a client reads.
struct WatchFrames {
    watch: PacedWatch,
    view: View,
    gate: Arc<Gate>,
    media: MediaType,
}

impl WatchFrames {
    async fn next(&mut self) -> Option<Result<Bytes, Status>> {
        Some(match self.watch.next().await? {
            Ok(Beat::Changes(batch)) => self.frames(&batch),
            Ok(Beat::Bookmark(revision)) => Ok(self.frame("BOOKMARK", self.view.bookmark(revision, false))),
            Err(status) => Err(status),
        })
    }

    fn frames(&mut self, batch: &WatchBatch) -> Result<Bytes, Status> {
        let size: usize = batch.items.iter().map(|item| item.object.json.len() + 40).sum();
        let mut out = Vec::with_capacity(size);
        for item in &batch.items {
            let kind = match item.kind {
                ChangeKind::Added => "ADDED",
                ChangeKind::Modified => "MODIFIED",
                ChangeKind::Deleted => "DELETED",
            };
            let registry = self.gate.registry();
            if self.media == MediaType::Protobuf {
                let sealed = protobuf::of_stored(&mut self.view, registry, &item.object)?;
                protobuf::put_frame(&mut out, kind, &sealed);
            } else {
                put_frame(&mut out, kind, &self.view.object(registry, &item.object)?);
            }
        }
        if batch.initial_end {
            self.put(&mut out, "BOOKMARK", &self.view.bookmark(batch.revision, true));
        }
        Ok(out.into())
    }

    fn frame(&self, kind: &str, object: Bytes) -> Bytes {
        let mut out = Vec::with_capacity(object.len() + 40);
        self.put(&mut out, kind, &object);
        out.into()
    }

    /// Puts an object that is not stored.
    fn put(&self, out: &mut Vec<u8>, kind: &str, object: &Bytes) {
        if self.media != MediaType::Protobuf {
            return put_frame(out, kind, object);
        }
        match protobuf::sealed(object) {
            Ok(sealed) => protobuf::put_frame(out, kind, &sealed),
            Err(error) => tracing::error!(%error, "an event of a watch has no protobuf encoding"),
        }
    }
}
