//! Tells people what happened to an object, as Kubernetes events: equal ones
//! are counted instead of repeated, and a noisy object is slowed down.

use std::collections::HashMap;
use std::sync::Arc;

use api::openapi::apimachinery::pkg::apis::meta::v1::Time;
use api::openapi::{Metadata, Resource};
use api::types::core::v1::{Event, EventSource, ObjectReference};
use api::{Reason, metav1};
use jiff::Timestamp;
use tokio::sync::mpsc;

use crate::verbs::{Client, Patch};

/// Events waiting to be sent; more are dropped, events are advice.
const QUEUE: usize = 1024;
/// Distinct events remembered for counting.
const REMEMBERED: usize = 4096;
/// Events about one object at once, and seconds until one more is allowed.
const BURST: f64 = 25.0;
const REFILL_SECONDS: f64 = 300.0;
/// Further events of an hour ago are not counted together with new ones.
const WINDOW_SECONDS: i64 = 3600;

/// Sends events in the background. Clones share the queue.
#[derive(Clone)]
pub struct Recorder {
    queue: mpsc::Sender<Note>,
    now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

struct Note {
    about: ObjectReference,
    kind: &'static str,
    reason: String,
    message: String,
    at: Timestamp,
}

/// The reference to an object that an event is about.
pub fn reference<K: Resource + Metadata<Ty = metav1::ObjectMeta>>(object: &K) -> ObjectReference {
    let metadata = object.metadata();
    ObjectReference {
        api_version: Some(K::API_VERSION.to_owned()),
        kind: Some(K::KIND.to_owned()),
        namespace: metadata.namespace.clone(),
        name: metadata.name.clone(),
        uid: metadata.uid.clone(),
        resource_version: metadata.resource_version.clone(),
        field_path: None,
    }
}

impl Recorder {
    /// A recorder that signs as `component`, on `host` where that matters.
    #[must_use]
    pub fn start(
        client: &Client,
        component: &str,
        host: Option<&str>,
        now: impl Fn() -> Timestamp + Send + Sync + 'static,
    ) -> Self {
        let (queue, notes) = mpsc::channel(QUEUE);
        let sender = Sender {
            client: client.clone(),
            source: EventSource { component: Some(component.to_owned()), host: host.map(str::to_owned) },
            sent: HashMap::new(),
            budgets: HashMap::new(),
        };
        crate::spawn_task(sender.run(notes));
        Self { queue, now: Arc::new(now) }
    }

    /// Something went as it should.
    pub fn normal(&self, about: ObjectReference, reason: &str, message: impl Into<String>) {
        self.note("Normal", about, reason, message.into());
    }

    /// Something needs attention.
    pub fn warning(&self, about: ObjectReference, reason: &str, message: impl Into<String>) {
        self.note("Warning", about, reason, message.into());
    }

    fn note(&self, kind: &'static str, about: ObjectReference, reason: &str, message: String) {
        let note = Note { about, kind, reason: reason.to_owned(), message, at: (self.now)() };
        if let Err(mpsc::error::TrySendError::Full(note)) = self.queue.try_send(note) {
            tracing::debug!(reason = note.reason, "too many events, one dropped");
        }
    }
}

#[derive(PartialEq, Eq, Hash)]
struct Identity {
    uid: Option<String>,
    object: (Option<String>, Option<String>, Option<String>),
    field: Option<String>,
    kind: &'static str,
    reason: String,
    message: String,
}

struct Sent {
    namespace: String,
    name: String,
    count: i32,
    last: Timestamp,
}

struct Budget {
    tokens: f64,
    at: Timestamp,
}

struct Sender {
    client: Client,
    source: EventSource,
    sent: HashMap<Identity, Sent>,
    budgets: HashMap<Option<String>, Budget>,
}

impl Sender {
    async fn run(mut self, mut notes: mpsc::Receiver<Note>) {
        while let Some(note) = notes.recv().await {
            if !self.may_send(&note) {
                continue;
            }
            if let Err(status) = self.send(note).await {
                tracing::debug!(error = %status, "an event was not recorded");
            }
        }
    }

    fn may_send(&mut self, note: &Note) -> bool {
        if self.budgets.len() > REMEMBERED {
            self.budgets.clear();
        }
        let budget =
            self.budgets.entry(note.about.uid.clone()).or_insert(Budget { tokens: BURST, at: note.at });
        let elapsed = note.at.duration_since(budget.at).as_secs_f64().max(0.0);
        budget.tokens = (budget.tokens + elapsed / REFILL_SECONDS).min(BURST);
        budget.at = note.at;
        if budget.tokens < 1.0 {
            return false;
        }
        budget.tokens -= 1.0;
        true
    }

    async fn send(&mut self, note: Note) -> Result<(), api::Status> {
        let identity = Identity {
            uid: note.about.uid.clone(),
            object: (note.about.kind.clone(), note.about.namespace.clone(), note.about.name.clone()),
            field: note.about.field_path.clone(),
            kind: note.kind,
            reason: note.reason.clone(),
            message: note.message.clone(),
        };
        if let Some(sent) = self.sent.get_mut(&identity)
            && note.at.as_second() - sent.last.as_second() < WINDOW_SECONDS
        {
            let patch = Patch::Merge(serde_json::json!({
                "count": sent.count + 1,
                "lastTimestamp": api::time::format(note.at),
            }));
            match self.client.patch::<Event>(&sent.namespace, &sent.name, &patch).await {
                Ok(_) => {
                    sent.count += 1;
                    sent.last = note.at;
                    return Ok(());
                }
                // It expired: write it anew.
                Err(status) if status.reason == Reason::NotFound => {}
                Err(status) => return Err(status),
            }
        }
        let event = self.event(&note);
        let created = self.client.create(&event).await?;
        if self.sent.len() > REMEMBERED {
            self.sent.clear();
        }
        let sent = Sent {
            namespace: created.metadata.namespace.unwrap_or_default(),
            name: created.metadata.name.unwrap_or_default(),
            count: 1,
            last: note.at,
        };
        self.sent.insert(identity, sent);
        Ok(())
    }

    fn event(&self, note: &Note) -> Event {
        let namespace = note.about.namespace.clone().filter(|one| !one.is_empty());
        let subject = note.about.name.clone().unwrap_or_default();
        let metadata = metav1::ObjectMeta {
            // Unique without asking: the subject and the time of the event.
            name: Some(format!("{subject}.{:x}", note.at.as_nanosecond())),
            namespace: Some(namespace.unwrap_or_else(|| "default".to_owned())),
            ..Default::default()
        };
        Event {
            metadata,
            involved_object: note.about.clone(),
            type_: Some(note.kind.to_owned()),
            reason: Some(note.reason.clone()),
            message: Some(note.message.chars().take(1024).collect()),
            source: Some(self.source.clone()),
            reporting_component: self.source.component.clone(),
            reporting_instance: self.source.host.clone(),
            count: Some(1),
            first_timestamp: Some(Time(note.at)),
            last_timestamp: Some(Time(note.at)),
            ..Default::default()
        }
    }
}
