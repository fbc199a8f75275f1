//! What no cache follows, asked of the server when a loop wants to know it: the
//! sizes of objects of any kind, metrics. The answer wakes the key that asked.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use api::{Object, ObjectKey, Status};
use client::{Client, Target};
use daemon::Clock;
use jiff::Timestamp;
use parking_lot::Mutex;
use reconcile::wiring::Waker;

/// Answers older than this are forgotten.
const KEPT: Duration = Duration::from_secs(600);

/// The server's answer to a question: an object, or why there is none.
pub type Answer = Arc<Result<Object, Status>>;

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
    known: Mutex<HashMap<Target, Known>>,
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
        let now = self.clock.now();
        let is_older = |at: Timestamp, than: Duration| now.duration_since(at).unsigned_abs() > than;
        let mut known = self.known.lock();
        match known.get(place) {
            Some(Known::Answered { answer, at }) if !is_older(*at, fresh) => return Some(Arc::clone(answer)),
            Some(Known::Pending) => return None,
            _ => {}
        }
        known.retain(|_, one| !matches!(one, Known::Answered { at, .. } if is_older(*at, KEPT)));
        let client = self.client.clone()?;
        known.insert(place.clone(), Known::Pending);
        drop(known);
        let (this, place, key) = (Arc::clone(self), place.clone(), key.clone());
        daemon::tasks::spawn("answer", async move {
            let found = client.get_json(place.clone()).await;
            let answer = found.and_then(|found| Object::from_slice(&found.json).map_err(Status::internal));
            let at = this.clock.now();
            this.known.lock().insert(place, Known::Answered { answer: Arc::new(answer), at });
            if let Some(waker) = this.waker.get() {
                waker.wake(key);
            }
        });
        None
    }
}
