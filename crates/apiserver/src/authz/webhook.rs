//! Another server that is asked who may do what, by `SubjectAccessReview`
//! (`authorization.k8s.io/v1`).

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use daemon::Clock;
use resources::cel::{Budget, Program, Type, Value as Cel};
use serde_json::{Map, Value, json};

use super::{Attributes, Decision, Verdict, selectors};
use crate::authn::User;
use crate::expiring::Expiring;
use crate::remote::{FIRST_WAIT, Remote};

/// Answers that are remembered.
const REMEMBERED: usize = 8192;
/// The longest question that is remembered, in bytes: all are strangers' to choose.
const LONGEST: usize = 10_000;

/// How a webhook is asked.
#[derive(Clone, Debug)]
pub(super) struct Asking {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) timeout: Duration,
    /// How long a yes is remembered.
    pub(super) authorized: Duration,
    /// How long anything else is.
    pub(super) unauthorized: Duration,
    /// Whether a webhook that does not answer refuses.
    pub(super) denies_on_error: bool,
}

/// The server.
pub(super) struct AccessWebhook {
    remote: Remote,
    asking: Asking,
    conditions: Vec<Program>,
    known: Expiring<String, Status>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Status {
    allowed: bool,
    denied: bool,
    reason: String,
}

impl AccessWebhook {
    pub(super) fn load(
        path: &Path,
        asking: Asking,
        conditions: &[String],
        clock: Arc<dyn Clock>,
    ) -> anyhow::Result<Self> {
        anyhow::ensure!(
            matches!(asking.version.as_str(), "v1" | "v1beta1"),
            "unsupported webhook authorizer version {:?}, supported versions are \"v1\", \"v1beta1\"",
            asking.version
        );
        let remote = Remote::load(path, asking.timeout, Arc::clone(&clock))?;
        let conditions = conditions.iter().map(|source| condition(source)).collect::<anyhow::Result<_>>()?;
        Ok(Self { remote, asking, conditions, known: Expiring::new(REMEMBERED, clock) })
    }

    pub(super) async fn decide(&self, user: &User, ask: &Attributes) -> Verdict {
        let spec = spec(user, ask);
        match self.concerns(&spec) {
            Ok(true) => {}
            Ok(false) => return Verdict::default(),
            Err(why) => return self.failed(why),
        }
        let key = spec.to_string();
        let known = self.known.get(&key);
        let status = match known {
            Some(status) => status,
            None => match self.ask(spec).await {
                Ok(status) => {
                    let keep = if status.allowed { self.asking.authorized } else { self.asking.unauthorized };
                    if key.len() <= LONGEST {
                        self.known.put(key, status.clone(), keep);
                    }
                    status
                }
                Err(why) => return self.failed(why),
            },
        };
        judge(status)
    }

    /// Whether the webhook wants to be asked. A condition that does not hold decides,
    /// whatever is wrong with others.
    fn concerns(&self, spec: &Value) -> Result<bool, String> {
        if self.conditions.is_empty() {
            return Ok(true);
        }
        let variables = [("request", Cel::from_json(spec))];
        let mut wrong = Vec::new();
        for condition in &self.conditions {
            match condition.evaluate(&variables, &Budget::default()) {
                Ok(Cel::Bool(true)) => {}
                Ok(Cel::Bool(false)) => return Ok(false),
                Ok(_) => wrong.push("cel evaluation error: it is neither true nor false".to_owned()),
                Err(error) => wrong.push(format!("cel evaluation error: {error}")),
            }
        }
        if wrong.is_empty() { Ok(true) } else { Err(wrong.join(", ")) }
    }

    async fn ask(&self, spec: Value) -> Result<Status, String> {
        let is_old = self.asking.version == "v1beta1";
        let spec = if is_old { old_form(spec) } else { spec };
        let review = json!({
            "kind": "SubjectAccessReview",
            "apiVersion": format!("authorization.k8s.io/{}", self.asking.version),
            "metadata": {}, "spec": spec, "status": {"allowed": false},
        });
        let status = self.remote.review(&review, FIRST_WAIT).await?;
        Ok(Status {
            allowed: status["allowed"] == true,
            denied: status["denied"] == true,
            reason: status["reason"].as_str().unwrap_or_default().to_owned(),
        })
    }

    fn failed(&self, why: String) -> Verdict {
        tracing::warn!(webhook = self.asking.name, why, "the authorization webhook failed");
        let decision = if self.asking.denies_on_error { Decision::Deny } else { Decision::NoOpinion };
        Verdict { decision, reason: String::new(), error: why }
    }
}

fn judge(status: Status) -> Verdict {
    let both = "webhook subject access review returned both allow and deny response";
    let (decision, error) = match (status.denied, status.allowed) {
        (true, true) => (Decision::Deny, both),
        (true, false) => (Decision::Deny, ""),
        (false, true) => (Decision::Allow, ""),
        (false, false) => (Decision::NoOpinion, ""),
    };
    Verdict { decision, reason: status.reason, error: error.to_owned() }
}

fn condition(source: &str) -> anyhow::Result<Program> {
    let known = |name: &str| (name == "request").then_some(Type::Dyn);
    let program = Program::compile(source, &known);
    let program =
        program.map_err(|why| anyhow::anyhow!("matchConditions: {source:?}: compilation failed: {why}"))?;
    anyhow::ensure!(
        matches!(program.result(), Type::Bool | Type::Dyn),
        "matchConditions: {source:?}: must evaluate to bool"
    );
    Ok(program)
}

/// The question; fields that are empty are left out, as Go does.
fn spec(user: &User, ask: &Attributes) -> Value {
    let texts = |list: &[(&str, &String)]| -> Map<String, Value> {
        let said = list.iter().filter(|(_, text)| !text.is_empty());
        said.map(|(name, text)| ((*name).to_owned(), Value::from(text.as_str()))).collect()
    };
    let mut spec = texts(&[("user", &user.name), ("uid", &user.uid)]);
    if !user.groups.is_empty() {
        spec.insert("groups".to_owned(), user.groups.clone().into());
    }
    if !user.extra.is_empty() {
        spec.insert("extra".to_owned(), json!(user.extra));
    }
    if ask.resource.is_empty() {
        let attributes = texts(&[("path", &ask.path), ("verb", &ask.verb)]);
        spec.insert("nonResourceAttributes".to_owned(), attributes.into());
    } else {
        let mut attributes = texts(&[
            ("namespace", &ask.namespace),
            ("verb", &ask.verb),
            ("group", &ask.group),
            ("version", &ask.version),
            ("resource", &ask.resource),
            ("subresource", &ask.subresource),
            ("name", &ask.name),
        ]);
        attributes.extend(selectors::to_review(&ask.labels, &ask.fields));
        spec.insert("resourceAttributes".to_owned(), attributes.into());
    }
    spec.into()
}

/// The old version calls groups `group`.
fn old_form(mut spec: Value) -> Value {
    if let Some(map) = spec.as_object_mut()
        && let Some(groups) = map.remove("groups")
    {
        map.insert("group".to_owned(), groups);
    }
    spec
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions() {
        let user = User { name: "jane".into(), groups: vec!["g".into()], ..User::default() };
        let ask = Attributes {
            verb: "get".into(),
            version: "v1".into(),
            resource: "pods".into(),
            namespace: "n".into(),
            ..Attributes::default()
        };
        let attributes = json!({"namespace": "n", "verb": "get", "version": "v1", "resource": "pods"});
        assert_eq!(
            spec(&user, &ask),
            json!({"user": "jane", "groups": ["g"], "resourceAttributes": attributes})
        );
        let path = Attributes { verb: "get".into(), path: "/healthz".into(), ..Attributes::default() };
        assert_eq!(spec(&user, &path)["nonResourceAttributes"], json!({"path": "/healthz", "verb": "get"}));
        assert_eq!(old_form(spec(&user, &path))["group"], json!(["g"]));
    }

    #[test]
    fn answers() {
        let status = |denied, allowed| judge(Status { allowed, denied, reason: "r".into() });
        assert_eq!(status(false, true).decision, Decision::Allow);
        assert_eq!(status(false, false).decision, Decision::NoOpinion);
        assert_eq!(status(true, false).decision, Decision::Deny);
        assert_eq!(status(true, true).decision, Decision::Deny);
        assert!(!status(true, true).error.is_empty());
    }
}
