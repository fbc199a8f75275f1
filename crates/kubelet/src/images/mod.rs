//! Images: where they come from ([`registry`], [`archive`]), where they live
//! ([`store`], containerd's content and snapshots), and the policy between
//! ([`Images::ensure`]).
//!
//! This module knows pods only by their pull policy and secrets.

pub mod archive;
pub mod credentials;
pub mod registry;
pub mod store;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

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
    #[error("Failed to apply default image tag \"{image}\": {why}")]
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
    #[error("failed to pull image \"{image}\": {why}")]
    Pull {
        /// The image.
        image: String,
        /// The chain of causes.
        why: String,
    },
    /// A pull failed a short time ago.
    #[error("Back-off pulling image \"{image}\": {why}")]
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
    /// How long the pull took; `None` if there was none.
    pub pulled_in: Option<Duration>,
}

struct Failure {
    next_try: Instant,
    delay: Duration,
    why: String,
}

/// All images of this node.
pub struct Images {
    store: Store,
    registries: Registries,
    failures: Mutex<HashMap<String, Failure>>,
    under_way: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
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
        Self { store, registries, failures: Mutex::default(), under_way: Mutex::default() }
    }

    /// Where they live.
    #[must_use]
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// Makes an image usable: finds it, or pulls it as the policy says.
    ///
    /// # Errors
    /// When it cannot be had now; the reason goes into the container's status.
    pub async fn ensure(
        &self,
        image: &str,
        policy: PullPolicy,
        credentials: &Credentials,
        on_pull: &(dyn Fn() + Send + Sync),
    ) -> Result<Obtained, ImageError> {
        let reference = parse(image)?;
        let name = reference.whole();
        if policy != PullPolicy::Always {
            if let Some(image) = self.store.find(&name).await? {
                return Ok(Obtained { image, pulled_in: None });
            }
            if policy == PullPolicy::Never {
                return Err(ImageError::NeverPull(image.to_owned()));
            }
        }
        self.check_back_off(image, &name)?;
        let turn = Arc::clone(self.under_way.lock().entry(name.clone()).or_default());
        let _turn = turn.lock().await;
        // Somebody else may have pulled it while we waited.
        if policy == PullPolicy::IfNotPresent
            && let Some(image) = self.store.find(&name).await?
        {
            return Ok(Obtained { image, pulled_in: None });
        }
        on_pull();
        let begun = monotonic();
        let pulled = self.registries.pull(&reference, credentials, &self.store).await;
        self.under_way.lock().remove(&name);
        match pulled {
            Ok(image) => {
                self.failures.lock().remove(&name);
                Ok(Obtained { image, pulled_in: Some(begun.elapsed()) })
            }
            Err(error) => {
                let why = chain(&error);
                self.note_failure(&name, &why);
                Err(ImageError::Pull { image: image.to_owned(), why })
            }
        }
    }

    fn check_back_off(&self, image: &str, name: &str) -> Result<(), ImageError> {
        let failures = self.failures.lock();
        let Some(failure) = failures.get(name) else { return Ok(()) };
        let left = failure.next_try.saturating_duration_since(monotonic());
        if left.is_zero() {
            return Ok(());
        }
        Err(ImageError::BackOff { image: image.to_owned(), why: failure.why.clone(), left })
    }

    fn note_failure(&self, name: &str, why: &str) {
        let mut failures = self.failures.lock();
        let delay = failures.get(name).map_or(BACKOFF_FIRST, |last| (last.delay * 2).min(BACKOFF_LONGEST));
        let failure = Failure { next_try: monotonic() + delay, delay, why: why.to_owned() };
        failures.insert(name.to_owned(), failure);
    }
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
    fn names() {
        assert_eq!(parse("busybox").expect("parses").whole(), "docker.io/library/busybox:latest");
        assert_eq!(parse("localhost:5000/a/b:c").expect("parses").whole(), "localhost:5000/a/b:c");
        assert!(matches!(parse("UPPER case"), Err(ImageError::InvalidName { .. })));
    }
}
