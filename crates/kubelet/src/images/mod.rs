//! Images: where they come from ([`registry`], [`archive`]), where they live
//! ([`store`], containerd's content and snapshots), and the policy between
//! ([`Images::ensure`]).
//!
//! This module knows pods only by their pull policy and secrets.

pub mod archive;
pub mod credentials;
mod download;
pub mod hosts;
pub mod registry;
pub mod store;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared, WeakShared};
use oci_client::Reference;
use parking_lot::Mutex;

use crate::runtime::containerd::RuntimeError;
use crate::time::monotonic;
use credentials::Credentials;
use registry::Registries;
use store::{Image, Store};

/// First wait after a failed pull.
const BACKOFF_FIRST: Duration = Duration::from_secs(10);
/// Longest wait.
const BACKOFF_LONGEST: Duration = Duration::from_secs(300);

/// Why an image cannot be used, in the words of a container status.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The name is not a name.
    #[error("Failed to apply default image tag \"{image}\": couldn't parse image name \"{image}\": {why}")]
    InvalidName {
        /// The name.
        image: String,
        /// What is wrong with it.
        why: String,
    },
    /// It is not here, and must not be pulled.
    #[error("Container image \"{0}\" is not present with pull policy of Never")]
    NeverPull(String),
    /// The pull failed.
    #[error("failed to pull and unpack image \"{image}\": {why}")]
    Pull {
        /// The image's full name.
        image: String,
        /// The chain of causes.
        why: String,
    },
    /// A pull failed a short time ago.
    #[error("Back-off pulling image \"{image}\": ErrImagePull: {why}")]
    BackOff {
        /// The image.
        image: String,
        /// How the last pull failed.
        why: String,
        /// Time until the next.
        left: Duration,
    },
    /// containerd failed.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
}

impl ImageError {
    /// The word in a container's waiting state.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::InvalidName { .. } => "InvalidImageName",
            Self::NeverPull(_) => "ErrImageNeverPull",
            Self::Pull { .. } => "ErrImagePull",
            Self::BackOff { .. } => "ImagePullBackOff",
            Self::Runtime(_) => "ImageInspectError",
        }
    }
}

/// When an image is pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullPolicy {
    /// Before every start.
    Always,
    /// If it is not here.
    IfNotPresent,
    /// Never.
    Never,
}

impl PullPolicy {
    /// The policy of a container; without one, the API's default for the tag.
    #[must_use]
    pub fn of(policy: Option<&str>, image: &str) -> Self {
        match policy {
            Some("Always") => Self::Always,
            Some("Never") => Self::Never,
            Some("IfNotPresent") => Self::IfNotPresent,
            _ if image.contains('@') => Self::IfNotPresent,
            _ => match image.rsplit('/').next().unwrap_or_default().rsplit_once(':') {
                None | Some((_, "latest")) => Self::Always,
                Some(_) => Self::IfNotPresent,
            },
        }
    }
}

/// An image that is here, and how it came.
#[derive(Clone, Debug)]
pub struct Obtained {
    /// The image.
    pub image: Arc<Image>,
    /// The pull; `None` if there was none.
    pub pull: Option<Pulled>,
}

/// How long a pull took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pulled {
    /// By itself.
    pub took: Duration,
    /// Since this container asked for it.
    pub with_waiting: Duration,
}

/// Who wants an image, and how.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// The image as the pod names it.
    pub image: &'a str,
    /// When to pull.
    pub policy: PullPolicy,
    /// With what.
    pub credentials: &'a Credentials,
    /// The pod's uid: each pod has its own back-off.
    pub pod: &'a str,
}

#[derive(Clone, Debug)]
struct Failure {
    next_try: Instant,
    delay: Duration,
    why: String,
}

/// A pull that several may wait for; it ends when nobody does any more.
type Flight = Shared<FlightFuture>;
type FlightFuture = BoxFuture<'static, Result<(Arc<Image>, Duration), String>>;

/// All images of this node.
pub struct Images {
    store: Store,
    registries: Arc<Registries>,
    /// By pod and image.
    failures: Mutex<HashMap<(String, String), Failure>>,
    /// By image and credentials: who may not pull by himself gets nothing from
    /// another's pull.
    under_way: Mutex<HashMap<(String, Credentials), WeakShared<FlightFuture>>>,
}

/// Parses an image's name to its full form.
///
/// # Errors
/// When it is not a reference.
pub fn parse(image: &str) -> Result<Reference, ImageError> {
    image
        .parse::<Reference>()
        .map_err(|error| ImageError::InvalidName { image: image.to_owned(), why: error.to_string() })
}

impl Images {
    /// Images in this store, from these registries.
    #[must_use]
    pub fn new(store: Store, registries: Registries) -> Self {
        let registries = Arc::new(registries);
        Self { store, registries, failures: Mutex::default(), under_way: Mutex::default() }
    }

    /// Where they live.
    #[must_use]
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// Makes an image usable: finds it, or pulls it as the policy says. A pull
    /// that another pod has begun is shared.
    ///
    /// # Errors
    /// When it cannot be had now; the reason goes into the container's status.
    pub async fn ensure(
        &self,
        wish: Wish<'_>,
        on_pull: &(dyn Fn() + Send + Sync),
    ) -> Result<Obtained, ImageError> {
        let reference = parse(wish.image)?;
        let name = reference.whole();
        if wish.policy != PullPolicy::Always {
            if let Some(image) = self.store.find(&name).await? {
                return Ok(Obtained { image, pull: None });
            }
            if wish.policy == PullPolicy::Never {
                return Err(ImageError::NeverPull(wish.image.to_owned()));
            }
        }
        let key = (wish.pod.to_owned(), name.clone());
        if let Some(back_off) = self.back_off(&key, wish.image) {
            return Err(back_off);
        }
        on_pull();
        let begun = monotonic();
        match self.flight(reference, wish.credentials).await {
            Ok((image, took)) => {
                self.failures.lock().remove(&key);
                Ok(Obtained { image, pull: Some(Pulled { took, with_waiting: begun.elapsed() }) })
            }
            Err(why) => {
                let error = ImageError::Pull { image: name, why };
                let mut failures = self.failures.lock();
                let failure = next_failure(failures.get(&key), error.to_string(), monotonic());
                failures.insert(key, failure);
                Err(error)
            }
        }
    }

    /// The pull of an image that is under way, or a new one.
    fn flight(&self, reference: Reference, credentials: &Credentials) -> Flight {
        let mut under_way = self.under_way.lock();
        under_way.retain(|_, flight| flight.upgrade().is_some());
        let key = (reference.whole(), credentials.clone());
        if let Some(flight) = under_way.get(&key).and_then(WeakShared::upgrade)
            && flight.peek().is_none()
        {
            return flight;
        }
        let (store, registries, credentials) =
            (self.store.clone(), Arc::clone(&self.registries), credentials.clone());
        let flight = async move {
            let begun = monotonic();
            let pulled = registries.pull(&reference, &credentials, &store).boxed().await;
            pulled.map(|image| (image, begun.elapsed())).map_err(|error| chain(&error))
        }
        .boxed()
        .shared();
        if let Some(weak) = flight.downgrade() {
            under_way.insert(key, weak);
        }
        flight
    }

    fn back_off(&self, key: &(String, String), image: &str) -> Option<ImageError> {
        let failure = self.failures.lock().get(key).cloned()?;
        let left = failure.next_try.saturating_duration_since(monotonic());
        let why = failure.why;
        (!left.is_zero()).then(|| ImageError::BackOff { image: image.to_owned(), why, left })
    }

    /// Forgets a pod's failures.
    pub fn forget(&self, pod: &str) {
        self.failures.lock().retain(|(uid, _), _| uid != pod);
    }
}

/// The failure after `last`: the delay doubles; one that is long past counts no
/// more (upstream's rule: twice the longest).
fn next_failure(last: Option<&Failure>, why: String, now: Instant) -> Failure {
    let recent = last.filter(|last| now < last.next_try + BACKOFF_LONGEST * 2);
    let delay = recent.map_or(BACKOFF_FIRST, |last| (last.delay * 2).min(BACKOFF_LONGEST));
    Failure { next_try: now + delay, delay, why }
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies() {
        for (policy, image, expected) in [
            (Some("Never"), "a", PullPolicy::Never),
            (None, "a", PullPolicy::Always),
            (None, "a:latest", PullPolicy::Always),
            (None, "a:1", PullPolicy::IfNotPresent),
            (None, "host:5000/a", PullPolicy::Always),
            (None, "a@sha256:0000", PullPolicy::IfNotPresent),
        ] {
            assert_eq!(PullPolicy::of(policy, image), expected, "{image}");
        }
    }

    #[test]
    fn failures_back_off() {
        let begun = monotonic();
        let mut now = begun;
        let mut last: Option<Failure> = None;
        let mut delays = Vec::new();
        for _ in 0..7 {
            let failure = next_failure(last.as_ref(), String::new(), now);
            delays.push(failure.delay.as_secs());
            now = failure.next_try;
            last = Some(failure);
        }
        assert_eq!(delays, [10, 20, 40, 80, 160, 300, 300]);
        let much_later = now + BACKOFF_LONGEST * 3;
        assert_eq!(next_failure(last.as_ref(), String::new(), much_later).delay, BACKOFF_FIRST);
    }

    #[test]
    fn names() {
        assert_eq!(parse("busybox").expect("parses").whole(), "docker.io/library/busybox:latest");
        assert_eq!(parse("localhost:5000/a/b:c").expect("parses").whole(), "localhost:5000/a/b:c");
        assert!(matches!(parse("UPPER case"), Err(ImageError::InvalidName { .. })));
    }
}
