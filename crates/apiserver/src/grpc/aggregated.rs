//! Group versions that other servers answer: what is asked of them by gRPC is asked
//! on by REST, in the name of whoever asks.

use std::sync::Arc;

use api::{Reason, Status};
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt as _, stream};
use http::{HeaderMap, Method, Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use serde_json::Value;
use wire::objects as pb;

use crate::aggregation::{Aggregation, Remote};
use crate::authn::User;
use crate::gate::Target;
use crate::registry::FieldValidation;
use crate::rest::Answer;

/// The largest answer that is held at once, and the largest event.
const LARGEST: usize = 64 << 20;

/// The other servers.
pub(super) struct Others(Arc<Aggregation>);

/// A group version of another server, and who asks.
pub(super) struct Other<'a> {
    aggregation: &'a Aggregation,
    remote: Arc<Remote>,
    user: &'a User,
    target: &'a Target,
}

/// What goes with a question: its query and its body.
#[derive(Default)]
pub(super) struct With {
    query: String,
    accept: &'static str,
    content_type: &'static str,
    body: Bytes,
}

impl With {
    /// A question for objects in a form.
    pub(super) fn form(form: i32, is_list: bool) -> Self {
        let accept = match (pb::Form::try_from(form), is_list) {
            (Ok(pb::Form::Table), _) => "application/json;as=Table;v=v1;g=meta.k8s.io",
            (Ok(pb::Form::Metadata), true) => {
                "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
            }
            (Ok(pb::Form::Metadata), false) => "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
            _ => "application/json",
        };
        Self { accept, ..Self::body("", Bytes::new()) }
    }

    /// A question with a body.
    pub(super) fn body(content_type: &'static str, body: Bytes) -> Self {
        Self { query: String::new(), accept: "application/json", content_type, body }
    }

    /// With something in the query, unless it is empty.
    pub(super) fn and(mut self, name: &str, value: &str) -> Self {
        if !value.is_empty() {
            self.query.push(if self.query.is_empty() { '?' } else { '&' });
            self.query.push_str(name);
            self.query.push('=');
            self.query.extend(form_urlencoded::byte_serialize(value.as_bytes()));
        }
        self
    }

    /// With a flag in the query, if it is set.
    pub(super) fn flag(self, name: &str, value: bool) -> Self {
        self.and(name, if value { "true" } else { "" })
    }

    /// With what every write says.
    pub(super) fn writing(self, dry_run: bool, manager: &str, validation: FieldValidation) -> Self {
        let validation = match validation {
            FieldValidation::Ignore => "Ignore",
            FieldValidation::Warn => "Warn",
            FieldValidation::Strict => "Strict",
        };
        self.and("dryRun", if dry_run { "All" } else { "" })
            .and("fieldManager", manager)
            .and("fieldValidation", validation)
    }
}

impl Others {
    pub(super) const fn new(aggregation: Arc<Aggregation>) -> Self {
        Self(aggregation)
    }

    /// Whoever else answers for a target.
    pub(super) fn find<'a>(&'a self, user: &'a User, target: &'a Target) -> Option<Other<'a>> {
        if target.group.is_empty() {
            return None;
        }
        let remote = self.0.serving(&target.group, &target.version)?;
        Some(Other { aggregation: &self.0, remote, user, target })
    }

    /// Adds what others answer to the aggregated discovery document.
    pub(super) fn add_to(&self, document: &mut Value) {
        crate::rest::add_remotes(document, &self.0, &self.0.remotes());
    }
}

impl Other<'_> {
    async fn ask(&self, method: Method, path: &str, with: With) -> Result<Response<Answer>, Status> {
        let uri = format!("{path}{}", with.query);
        let mut request = Request::builder().method(method).uri(uri).header(header::ACCEPT, with.accept);
        if !with.content_type.is_empty() {
            request = request.header(header::CONTENT_TYPE, with.content_type);
        }
        let body = Full::new(with.body).map_err(|never| match never {}).boxed_unsync();
        let request = request.body(body).map_err(Status::internal)?;
        let answer = self.aggregation.forward(&self.remote, self.user, request).await?;
        let code = answer.status();
        if code.is_success() {
            return Ok(answer);
        }
        let text = collected(answer).await.unwrap_or_default();
        let told = serde_json::from_slice(&text).ok().and_then(|value| Status::from_json(&value));
        Err(told.unwrap_or_else(|| {
            let why = format!("{} answers {}", self.remote.name, code.as_u16());
            Status { code: code.as_u16(), ..Status::new(Reason::InternalError, why) }
        }))
    }

    /// Asks for one object, or what a write made of it.
    pub(super) async fn object(&self, method: Method, with: With) -> Result<pb::Object, Status> {
        let answer = self.ask(method, &path(self.target), with).await?;
        let warnings = warnings(answer.headers());
        let json = collected(answer).await?;
        let value: Value = serde_json::from_slice(&json).map_err(Status::internal)?;
        Ok(pb::Object { json, revision: revision(&value), warnings })
    }

    /// Asks for the document of the group version.
    pub(super) async fn document(&self) -> Result<pb::Object, Status> {
        let path = format!("/openapi/v3/apis/{}/{}", self.target.group, self.target.version);
        let answer = self.ask(Method::GET, &path, With::body("", Bytes::new())).await?;
        Ok(pb::Object { json: collected(answer).await?, ..pb::Object::default() })
    }

    /// Asks for a list; it is one page.
    pub(super) async fn list(&self, with: With) -> Result<pb::ListPage, Status> {
        let answer = self.ask(Method::GET, &path(self.target), with).await?;
        let json = collected(answer).await?;
        let list: Value = serde_json::from_slice(&json).map_err(Status::internal)?;
        Ok(page(json, list))
    }

    /// Asks for a watch.
    pub(super) async fn watch(
        &self,
        with: With,
    ) -> Result<impl Stream<Item = pb::WatchBatch> + Send + use<>, Status> {
        let answer = self.ask(Method::GET, &path(self.target), with.flag("watch", true)).await?;
        let pieces = answer.into_body().into_data_stream();
        Ok(stream::unfold((pieces, BytesMut::new()), |(mut pieces, mut held)| async {
            loop {
                let events = lines(&mut held);
                if !events.is_empty() {
                    return Some((pb::WatchBatch { events }, (pieces, held)));
                }
                let piece = pieces.next().await?.ok()?;
                if held.len() + piece.len() > LARGEST {
                    return None;
                }
                held.extend_from_slice(&piece);
            }
        }))
    }
}

fn path(target: &Target) -> String {
    let mut path = format!("/apis/{}/{}", target.group, target.version);
    let mut add = |text: &str| {
        path.push('/');
        path.extend(form_urlencoded::byte_serialize(text.as_bytes()).map(|part| part.replace('+', "%20")));
    };
    if !target.namespace.is_empty() {
        add("namespaces");
        add(&target.namespace);
    }
    for part in
        [&target.resource, &target.name, &target.subresource].into_iter().filter(|part| !part.is_empty())
    {
        add(part);
    }
    path
}

async fn collected(answer: Response<Answer>) -> Result<Bytes, Status> {
    let (mut body, mut held) = (answer.into_body(), BytesMut::new());
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(Status::internal)?.into_data() else { continue };
        if held.len() + data.len() > LARGEST {
            return Err(Status::internal("the answer is too large"));
        }
        held.extend_from_slice(&data);
    }
    Ok(held.freeze())
}

/// The texts of `Warning: 299 - "..."`.
fn warnings(headers: &HeaderMap) -> Vec<String> {
    let texts = headers.get_all(header::WARNING).iter().filter_map(|value| value.to_str().ok());
    let told =
        texts.filter_map(|text| Some(text.split_once('"')?.1.rsplit_once('"')?.0.replace("\\\"", "\"")));
    told.collect()
}

fn revision(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// A list as one page: a table whole, of others the items, each with its type.
fn page(json: Bytes, mut list: Value) -> pb::ListPage {
    let kind = list["kind"].as_str().unwrap_or_default().to_owned();
    let items = if kind == "Table" {
        vec![json]
    } else {
        let (kind, version) = (kind.trim_end_matches("List").to_owned(), list["apiVersion"].clone());
        let items = list["items"].as_array_mut().map(std::mem::take).unwrap_or_default();
        let typed = |mut item: Value| {
            if item["kind"].is_null() {
                item["kind"] = kind.as_str().into();
                item["apiVersion"] = version.clone();
            }
            Bytes::from(item.to_string())
        };
        items.into_iter().map(typed).collect()
    };
    pb::ListPage {
        items,
        revision: revision(&list),
        continue_token: list["metadata"]["continue"].as_str().unwrap_or_default().to_owned(),
        remaining: list["metadata"]["remainingItemCount"].as_i64(),
    }
}

/// Takes whole lines, each an event.
fn lines(held: &mut BytesMut) -> Vec<pb::WatchEvent> {
    use pb::watch_event::Type;
    let mut events = Vec::new();
    while let Some(end) = held.iter().position(|byte| *byte == b'\n') {
        let line = held.split_to(end + 1);
        let Ok(event) = serde_json::from_slice::<Value>(&line) else { continue };
        let kind = match event["type"].as_str() {
            Some("ADDED") => Type::Added,
            Some("MODIFIED") => Type::Modified,
            Some("DELETED") => Type::Deleted,
            Some("BOOKMARK") => Type::Bookmark,
            _ => Type::Error,
        };
        let object = &event["object"];
        let (json, revision) = (Bytes::from(object.to_string()), revision(object));
        events.push(pb::WatchEvent { r#type: kind.into(), json, revision });
    }
    events
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths() {
        let target = Target {
            group: "x.io".to_owned(),
            version: "v1".to_owned(),
            resource: "things".to_owned(),
            namespace: "n".to_owned(),
            name: "a b/c".to_owned(),
            subresource: "status".to_owned(),
        };
        assert_eq!(path(&target), "/apis/x.io/v1/namespaces/n/things/a%20b%2Fc/status");
    }

    #[test]
    fn lists_are_pages() {
        let list = json!({
            "kind": "ThingList", "apiVersion": "x.io/v1", "metadata": {"resourceVersion": "7", "continue": "c"},
            "items": [{"metadata": {"name": "a"}}],
        });
        let found = page(Bytes::new(), list);
        assert_eq!((found.revision, found.continue_token.as_str()), (7, "c"));
        let item: Value = serde_json::from_slice(&found.items[0]).expect("JSON");
        assert_eq!(item, json!({"kind": "Thing", "apiVersion": "x.io/v1", "metadata": {"name": "a"}}));
        let table = Bytes::from_static(b"{}");
        assert_eq!(page(table.clone(), json!({"kind": "Table"})).items, [table]);
    }

    #[test]
    fn events_come_in_lines() {
        let mut held = BytesMut::from(
            &b"{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"resourceVersion\":\"3\"}}}\n{\"type\":\"DEL"[..],
        );
        let events = lines(&mut held);
        assert_eq!(events.len(), 1);
        assert_eq!((events[0].r#type(), events[0].revision), (pb::watch_event::Type::Added, 3));
        held.extend_from_slice(b"ETED\",\"object\":{}}\n");
        assert_eq!(lines(&mut held)[0].r#type(), pb::watch_event::Type::Deleted);
        assert!(held.is_empty());
    }

    #[test]
    fn what_servers_warn_of() {
        let mut headers = HeaderMap::new();
        headers.insert(header::WARNING, header::HeaderValue::from_static("299 - \"a \\\"b\\\"\""));
        assert_eq!(warnings(&headers), ["a \"b\""]);
    }
}
