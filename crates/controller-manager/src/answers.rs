//! What no cache follows, asked of the server when a loop wants to know it: the
//! sizes of objects of any kind, metrics. The answer wakes the key that asked.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use api::{ObjectKey, Reason, Status};
use client::{Client, ListOptions, Target};
use daemon::Clock;
use jiff::Timestamp;
use parking_lot::Mutex;
use reconcile::wiring::Waker;
use serde_json::{Value, json};

/// Answers older than this are forgotten.
const KEPT: Duration = Duration::from_secs(600);

/// The time that the server may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The server's answer to a question, as JSON, or why there is none.
pub type Answer = Arc<Result<Value, Status>>;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Question {
    /// An object.
    Get(Target),
    /// The objects of a collection that have labels.
    List(Target, String),
}

#[derive(Clone, Debug)]
enum Known {
    /// Asked, not answered.
    Pending,
    Answered {
        answer: Answer,
        at: Timestamp,
    },
}

/// The questions of one loop, and the answers.
pub struct Answers {
    client: Option<Client>,
    clock: Arc<dyn Clock>,
    waker: OnceLock<Waker>,
    known: Mutex<HashMap<Question, Known>>,
}

impl Answers {
    /// Nothing asked yet. Without a client nothing is ever answered.
    #[must_use]
    pub fn of(client: Option<Client>, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { client, clock, waker: OnceLock::new(), known: Mutex::default() })
    }

    /// Says what answers wake; the first to say so is heard.
    pub fn wake_with(&self, waker: Waker) {
        // A second loop on the same answers would be a mistake in the wiring.
        let _ = self.waker.set(waker);
    }

    /// What is at a place, if that is known not longer ago than `fresh`; otherwise it is asked,
    /// and the key is woken when the answer is there.
    pub fn get(self: &Arc<Self>, place: &Target, fresh: Duration, key: &ObjectKey) -> Option<Answer> {
        self.ask(Question::Get(place.clone()), fresh, key)
    }

    /// As [`Self::get`], the `items` of a collection.
    pub fn list(
        self: &Arc<Self>,
        place: &Target,
        labels: &str,
        fresh: Duration,
        key: &ObjectKey,
    ) -> Option<Answer> {
        self.ask(Question::List(place.clone(), labels.to_owned()), fresh, key)
    }

    fn ask(self: &Arc<Self>, question: Question, fresh: Duration, key: &ObjectKey) -> Option<Answer> {
        let now = self.clock.now();
        let is_older = |at: Timestamp, than: Duration| now.duration_since(at).unsigned_abs() > than;
        let mut known = self.known.lock();
        match known.get(&question) {
            Some(Known::Answered { answer, at }) if !is_older(*at, fresh) => return Some(Arc::clone(answer)),
            Some(Known::Pending) => return None,
            _ => {}
        }
        known.retain(|_, one| !matches!(one, Known::Answered { at, .. } if is_older(*at, KEPT)));
        let client = self.client.clone()?;
        known.insert(question.clone(), Known::Pending);
        drop(known);
        let (this, key) = (Arc::clone(self), key.clone());
        daemon::tasks::spawn("answer", async move {
            let found = tokio::time::timeout(PATIENCE, fetch(&client, &question)).await;
            let late =
                || Status::new(Reason::Timeout, format!("no answer in {} seconds", PATIENCE.as_secs()));
            let answer = found.unwrap_or_else(|_| Err(late()));
            let at = this.clock.now();
            this.known.lock().insert(question, Known::Answered { answer: Arc::new(answer), at });
            if let Some(waker) = this.waker.get() {
                waker.wake(key);
            }
        });
        None
    }
}

async fn fetch(client: &Client, question: &Question) -> Result<Value, Status> {
    let read = |json: &[u8]| serde_json::from_slice::<Value>(json).map_err(Status::internal);
    match question {
        Question::Get(place) => read(&client.get_json(place.clone()).await?.json),
        Question::List(place, labels) => {
            let options = ListOptions {
                namespace: place.namespace.clone(),
                labels: labels.clone(),
                ..ListOptions::default()
            };
            let list = client.list_json(place.clone(), &options).await?;
            let items = list.items.iter().map(|json| read(json)).collect::<Result<Vec<Value>, Status>>()?;
            Ok(json!({"items": items}))
        }
    }
}
