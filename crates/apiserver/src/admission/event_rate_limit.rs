//! Events do not flood the store (upstream's `EventRateLimit`; off unless it is asked
//! for): token buckets for the server, each namespace, user, or source and object,
//! as its configuration says.

use std::num::NonZeroUsize;

use anyhow::ensure;
use api::{Object, Status};
use futures::future::BoxFuture;
use lru::LruCache;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

use super::configuration::{from_value, take_kind};
use super::{Operation, Parts, Plugin, Request};

const GROUP: &str = "eventratelimit.admission.k8s.io/v1alpha1";
const DEFAULT_CACHE: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
enum By {
    Server,
    Namespace,
    User,
    SourceAndObject,
}

/// One limit.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Limit {
    r#type: By,
    /// Events a second.
    qps: u32,
    /// Events at once.
    burst: u32,
    /// How many keys are remembered.
    #[serde(default)]
    cache_size: usize,
}

/// The plugin's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Limits(Vec<Limit>);

impl Limits {
    pub(super) fn read(mut value: Value) -> anyhow::Result<Self> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct File {
            limits: Vec<Limit>,
        }
        take_kind(&mut value, "Configuration", &[GROUP])?;
        let File { limits } = from_value(value)?;
        ensure!(!limits.is_empty(), "limits: must not be empty");
        for (index, limit) in limits.iter().enumerate() {
            ensure!(limit.qps > 0, "limits[{index}].qps: must be positive");
            ensure!(limit.burst > 0, "limits[{index}].burst: must be positive");
        }
        Ok(Self(limits))
    }
}

pub(super) struct EventRateLimit(Vec<Enforcer>);

struct Enforcer {
    limit: Limit,
    buckets: Mutex<LruCache<String, Bucket>>,
}

/// What is left of a burst, and since when.
#[derive(Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl EventRateLimit {
    pub(super) fn new(parts: &Parts) -> Self {
        Self(parts.configuration.event_limits.0.iter().cloned().map(Enforcer::new).collect())
    }
}

impl Enforcer {
    fn new(limit: Limit) -> Self {
        let size = NonZeroUsize::new(limit.cache_size).unwrap_or(DEFAULT_CACHE);
        Self { limit, buckets: Mutex::new(LruCache::new(size)) }
    }

    /// Takes a token of the key's bucket, if there is one.
    fn takes(&self, key: &str, now: Instant) -> bool {
        let burst = f64::from(self.limit.burst);
        let mut buckets = self.buckets.lock();
        let bucket = buckets.get_or_insert_mut(key.to_owned(), || Bucket { tokens: burst, at: now });
        let gained = now.duration_since(bucket.at).as_secs_f64() * f64::from(self.limit.qps);
        bucket.tokens = (bucket.tokens + gained).min(burst);
        bucket.at = now;
        let has_one = bucket.tokens >= 1.0;
        if has_one {
            bucket.tokens -= 1.0;
        }
        has_one
    }
}

impl Plugin for EventRateLimit {
    fn validate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            let changes = matches!(request.operation, Operation::Create | Operation::Update);
            if request.kind.kind != "Event" || !changes || request.dry_run {
                return Ok(());
            }
            let now = Instant::now();
            let mut reached = Vec::new();
            for enforcer in &self.0 {
                let by = enforcer.limit.r#type;
                let key = key(by, request);
                if !enforcer.takes(&key, now) {
                    reached.push(format!("limit reached on type {by:?} for key {key}"));
                }
            }
            match reached.as_slice() {
                [] => Ok(()),
                [one] => Err(Status::too_many_requests(one.clone(), 0)),
                several => Err(Status::too_many_requests(format!("[{}]", several.join(", ")), 0)),
            }
        })
    }
}

fn key(by: By, request: &Request<'_>) -> String {
    match by {
        By::Server => String::new(),
        By::Namespace => request.namespace.to_owned(),
        By::User => request.caller.user.name.clone(),
        By::SourceAndObject => request.object.as_ref().map(source_and_object).unwrap_or_default(),
    }
}

fn source_and_object(event: &Object) -> String {
    // events.k8s.io has other names for the same.
    let either = |one: &[&str], other: &[&str]| match event.text(one) {
        "" => event.text(other).to_owned(),
        text => text.to_owned(),
    };
    let about = |field: &'static str| either(&["involvedObject", field], &["regarding", field]);
    let source = [
        either(&["source", "component"], &["deprecatedSource", "component"]),
        either(&["source", "host"], &["deprecatedSource", "host"]),
    ];
    let object = ["kind", "namespace", "name", "uid", "apiVersion"].map(about);
    source.into_iter().chain(object).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    #[test]
    fn bursts_are_allowed_and_refilled() {
        let limit = Limit { r#type: By::Namespace, qps: 2, burst: 3, cache_size: 2 };
        let enforcer = Enforcer::new(limit);
        let begun = Instant::now();
        let takes = |key: &str, after: u64| enforcer.takes(key, begun + Duration::from_millis(after));
        assert_eq!([0, 0, 0, 0].map(|after| takes("a", after)), [true, true, true, false]);
        assert!(takes("b", 0), "each key has its own");
        assert_eq!([500, 500].map(|after| takes("a", after)), [true, false]);
        assert_eq!([9000, 9000, 9000, 9000].map(|after| takes("a", after)), [true, true, true, false]);
    }

    #[test]
    fn configurations_are_checked() {
        let read = |limits: Value| {
            let file = json!({"apiVersion": GROUP, "kind": "Configuration", "limits": limits});
            Limits::read(file).map_err(|error| format!("{error:#}"))
        };
        assert!(read(json!([{"type": "Server", "qps": 1, "burst": 1}])).is_ok());
        for (limits, why) in [
            (json!([]), "limits: must not be empty"),
            (json!([{"type": "Server", "qps": 0, "burst": 1}]), "limits[0].qps: must be positive"),
            (json!([{"type": "Pod", "qps": 1, "burst": 1}]), "unknown variant `Pod`"),
        ] {
            let told = read(limits).expect_err("an error");
            assert!(told.contains(why), "{told}");
        }
    }
}
