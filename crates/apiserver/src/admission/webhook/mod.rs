//! Admission webhooks: servers that may change, or refuse, a write.
//!
//! Registrations are read from the watch cache and parsed again only when they
//! change. Mutating webhooks are called one after the other, in the order of
//! their registrations' names; validating ones all at once. Start reading in
//! [`Webhooks`], then [`registration`] for whom a webhook wants to see.

mod registration;
mod review;

use std::sync::Arc;

use api::{Object, Reason, Status};
use futures::future::{BoxFuture, join_all};
use parking_lot::Mutex;
use resources::cel::Budget;
use serde_json::Value;

use super::equivalents::{Equivalents, Seen};
use super::expressions::About;
use super::matching::namespace_labels;
use super::{Parts, Plugin, Request};
use crate::audit;
use crate::authz::Authorizer;
use crate::cache::{Selected, WatchCache};
use crate::connect::Outward;
use crate::registry::Kinds;
use registration::{OnFailure, Webhook};

const GROUP: &str = "admissionregistration.k8s.io";
const MUTATING: &str = "mutatingwebhookconfigurations";
const VALIDATING: &str = "validatingwebhookconfigurations";

/// The webhooks of one sort of registration, as they are now.
struct Registered {
    resource: &'static str,
    /// The revision of the last change that was read, and what it gave.
    known: Mutex<(u64, Arc<Vec<Webhook>>)>,
}

impl Registered {
    fn new(resource: &'static str) -> Self {
        Self { resource, known: Mutex::new((0, Arc::default())) }
    }

    fn now(&self, cache: &WatchCache) -> Arc<Vec<Webhook>> {
        let resource = cache.resource(GROUP, self.resource);
        let last = resource.last_change();
        let mut known = self.known.lock();
        if known.0 != last {
            let (found, _) = resource.list(&Selected::default(), 0, None);
            let objects = found.iter().filter_map(|stored| stored.object().ok());
            // The cache lists by key: in the order of names.
            let all = objects.flat_map(|object| registration::read(&object)).collect();
            *known = (last, Arc::new(all));
        }
        Arc::clone(&known.1)
    }
}

/// The plugin.
pub(super) struct Webhooks {
    cache: Arc<WatchCache>,
    kinds: Arc<Kinds>,
    outward: Arc<Outward>,
    authorizer: Arc<Authorizer>,
    equivalents: Equivalents,
    mutating: Registered,
    validating: Registered,
}

/// What one call gave.
type Verdict = Result<review::Answer, Status>;

impl Webhooks {
    pub(super) fn new(parts: &Parts) -> Self {
        Self {
            cache: Arc::clone(&parts.cache),
            kinds: Arc::clone(&parts.kinds),
            outward: Arc::clone(&parts.outward),
            authorizer: Arc::clone(&parts.authorizer),
            equivalents: Equivalents::new(Arc::clone(&parts.converter)),
            mutating: Registered::new(MUTATING),
            validating: Registered::new(VALIDATING),
        }
    }

    /// Those who want to see a request, and as what.
    fn wanted<'w>(&self, all: &'w [Webhook], request: &Request<'_>) -> Vec<(&'w Webhook, Seen)> {
        // Nobody can lock themselves out by a webhook on webhooks.
        if all.is_empty() || request.kind.group == GROUP {
            return Vec::new();
        }
        let labels = namespace_labels(&self.cache, request);
        let wanted =
            |webhook: &'w Webhook| Some((webhook, webhook.wants(request, labels.as_ref(), &self.kinds)?));
        all.iter().filter_map(wanted).collect()
    }

    /// Whether a webhook's match conditions hold.
    fn meets_conditions(&self, webhook: &Webhook, request: &Request<'_>) -> Result<bool, Status> {
        if webhook.conditions.is_empty() {
            return Ok(true);
        }
        let about = About::new(request, &self.authorizer);
        match (webhook.conditions.hold(&about, &Budget::default()), webhook.on_failure) {
            (Ok(hold), _) => Ok(hold),
            (Err(error), OnFailure::Ignore) => {
                tracing::warn!(webhook = webhook.name, %error, "match conditions failed: not called");
                Ok(false)
            }
            (Err(error), OnFailure::Fail) => Err(request.forbidden(&error)),
        }
    }

    /// Calls one webhook; a failure that it lets pass gives an empty answer.
    async fn call(&self, webhook: &Webhook, request: &Request<'_>) -> Verdict {
        if !self.meets_conditions(webhook, request)? {
            return Ok(review::Answer::default());
        }
        if request.dry_run && !webhook.allows_dry_run {
            return Err(Status::bad_request(format!(
                "admission webhook {:?} does not support dry run",
                webhook.name
            )));
        }
        let answered = match &webhook.destination {
            Err(why) => Err(why.clone()),
            Ok(to) => {
                let (uid, body) = review::request(request, webhook.version);
                self.outward
                    .post(to, body, webhook.timeout)
                    .await
                    .map_err(|error| format!("failed to call webhook: {error}"))
                    .and_then(|answer| review::answer(&answer, &uid, webhook.version))
            }
        };
        match (answered, webhook.on_failure) {
            (Ok(answer), _) => Ok(answer),
            (Err(error), OnFailure::Ignore) => {
                tracing::warn!(webhook = webhook.name, %error, "a webhook failed, and is ignored");
                Ok(review::Answer { has_failed: true, ..review::Answer::default() })
            }
            (Err(error), OnFailure::Fail) => {
                Err(Status::internal(format!("failed calling webhook {:?}: {error}", webhook.name)))
            }
        }
    }

    /// Calls the mutating webhooks, those that ask for it a second time if others
    /// changed the object after them.
    async fn mutate_all(&self, request: &mut Request<'_>) -> Result<(), Status> {
        let all = self.mutating.now(&self.cache);
        if all.is_empty() {
            return Ok(());
        }
        // For each webhook called: its name, and the object as it left it.
        let mut left: Vec<(String, Option<Object>)> = Vec::new();
        for round in 0..2 {
            for (webhook, seen) in self.wanted(&all, request) {
                let before = left.iter().position(|(name, _)| *name == webhook.id);
                match before {
                    _ if round == 0 => {}
                    Some(at) if webhook.is_reinvoked && left[at].1 != request.object => {}
                    _ => continue,
                }
                let index = all.iter().position(|one| one.id == webhook.id).unwrap_or(0);
                let place = format!("round_{round}_index_{index}");
                match seen {
                    Seen::Own => self.ask(webhook, &place, request).await?,
                    Seen::Other(kind) => {
                        let mut turned = self.equivalents.request(request, &kind).await?;
                        self.ask(webhook, &place, &mut turned).await?;
                        self.equivalents.take_back(request, turned).await?;
                    }
                }
                match before {
                    Some(at) => left[at].1.clone_from(&request.object),
                    None => left.push((webhook.id.clone(), request.object.clone())),
                }
            }
        }
        Ok(())
    }

    /// Lets one mutating webhook change a request.
    async fn ask(&self, webhook: &Webhook, place: &str, request: &mut Request<'_>) -> Result<(), Status> {
        let verdict = self.call(webhook, request).await;
        if let Ok(answer) = &verdict {
            record(webhook, answer, "mutating", place);
        }
        let patch = verdict.as_ref().ok().and_then(|answer| answer.patch.as_deref());
        let is_changed = patch.is_some_and(|patch| patch != b"[]");
        self.take(webhook, verdict, request)?;
        record_mutation(webhook, place, is_changed);
        Ok(())
    }

    /// Takes a mutating webhook's answer over.
    fn take(&self, webhook: &Webhook, verdict: Verdict, request: &mut Request<'_>) -> Result<(), Status> {
        let answer = verdict?;
        request.warnings.extend(answer.warnings.clone());
        if let Some(denied) = &answer.denied {
            return Err(denied_by(&webhook.name, denied));
        }
        let Some(patch) = &answer.patch else { return Ok(()) };
        let Some(object) = request.object.take() else {
            let why = format!(
                "admission webhook {:?} attempted to modify the object, which is not supported for this operation",
                webhook.name
            );
            return Err(Status::internal(why));
        };
        let failed = |error: String| {
            Status::internal(format!(
                "failed calling webhook {:?}: received an invalid patch: {error}",
                webhook.name
            ))
        };
        let mut value = object.into_value();
        api::patch::json_patch(&mut value, patch).map_err(|error| failed(error.to_string()))?;
        let mut object = Object::from_value(value).map_err(|error| failed(error.to_string()))?;
        request.kind.conform(&mut object).map_err(|error| failed(error.to_string()))?;
        request.kind.strategy.default(&mut object);
        request.object = Some(object);
        request.late.is_changed = true;
        Ok(())
    }

    async fn validate_all(&self, request: &mut Request<'_>) -> Result<(), Status> {
        let all = self.validating.now(&self.cache);
        let verdicts = {
            let request = &*request;
            let wanted = self.wanted(&all, request);
            let calls = wanted.into_iter().map(|(webhook, seen)| async move {
                let verdict = match seen {
                    Seen::Own => self.call(webhook, request).await,
                    Seen::Other(kind) => {
                        self.call(webhook, &self.equivalents.request(request, &kind).await?).await
                    }
                };
                verdict.map(|answer| (webhook, answer))
            });
            join_all(calls).await
        };
        for (index, verdict) in verdicts.into_iter().enumerate() {
            let (webhook, answer) = verdict?;
            record(webhook, &answer, "validating", &format!("round_0_index_{index}"));
            request.warnings.extend(answer.warnings);
            if let Some(denied) = &answer.denied {
                return Err(denied_by(&webhook.name, denied));
            }
        }
        Ok(())
    }
}

/// Notes in the request's record what a webhook said of it.
fn record(webhook: &Webhook, answer: &review::Answer, sort: &str, place: &str) {
    for (key, value) in &answer.annotations {
        audit::annotate(format!("{}/{key}", webhook.name), || value.clone());
    }
    if answer.has_failed {
        let key = format!("failed-open.{sort}.webhook.admission.k8s.io/{place}");
        audit::annotate(key, || webhook.name.clone());
    }
}

/// Notes in the request's record whether a webhook changed its object.
fn record_mutation(webhook: &Webhook, place: &str, mutated: bool) {
    audit::annotate(format!("mutation.webhook.admission.k8s.io/{place}"), || {
        let registration = webhook.id.split('/').next().unwrap_or_default();
        serde_json::json!({"configuration": registration, "webhook": webhook.name, "mutated": mutated})
            .to_string()
    });
}

/// The status for a refusal, made of the one that the webhook gave.
fn denied_by(name: &str, given: &Value) -> Status {
    let text = |field: &str| given[field].as_str().unwrap_or_default();
    let by = format!("admission webhook {name:?} denied the request");
    let message = match (text("message"), text("reason")) {
        ("", "") => format!("{by} without explanation"),
        ("", reason) => format!("{by}: {reason}"),
        (message, _) => format!("{by}: {message}"),
    };
    let code = given["code"].as_u64().and_then(|code| u16::try_from(code).ok()).unwrap_or(0);
    let mut status = Status::from_json(given).unwrap_or_else(|| Status::new(Reason::Unknown, ""));
    // A refusal is never a success.
    status.code = if code < 400 { 400 } else { code };
    status.message = message;
    status
}

impl Plugin for Webhooks {
    fn is_last_word(&self) -> bool {
        true
    }

    fn mutate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(self.mutate_all(request))
    }

    fn validate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(self.validate_all(request))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn refusals_say_who_refused() {
        for (given, code, message) in [
            (json!({"message": "no", "code": 403, "reason": "Forbidden"}), 403, ": no"),
            (json!({"reason": "Because", "code": 200}), 400, ": Because"),
            (json!({}), 400, " without explanation"),
        ] {
            let status = denied_by("h.x.io", &given);
            assert_eq!(status.code, code, "{given}");
            assert_eq!(
                status.message,
                format!("admission webhook \"h.x.io\" denied the request{message}"),
                "{given}"
            );
        }
    }
}
