//! A watch that heals: it lists, follows, resumes after a lost connection from
//! where it was, and lists again only when the server no longer has the past.

use std::time::Duration;

use api::{Reason, Status};
use bytes::Bytes;
use wire::objects::watch_event::Type;
use wire::objects::{Target, WatchRequest};

use crate::verbs::{Client, ListOptions, of_grpc};

/// What a healing watch reports, in order.
#[derive(Debug)]
pub enum Step {
    /// The complete state at a revision; what is not in it is gone.
    Listed {
        /// The JSON of every object.
        items: Vec<Bytes>,
        /// The revision of the list.
        revision: u64,
    },
    /// An object was added or changed.
    Applied {
        /// The object's JSON.
        json: Bytes,
        /// The revision of the change.
        revision: u64,
    },
    /// An object is gone, or no longer matches.
    Deleted {
        /// The object's last JSON.
        json: Bytes,
        /// The revision of the change.
        revision: u64,
    },
    /// Nothing relevant happened up to this revision.
    Progress {
        /// The revision.
        revision: u64,
    },
}

/// What is watched.
#[derive(Clone, Debug)]
pub struct Watched {
    /// The resource, and the namespace if one.
    pub target: Target,
    /// Query syntax.
    pub labels: String,
    /// Query syntax.
    pub fields: String,
}

const FIRST_DELAY: Duration = Duration::from_millis(50);
const LONGEST_DELAY: Duration = Duration::from_secs(5);

/// Follows until `take` returns `false`, reporting every step in order. Errors
/// are logged and retried for ever.
pub async fn follow(client: &Client, watched: &Watched, mut take: impl FnMut(Step) -> bool) {
    let mut revision = None;
    let mut delay = FIRST_DELAY;
    loop {
        let mut progressed = false;
        let outcome = {
            let mut noted = |step: Step| {
                progressed = true;
                take(step)
            };
            once(client, watched, &mut revision, &mut noted).await
        };
        if progressed {
            delay = FIRST_DELAY;
        }
        match outcome {
            Ok(Ended::ByUs) => return,
            Ok(Ended::ByServer) => {}
            Err(status) => {
                if matches!(status.reason, Reason::Expired | Reason::Gone) {
                    tracing::info!(resource = %watched.target.resource, "watch expired, listing again");
                    revision = None;
                } else {
                    tracing::warn!(
                        resource = %watched.target.resource, error = %status, retry_in = ?delay, "watch failed"
                    );
                }
                // Spread the herd: between half and all of the delay.
                tokio::time::sleep(delay.mul_f64(rand::random_range(0.5..1.0))).await;
                delay = (delay * 2).min(LONGEST_DELAY);
            }
        }
    }
}

enum Ended {
    ByUs,
    ByServer,
}

async fn once(
    client: &Client,
    watched: &Watched,
    revision: &mut Option<u64>,
    take: &mut impl FnMut(Step) -> bool,
) -> Result<Ended, Status> {
    let from = match *revision {
        Some(from) => from,
        None => {
            let options = ListOptions {
                namespace: watched.target.namespace.clone(),
                labels: watched.labels.clone(),
                fields: watched.fields.clone(),
                ..ListOptions::default()
            };
            let list = client.list_json(watched.target.clone(), &options).await?;
            *revision = Some(list.revision);
            if !take(Step::Listed { items: list.items, revision: list.revision }) {
                return Ok(Ended::ByUs);
            }
            list.revision
        }
    };
    let request = WatchRequest {
        target: Some(watched.target.clone()),
        label_selector: watched.labels.clone(),
        field_selector: watched.fields.clone(),
        resource_version: from.to_string(),
        allow_bookmarks: true,
        ..Default::default()
    };
    let mut batches = client.objects().watch(request).await.map_err(|status| of_grpc(&status))?.into_inner();
    while let Some(batch) = batches.message().await.map_err(|status| of_grpc(&status))? {
        for event in batch.events {
            let step = match event.r#type() {
                Type::Added | Type::Modified => Step::Applied { json: event.json, revision: event.revision },
                Type::Deleted => Step::Deleted { json: event.json, revision: event.revision },
                Type::Bookmark => Step::Progress { revision: event.revision },
                Type::Error | Type::Unspecified => return Err(failure(&event.json)),
            };
            *revision = Some(event.revision);
            if !take(step) {
                return Ok(Ended::ByUs);
            }
        }
    }
    Ok(Ended::ByServer)
}

/// What an event of type error says.
#[must_use]
pub fn failure(json: &[u8]) -> Status {
    let status = serde_json::from_slice(json).ok().as_ref().and_then(Status::from_json);
    status.unwrap_or_else(|| Status::internal("unreadable error in a watch"))
}
