//! Where events go, and when: while the request waits, or in batches behind it.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use daemon::tasks;
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::event::Event;
use super::file::LogFile;
use crate::remote::Remote;

/// How often a batch is sent at most, if the receiver refuses it.
const ATTEMPTS: u32 = 5;
/// How much longer each wait is than the one before.
const SLOWER: f64 = 1.5;
/// Batches that are sent at once.
const AT_ONCE: u32 = 15;
/// How long events get to be written at the end.
const FLUSH: Duration = Duration::from_secs(5);

/// When events are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Behind the request.
    Batch,
    /// While the request waits; whether it works does not matter to it.
    Blocking,
    /// And a request that cannot be recorded when it comes is refused.
    BlockingStrict,
}

impl std::str::FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "batch" => Ok(Self::Batch),
            "blocking" => Ok(Self::Blocking),
            "blocking-strict" => Ok(Self::BlockingStrict),
            other => Err(format!("{other:?} is none of batch, blocking, blocking-strict")),
        }
    }
}

/// How batches are made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Batching {
    /// Events that wait; further ones are dropped, and counted.
    pub(super) buffer: usize,
    /// Events in one batch.
    pub(super) most: usize,
    /// How long a batch waits to be full.
    pub(super) wait: Duration,
    /// Batches a second, on the average.
    pub(super) rate: Option<f64>,
}

/// What takes events.
pub(super) enum Target {
    /// A file; `true`: in the old format.
    File(Mutex<LogFile>, bool),
    /// A webhook, and the first wait before it is tried again.
    Webhook(Box<Remote>, Duration),
}

/// One backend.
pub(super) struct Sink {
    name: &'static str,
    mode: Mode,
    target: Target,
    /// The largest event, in bytes.
    largest: Option<usize>,
    queue: Option<mpsc::Sender<Message>>,
    /// Events that were lost.
    lost: Counter,
}

enum Message {
    Line(Bytes),
    Flush(oneshot::Sender<()>),
}

/// What became of an event.
pub(super) enum Taken {
    /// It is written, or will be; or `false`.
    Done(bool),
    /// It has to be sent first.
    Send(Bytes),
}

impl Sink {
    pub(super) fn new(
        name: &'static str,
        (mode, batching): (Mode, Batching),
        target: Target,
        largest: Option<usize>,
        lost: Counter,
    ) -> Arc<Self> {
        let (sender, receiver) = mpsc::channel(batching.buffer.max(1));
        let queue = (mode == Mode::Batch).then_some(sender);
        let sink = Arc::new(Self { name, mode, target, largest, queue, lost });
        if mode == Mode::Batch {
            let worker = Worker { sink: Arc::clone(&sink), batching, receiver };
            tasks::spawn("audit", worker.run());
        }
        sink
    }

    /// Whether a request that cannot be recorded is refused.
    pub(super) fn is_strict(&self) -> bool {
        self.mode == Mode::BlockingStrict
    }

    /// Takes an event.
    pub(super) fn take(&self, event: &Event) -> Taken {
        let Some(bytes) = self.encode(event) else {
            self.lose(1, &"it is too large");
            return Taken::Done(false);
        };
        match (&self.queue, &self.target) {
            (Some(queue), _) => {
                let is_taken = queue.try_send(Message::Line(bytes)).is_ok();
                if !is_taken {
                    self.lose(1, &"too many wait to be written");
                }
                Taken::Done(is_taken)
            }
            (None, Target::File(file, _)) => Taken::Done(self.write(file, &bytes, 1)),
            (None, Target::Webhook(..)) => Taken::Send(bytes),
        }
    }

    fn encode(&self, event: &Event) -> Option<Bytes> {
        match &self.target {
            Target::File(_, true) => Some(event.line().into()),
            Target::File(_, false) => {
                let mut line = BytesMut::from(event.encode(self.largest)?);
                line.put_u8(b'\n');
                Some(line.freeze())
            }
            Target::Webhook(..) => event.encode(self.largest),
        }
    }

    fn lose(&self, count: usize, why: &dyn std::fmt::Display) {
        self.lost.inc_by(count as u64);
        tracing::warn!(backend = self.name, count, %why, "audit events are lost");
    }

    fn write(&self, file: &Mutex<LogFile>, lines: &[u8], count: usize) -> bool {
        let written = file.lock().write(lines);
        if let Err(error) = &written {
            self.lose(count, error);
        }
        written.is_ok()
    }

    /// Sends events to the webhook, more than once if it must be.
    pub(super) async fn send(&self, events: &[Bytes]) -> bool {
        let Target::Webhook(remote, first) = &self.target else { return false };
        let list = list_of(events);
        let mut wait = *first;
        for attempt in 1..=ATTEMPTS {
            match remote.post(list.clone()).await {
                Ok(_) => return true,
                Err(error) if attempt == ATTEMPTS => {
                    self.lose(events.len(), &error);
                    return false;
                }
                Err(error) => {
                    tracing::debug!(backend = self.name, %error, attempt, "the audit webhook will be tried again");
                    tokio::time::sleep(wait.mul_f64(rand::random_range(1.0..1.2))).await;
                    wait = wait.mul_f64(SLOWER);
                }
            }
        }
        false
    }

    /// Waits until everything taken is written, but not for ever.
    pub(super) async fn flush(&self) {
        let Some(queue) = &self.queue else { return };
        let flushed = async {
            let (done, is_done) = oneshot::channel();
            if queue.send(Message::Flush(done)).await.is_ok() {
                // A worker that is gone has nothing left to write.
                let _ = is_done.await;
            }
        };
        if tokio::time::timeout(FLUSH, flushed).await.is_err() {
            tracing::warn!(backend = self.name, "audit events may not be written");
        }
    }
}

/// The list of events that a webhook is sent.
fn list_of(events: &[Bytes]) -> Bytes {
    let size: usize = events.iter().map(|event| event.len() + 1).sum();
    let mut list = BytesMut::with_capacity(size + 80);
    list.extend_from_slice(br#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":["#);
    for (index, event) in events.iter().enumerate() {
        if index > 0 {
            list.put_u8(b',');
        }
        list.extend_from_slice(event);
    }
    list.extend_from_slice(b"]}");
    list.freeze()
}

/// Makes batches of what waits.
struct Worker {
    sink: Arc<Sink>,
    batching: Batching,
    receiver: mpsc::Receiver<Message>,
}

impl Worker {
    async fn run(mut self) {
        let senders = Arc::new(Semaphore::new(AT_ONCE as usize));
        loop {
            let (batch, flushed) = self.next().await;
            let is_over = batch.is_empty() && flushed.is_none();
            if !batch.is_empty() {
                self.write(batch, &senders).await;
            }
            if let Some(flushed) = flushed {
                // All that is under way is done when nobody else sends.
                drop(senders.acquire_many(AT_ONCE).await);
                let _ = flushed.send(());
            } else if is_over {
                return;
            } else if let Some(rate) = self.batching.rate.filter(|rate| *rate > 0.0) {
                tokio::time::sleep(Duration::from_secs_f64(1.0 / rate)).await;
            }
        }
    }

    async fn next(&mut self) -> (Vec<Bytes>, Option<oneshot::Sender<()>>) {
        let mut batch = Vec::new();
        match self.receiver.recv().await {
            Some(Message::Line(line)) => batch.push(line),
            Some(Message::Flush(done)) => return (batch, Some(done)),
            None => return (batch, None),
        }
        let deadline = tokio::time::Instant::now() + self.batching.wait;
        while batch.len() < self.batching.most {
            match tokio::time::timeout_at(deadline, self.receiver.recv()).await {
                Ok(Some(Message::Line(line))) => batch.push(line),
                Ok(Some(Message::Flush(done))) => return (batch, Some(done)),
                Ok(None) | Err(_) => break,
            }
        }
        (batch, None)
    }

    async fn write(&self, batch: Vec<Bytes>, senders: &Arc<Semaphore>) {
        let sink = Arc::clone(&self.sink);
        match &self.sink.target {
            Target::File(..) => {
                let writing = tokio::task::spawn_blocking(move || {
                    if let Target::File(file, _) = &sink.target {
                        sink.write(file, &batch.concat(), batch.len());
                    }
                });
                if let Err(error) = writing.await {
                    tracing::error!(%error, "writing audit events broke off");
                }
            }
            Target::Webhook(..) => {
                // The semaphore is never closed.
                let Ok(permit) = Arc::clone(senders).acquire_owned().await else { return };
                tasks::spawn("audit-webhook", async move {
                    sink.send(&batch).await;
                    drop(permit);
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list() {
        let list = list_of(&[Bytes::from_static(b"{\"a\":1}"), Bytes::from_static(b"{}")]);
        let json: serde_json::Value = serde_json::from_slice(&list).expect("JSON");
        assert_eq!(
            (json["kind"].as_str(), json["items"].as_array().map(Vec::len)),
            (Some("EventList"), Some(2))
        );
    }

    #[test]
    fn modes() {
        assert_eq!("blocking-strict".parse(), Ok(Mode::BlockingStrict));
        assert!("strict".parse::<Mode>().is_err());
    }
}
