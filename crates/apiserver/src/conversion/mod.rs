//! Custom resources between the versions of their definition, where a webhook
//! converts them.
//!
//! What is in the wanted version already costs nothing; the others of a list are
//! sent together. Start reading in [`Converter::stored`].

mod remembered;
mod review;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use api::{Object, Status};
use parking_lot::Mutex;
use resources::Descriptor;
use serde::Deserialize;
use serde_json::Value;

use crate::connect::{Destination, Outward};
use crate::stored::{self, Stored};
use remembered::Remembered;

/// How long a call may take, as upstream.
const LIMIT: Duration = Duration::from_secs(30);
/// How many objects go in one call.
const BATCH: usize = 500;
/// The versions of the review that are spoken.
const REVIEWS: [&str; 2] = ["v1", "v1beta1"];

/// Converts objects.
pub struct Converter {
    outward: Arc<Outward>,
    remembered: Remembered,
    /// Where watchers of one kind and version wait for each other.
    turns: Mutex<HashMap<String, Arc<tokio::sync::Mutex<Turn>>>>,
}

/// What the last call of a turn came to.
#[derive(Default)]
struct Turn {
    calls: u64,
    failed: Option<Status>,
}

/// As much of an object as says which version it is in.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(rename = "apiVersion", borrow)]
    api_version: std::borrow::Cow<'a, str>,
}

/// How a kind's webhook is called.
struct Webhook {
    to: Destination,
    version: &'static str,
}

impl Webhook {
    fn read(of: &Value) -> Result<Self, String> {
        let version = of["conversionReviewVersions"].as_array().into_iter().flatten();
        let version = version.filter_map(|one| REVIEWS.into_iter().find(|known| one == known)).next();
        let version =
            version.ok_or("the webhook accepts no known ConversionReview versions (v1, v1beta1)")?;
        let to = Destination::read(&of["clientConfig"], "?timeout=30s")?;
        Ok(Self { to, version })
    }
}

fn is_in(object: &Stored, api_version: &str) -> bool {
    serde_json::from_slice::<Head<'_>>(&object.json).is_ok_and(|head| head.api_version == api_version)
}

fn key(object: &Stored, api_version: &str) -> remembered::Key {
    (object.uid().to_owned(), object.revision, api_version.to_owned())
}

impl Converter {
    /// A converter that reaches webhooks this way.
    #[must_use]
    pub fn new(outward: Arc<Outward>) -> Self {
        Self { outward, remembered: Remembered::default(), turns: Mutex::default() }
    }

    /// One object, in the wanted version.
    ///
    /// # Errors
    /// The webhook fails, or makes no sense.
    pub async fn object(&self, kind: &Descriptor, object: Object, wanted: &str) -> Result<Object, Status> {
        match &kind.conversion {
            Some(webhook) if object.api_version() != wanted => {
                let mut made = self.ask(kind, webhook, vec![object], wanted).await?;
                made.pop().ok_or_else(|| Status::internal("a conversion lost its object"))
            }
            _ => Ok(object),
        }
    }

    /// [`Converter::object`] for a caller that cannot wait: it holds a thread. `None`
    /// when the conversion fails, or where no thread is to be had.
    #[must_use]
    pub fn object_now(&self, kind: &Descriptor, object: Object, wanted: &str) -> Option<Object> {
        if kind.conversion.is_none() || object.api_version() == wanted {
            return Some(object);
        }
        let runtime = tokio::runtime::Handle::try_current().ok()?;
        if runtime.runtime_flavor() == tokio::runtime::RuntimeFlavor::CurrentThread {
            return None;
        }
        tokio::task::block_in_place(|| runtime.block_on(self.object(kind, object, wanted))).ok()
    }

    /// Stored objects in the kind's version.
    ///
    /// # Errors
    /// The webhook fails, or makes no sense.
    pub async fn stored(
        &self,
        kind: &Descriptor,
        mut objects: Vec<Arc<Stored>>,
    ) -> Result<Vec<Arc<Stored>>, Status> {
        let Some(webhook) = &kind.conversion else { return Ok(objects) };
        let wanted = kind.api_version();
        let mut others = Vec::new();
        for (at, object) in objects.iter_mut().enumerate().filter(|(_, object)| !is_in(object, &wanted)) {
            match self.remembered.get(&key(object, &wanted)) {
                Some(known) => *object = known,
                None => others.push(at),
            }
        }
        for batch in others.chunks(BATCH) {
            let decoded = batch.iter().map(|at| objects[*at].object().map_err(Status::internal));
            let made = self.ask(kind, webhook, decoded.collect::<Result<_, _>>()?, &wanted).await?;
            for (at, made) in batch.iter().zip(made) {
                let object = &mut objects[*at];
                let value = stored::encode(&made, &kind.strategy.selectable(&made));
                let converted = Stored::read(object.name().as_bytes(), &value, object.revision);
                let converted = converted.map_err(Status::internal)?;
                self.remembered.put(key(object, &wanted), Arc::clone(&converted));
                *object = converted;
            }
        }
        Ok(objects)
    }

    /// [`Converter::stored`] for watchers, of whom many want the same at once: one
    /// asks, and the others wait for what it gets.
    ///
    /// # Errors
    /// The webhook fails, or makes no sense.
    pub async fn shared(
        &self,
        kind: &Descriptor,
        objects: Vec<Arc<Stored>>,
    ) -> Result<Vec<Arc<Stored>>, Status> {
        if kind.conversion.is_none() {
            return Ok(objects);
        }
        let turn = {
            let mut turns = self.turns.lock();
            // Those of definitions that are gone.
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            Arc::clone(turns.entry(format!("{kind:?}")).or_default())
        };
        let before = turn.try_lock().map(|turn| turn.calls).ok();
        let mut turn = turn.lock().await;
        if before != Some(turn.calls)
            && let Some(failed) = &turn.failed
        {
            return Err(failed.clone());
        }
        let made = self.stored(kind, objects).await;
        turn.calls += 1;
        turn.failed = made.as_ref().err().cloned();
        made
    }

    async fn ask(
        &self,
        kind: &Descriptor,
        webhook: &Value,
        objects: Vec<Object>,
        wanted: &str,
    ) -> Result<Vec<Object>, Status> {
        let failed = |why: String| {
            let from = objects.first().map_or("", Object::api_version);
            Status::internal(format!("conversion webhook for {from}, Kind={} failed: {why}", kind.kind))
        };
        let webhook = Webhook::read(webhook).map_err(failed)?;
        let uid = uuid::Uuid::new_v4().to_string();
        let body = review::request(&uid, webhook.version, wanted, &objects);
        let answer = self.outward.post(&webhook.to, body, LIMIT).await.map_err(failed)?;
        review::answer(&answer, (&uid, webhook.version), wanted, &objects).map_err(failed)
    }
}
