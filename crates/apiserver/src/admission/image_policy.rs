//! A server outside the cluster judges the images of pods (upstream's
//! `ImagePolicyWebhook`; off unless it is asked for, and then it needs its part of the
//! configuration): it is asked by `ImageReview` of `imagepolicy.k8s.io/v1alpha1`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use api::{Object, Status};
use daemon::Clock;
use futures::future::BoxFuture;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::configuration::from_value;
use super::pods::list;
use super::{Operation, Plugin, Request};
use crate::audit;
use crate::expiring::Expiring;
use crate::remote::Remote;

/// Answers that are remembered.
const REMEMBERED: usize = 1024;
/// How long the server has to answer.
const LIMIT: Duration = Duration::from_secs(30);
/// What the keys of a pod's annotations contain that the server is shown.
const SHOWN: &str = ".image-policy.k8s.io/";
const AUDIT: &str = "imagepolicywebhook.image-policy.k8s.io/";

/// What the plugin is told.
#[derive(Clone)]
pub(super) struct ImagePolicy(Arc<Judge>);

struct Judge {
    remote: Remote,
    /// After how long it is asked again for the first time.
    again: Duration,
    /// How long a yes is remembered, and a no.
    keep: (Duration, Duration),
    /// Whether a pod passes that the server gives no answer about.
    is_open: bool,
    known: Expiring<String, Verdict>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Verdict {
    allowed: bool,
    reason: String,
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    image_policy: Settings,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct Settings {
    kube_config_file: PathBuf,
    #[serde(rename = "allowTTL")]
    allow_ttl: i64,
    #[serde(rename = "denyTTL")]
    deny_ttl: i64,
    retry_backoff: i64,
    default_allow: bool,
}

impl Settings {
    fn times(&self) -> anyhow::Result<(Duration, Duration, Duration)> {
        let (second, half_an_hour) = (Duration::from_secs(1), Duration::from_secs(1800));
        let seconds = |name, value, default| {
            time(name, value, Duration::from_secs, Duration::from_secs(default), second..=half_an_hour)
        };
        let again = Duration::from_nanos(1)..=Duration::from_secs(300);
        Ok((
            seconds("allowTTL", self.allow_ttl, 300)?,
            seconds("denyTTL", self.deny_ttl, 30)?,
            time(
                "retryBackoff",
                self.retry_backoff,
                Duration::from_millis,
                Duration::from_millis(500),
                again,
            )?,
        ))
    }
}

/// -1 turns it off, 0 is the default.
fn time(
    name: &str,
    value: i64,
    unit: fn(u64) -> Duration,
    default: Duration,
    range: std::ops::RangeInclusive<Duration>,
) -> anyhow::Result<Duration> {
    match value {
        -1 => Ok(Duration::ZERO),
        0 => Ok(default),
        _ => {
            let time = u64::try_from(value).ok().map(unit).filter(|time| range.contains(time));
            let (least, most) = (range.start(), range.end());
            time.with_context(|| format!("{name}: {value}: must be between {least:?} and {most:?}"))
        }
    }
}

impl ImagePolicy {
    /// Reads the plugin's configuration; a relative path in it is one from `directory`.
    pub(super) fn read(value: Value, directory: &Path, clock: &Arc<dyn Clock>) -> anyhow::Result<Self> {
        let File { image_policy: settings } = from_value(value)?;
        ensure!(
            !settings.kube_config_file.as_os_str().is_empty(),
            "imagePolicy.kubeConfigFile: Required value"
        );
        let (allow, deny, again) = settings.times().context("imagePolicy")?;
        let remote = Remote::load(&directory.join(&settings.kube_config_file), LIMIT, Arc::clone(clock))?;
        Ok(Self(Arc::new(Judge {
            remote,
            again,
            keep: (allow, deny),
            is_open: settings.default_allow,
            known: Expiring::new(REMEMBERED, Arc::clone(clock)),
        })))
    }
}

pub(super) struct ImagePolicyWebhook(Option<ImagePolicy>);

impl ImagePolicyWebhook {
    pub(super) const fn new(policy: Option<ImagePolicy>) -> Self {
        Self(policy)
    }
}

impl Plugin for ImagePolicyWebhook {
    fn validate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            let is_write = matches!(request.operation, Operation::Create | Operation::Update);
            let is_meant = request.is("", "pods", "") || request.is("", "pods", "ephemeralcontainers");
            let (true, Some(pod)) = (is_write && is_meant, &request.object) else { return Ok(()) };
            let policy = self.0.as_ref().ok_or_else(|| request.forbidden("there is no image policy"))?;
            let judged = policy.0.judge(spec(pod, request.subresource, request.namespace)).await;
            judged.map_err(|why| request.forbidden(&why))
        })
    }
}

impl Judge {
    async fn judge(&self, spec: Value) -> Result<(), String> {
        let key = spec.to_string();
        let verdict = match self.known.get(&key) {
            Some(verdict) => verdict,
            None => match self.ask(spec).await {
                Ok(verdict) => {
                    let keep = if verdict.allowed { self.keep.0 } else { self.keep.1 };
                    self.known.put(key, verdict.clone(), keep);
                    verdict
                }
                Err(why) if self.is_open => {
                    tracing::warn!(why, "the image policy gives no answer; the pod passes");
                    audit::annotate(format!("{AUDIT}failed-open"), || "true".to_owned());
                    return Ok(());
                }
                Err(why) => return Err(why),
            },
        };
        for (key, value) in &verdict.annotations {
            audit::annotate(format!("{AUDIT}{key}"), || value.clone());
        }
        match verdict {
            Verdict { allowed: true, .. } => Ok(()),
            Verdict { reason, .. } if reason.is_empty() => {
                Err("one or more images rejected by webhook backend".to_owned())
            }
            Verdict { reason, .. } => {
                Err(format!("image policy webhook backend denied one or more images: {reason}"))
            }
        }
    }

    async fn ask(&self, spec: Value) -> Result<Verdict, String> {
        let review = json!({
            "kind": "ImageReview", "apiVersion": "imagepolicy.k8s.io/v1alpha1",
            "metadata": {}, "spec": spec, "status": {"allowed": false},
        });
        self.remote.review(&review, self.again).await.map(|status| verdict(&status))
    }
}

fn verdict(status: &Value) -> Verdict {
    let annotations = status["auditAnnotations"].as_object().into_iter().flatten();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Verdict {
        allowed: status["allowed"] == true,
        reason: text(&status["reason"]),
        annotations: annotations.map(|(key, value)| (key.clone(), text(value))).collect(),
    }
}

/// The question; what is empty is left out.
fn spec(pod: &Object, subresource: &str, namespace: &str) -> Value {
    let fields: &[&str] =
        if subresource.is_empty() { &["containers", "initContainers"] } else { &["ephemeralContainers"] };
    let containers = fields.iter().flat_map(|field| list(pod, field));
    let images: Vec<Value> = containers.map(|container| json!({"image": container["image"]})).collect();
    let annotations = pod.at(&["metadata", "annotations"]).and_then(Value::as_object).into_iter().flatten();
    let shown: Map<String, Value> = annotations
        .filter(|(key, _)| key.contains(SHOWN))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let mut spec = Map::new();
    if !images.is_empty() {
        spec.insert("containers".to_owned(), images.into());
    }
    if !shown.is_empty() {
        spec.insert("annotations".to_owned(), shown.into());
    }
    spec.insert("namespace".to_owned(), namespace.into());
    spec.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions() {
        let pod = json!({
            "metadata": {"annotations": {"break.image-policy.k8s.io/glass": "1", "other": "2"}},
            "spec": {
                "containers": [{"image": "a"}], "initContainers": [{"image": "b"}],
                "ephemeralContainers": [{"image": "c"}],
            },
        });
        let pod = Object::from_value(pod).expect("an object");
        let annotations = json!({"break.image-policy.k8s.io/glass": "1"});
        assert_eq!(
            spec(&pod, "", "n"),
            json!({"containers": [{"image": "a"}, {"image": "b"}], "annotations": annotations, "namespace": "n"})
        );
        assert_eq!(spec(&pod, "ephemeralcontainers", "n")["containers"], json!([{"image": "c"}]));
    }

    #[test]
    fn answers() {
        let status = json!({"allowed": false, "reason": "old", "auditAnnotations": {"k": "v"}});
        let annotations = [("k".to_owned(), "v".to_owned())].into();
        assert_eq!(verdict(&status), Verdict { allowed: false, reason: "old".to_owned(), annotations });
        assert_eq!(verdict(&json!({"allowed": "true"})), Verdict::default());
    }

    #[test]
    fn times() {
        let read = |allow_ttl, retry_backoff| {
            Settings { allow_ttl, retry_backoff, ..Settings::default() }
                .times()
                .map_err(|error| error.to_string())
        };
        let (seconds, millis) = (Duration::from_secs, Duration::from_millis);
        assert_eq!(read(0, 0), Ok((seconds(300), seconds(30), millis(500))));
        assert_eq!(read(-1, 20), Ok((Duration::ZERO, seconds(30), millis(20))));
        for (allow, again) in [(1801, 0), (-2, 0), (0, 300_001)] {
            assert!(read(allow, again).is_err(), "{allow} {again}");
        }
    }
}
