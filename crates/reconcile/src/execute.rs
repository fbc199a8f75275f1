//! Carries plans out against the server.

use std::time::Duration;

use api::{Object, Reason, Status};
use client::{Client, DeleteOptions, ListOptions, Recorder, WriteOptions};
use futures::StreamExt as _;
use futures::future::BoxFuture;

use crate::Failure;
use crate::action::{Action, Announcement, Guard, Note, Tone};
use crate::wiring::ResourceName;

/// Requests of one plan under way at once.
const AT_ONCE: usize = 16;
/// The time that a request may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// How a plan fared.
pub(crate) enum Outcome {
    /// All was done.
    Done,
    /// The world was not as planned for: plan again.
    Again(String),
    /// The server refused.
    Failed(Failure),
}

/// What a plan wrote, and how it ended.
pub(crate) struct Executed {
    pub(crate) written: Vec<(ResourceName, u64)>,
    pub(crate) outcome: Outcome,
}

type Acted<'a> = (&'a Action, Result<Option<(ResourceName, u64)>, Status>);

/// The way to the server.
#[derive(Clone)]
pub(crate) struct Executor {
    pub(crate) client: Client,
    pub(crate) recorder: Recorder,
}

impl Executor {
    pub(crate) async fn carry_out(&self, actions: &[Action]) -> Executed {
        let mut executed = Executed { written: Vec::new(), outcome: Outcome::Done };
        for group in actions.chunk_by(Action::runs_beside) {
            let requests: Vec<BoxFuture<'_, Acted<'_>>> =
                group.iter().map(|action| self.act_in_time(action)).collect();
            let mut results = futures::stream::iter(requests).buffer_unordered(AT_ONCE);
            while let Some((action, result)) = results.next().await {
                let outcome = match result {
                    Ok(Some(written)) => {
                        executed.written.push(written);
                        continue;
                    }
                    Ok(None) => continue,
                    Err(status) => judge(action, &status),
                };
                let settled = matches!(executed.outcome, Outcome::Failed(_));
                if !settled {
                    executed.outcome = outcome;
                }
                if group.len() > AT_ONCE {
                    // What is under way is given up; its outcome shows in the caches.
                    break;
                }
            }
            if !matches!(executed.outcome, Outcome::Done) {
                break;
            }
        }
        executed
    }

    fn act_in_time<'a>(&'a self, action: &'a Action) -> BoxFuture<'a, Acted<'a>> {
        Box::pin(async move {
            let result = tokio::time::timeout(PATIENCE, self.act(action)).await;
            let late =
                || Status::new(Reason::Timeout, format!("no answer in {} seconds", PATIENCE.as_secs()));
            (action, result.unwrap_or_else(|_| Err(late())))
        })
    }

    async fn act(&self, action: &Action) -> Result<Option<(ResourceName, u64)>, Status> {
        let options = WriteOptions::default();
        let result = match action {
            Action::Create { target, object, announce } => {
                let json = object.to_string().into_bytes();
                let result = self.client.create_json(target.clone(), json.into(), &options).await;
                self.announce(announce.as_ref(), result.as_ref().map(|created| name_in(&created.json)));
                result
            }
            Action::Update { target, object } => {
                let json = object.to_string().into_bytes();
                self.client.update_json(target.clone(), json.into(), &options).await
            }
            Action::Complete { target, object, by } => {
                let json = by.complete(object.clone()).map_err(Status::internal)?.to_string().into_bytes();
                self.client.update_json(target.clone(), json.into(), &options).await
            }
            Action::Patch { target, patch } => self.client.patch_json(target.clone(), patch, &options).await,
            Action::Delete { target, options, announce } => {
                let result = self.client.delete_json(target.clone(), options).await;
                if matches!(&result, Err(status) if status.reason == Reason::NotFound) {
                    return Ok(None);
                }
                self.announce(announce.as_ref(), result.as_ref().map(|_| target.name.clone()));
                result
            }
            Action::DeleteCollection { target } => {
                let options = DeleteOptions::default();
                let deleted = self.client.delete_collection_json(target.clone(), "", "", &options).await;
                return deleted.map(|_| None);
            }
            Action::Require(guard) => return self.check(guard).await.map(|()| None),
            Action::Event(note) => {
                record(&self.recorder, note.clone());
                return Ok(None);
            }
        };
        let written = result?;
        Ok(action.target().map(|target| ((target.group.clone(), target.resource.clone()), written.revision)))
    }

    async fn check(&self, guard: &Guard) -> Result<(), Status> {
        match guard {
            Guard::Absent { target, uid } => match self.client.get_json(target.clone()).await {
                Err(status) if status.reason == Reason::NotFound => Ok(()),
                Err(status) => Err(status),
                Ok(found) => {
                    let object = Object::from_slice(&found.json).map_err(Status::internal)?;
                    if uid.is_empty() || object.uid() == uid {
                        return Err(Status::new(Reason::Conflict, format!("{} still exists", target.name)));
                    }
                    Ok(())
                }
            },
            Guard::Empty(targets) => {
                for target in targets {
                    let options = ListOptions {
                        namespace: target.namespace.clone(),
                        limit: 1,
                        ..ListOptions::default()
                    };
                    let list = match self.client.list_json(target.clone(), &options).await {
                        Ok(list) => list,
                        // A resource that is no longer served holds nothing.
                        Err(status) if status.reason == Reason::NotFound => continue,
                        Err(status) => return Err(status),
                    };
                    if !list.items.is_empty() {
                        let why = format!("{} remain in {:?}", target.resource, target.namespace);
                        return Err(Status::new(Reason::Conflict, why));
                    }
                }
                Ok(())
            }
            Guard::NoneOf { target, search } => {
                let options = ListOptions { namespace: target.namespace.clone(), ..ListOptions::default() };
                let list = match self.client.list_json(target.clone(), &options).await {
                    Ok(list) => list,
                    // A resource that is no longer served has no objects.
                    Err(status) if status.reason == Reason::NotFound => return Ok(()),
                    Err(status) => return Err(status),
                };
                for json in &list.items {
                    let object = Object::from_slice(json).map_err(Status::internal)?;
                    if search.finds(&object) {
                        let why = format!("{} {:?} is in the way", target.resource, object.name());
                        return Err(Status::new(Reason::Conflict, why));
                    }
                }
                Ok(())
            }
            Guard::Allowed { target, reviews } => {
                for review in reviews {
                    let json = review.to_string().into_bytes();
                    let options = WriteOptions::default();
                    let answer = self.client.create_json(target.clone(), json.into(), &options).await?;
                    let answer = Object::from_slice(&answer.json).map_err(Status::internal)?;
                    if answer.at(&["status", "allowed"]).and_then(serde_json::Value::as_bool) == Some(true) {
                        return Ok(());
                    }
                }
                Err(Status::new(Reason::Conflict, "every access review says no"))
            }
        }
    }

    fn announce(&self, announcement: Option<&Announcement>, result: Result<String, &Status>) {
        let Some(announcement) = announcement else { return };
        if let Some(note) = announcement.note(result) {
            record(&self.recorder, note);
        }
    }
}

impl Announcement {
    /// The event after an outcome: the object's name, or the refusal.
    #[must_use]
    pub fn note(&self, result: Result<String, &Status>) -> Option<Note> {
        let (tone, reason, message) = match result {
            Ok(name) => {
                let (reason, text) = self.success.as_ref()?;
                (Tone::Normal, reason, text.replace("{name}", &name))
            }
            Err(status) if namespace_ends(status) || status.reason == Reason::Conflict => return None,
            Err(status) => {
                let (reason, text) = self.failure.as_ref()?;
                (Tone::Warning, reason, text.replace("{error}", &status.to_string()))
            }
        };
        Some(Note { about: self.about.clone(), tone, reason: (*reason).to_owned(), message })
    }
}

fn name_in(json: &[u8]) -> String {
    Object::from_slice(json).map(|object| object.name().to_owned()).unwrap_or_default()
}

fn record(recorder: &Recorder, note: Note) {
    match note.tone {
        Tone::Normal => recorder.normal(note.about, &note.reason, note.message),
        Tone::Warning => recorder.warning(note.about, &note.reason, note.message),
    }
}

/// Whether a create was refused because its namespace is being deleted.
fn namespace_ends(status: &Status) -> bool {
    let causes = status.details.as_ref().map(|details| details.causes.as_slice()).unwrap_or_default();
    causes.iter().any(|cause| cause.reason == "NamespaceTerminating")
}

fn judge(action: &Action, status: &Status) -> Outcome {
    let stale = matches!(status.reason, Reason::Conflict | Reason::NotFound | Reason::AlreadyExists);
    if stale || namespace_ends(status) {
        return Outcome::Again(status.to_string());
    }
    Outcome::Failed(Failure { verb: action.verb(), message: status.to_string() })
}
