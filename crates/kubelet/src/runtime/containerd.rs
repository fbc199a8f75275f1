//! A connection to containerd: requests carry the namespace (and a lease, if
//! one is held), answers come back with "not found" told apart.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use containerd_client::services::v1 as services;
use containerd_client::tonic::transport::Channel;
use containerd_client::tonic::{Code, Request, Status};

/// Largest answer accepted: a list of containers carries their specifications.
const LARGEST_ANSWER: usize = 256 << 20;

/// A call to containerd that failed.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// containerd said no.
    #[error("containerd: {what}: {status}", status = .status.message())]
    Call {
        /// What was tried, on what.
        what: String,
        /// The answer.
        status: Box<Status>,
    },
    /// No connection.
    #[error("connect to containerd at {}", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: containerd_client::tonic::transport::Error,
    },
    /// The operating system said no.
    #[error("{what}")]
    Io {
        /// What was tried, on what.
        what: String,
        /// Why.
        source: std::io::Error,
    },
    /// What the pod or the image asks for cannot be done.
    #[error("{0}")]
    Unfit(String),
}

impl RuntimeError {
    /// Whether the thing asked for does not exist.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Call { status, .. } if status.code() == Code::NotFound)
    }

    /// Whether the thing to be made exists already.
    #[must_use]
    pub fn already_exists(&self) -> bool {
        matches!(self, Self::Call { status, .. } if status.code() == Code::AlreadyExists)
    }

    /// An operating system error about something.
    pub fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    /// The same, from nix.
    pub fn errno(what: impl Into<String>) -> impl FnOnce(nix::errno::Errno) -> Self {
        let what = what.into();
        move |errno| Self::Io { what, source: errno.into() }
    }
}

/// Turns a gRPC status into our error, saying what was tried.
pub(crate) fn failed(what: impl Into<String>) -> impl FnOnce(Status) -> RuntimeError {
    let what = what.into();
    move |status| RuntimeError::Call { what, status: Box::new(status) }
}

/// "Not found" is as good as done.
pub(crate) fn gone_is_fine<T>(result: Result<T, RuntimeError>) -> Result<(), RuntimeError> {
    match result {
        Ok(_) => Ok(()),
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) => Err(error),
    }
}

/// How long containerd may take for what is not a stream or a wait (upstream's
/// `runtimeRequestTimeout`).
const LIMIT: Duration = Duration::from_secs(120);

/// A connection to containerd, bound to one of its namespaces.
#[derive(Clone, Debug)]
pub struct Containerd {
    channel: Channel,
    namespace: String,
    lease: Option<Arc<Lease>>,
}

/// A lease, given back when the last who holds it is done or gives up.
#[derive(Debug)]
struct Lease {
    id: String,
    channel: Channel,
    namespace: String,
}

impl Drop for Lease {
    fn drop(&mut self) {
        let (channel, namespace) = (self.channel.clone(), std::mem::take(&mut self.namespace));
        let holder = Containerd { channel, namespace, lease: None };
        let id = std::mem::take(&mut self.id);
        // At the end of the process the lease is left to expire.
        if tokio::runtime::Handle::try_current().is_ok() {
            daemon::tasks::spawn("lease", holder.end_lease(id));
        }
    }
}

impl Containerd {
    /// Connects to the socket.
    ///
    /// # Errors
    /// When nothing listens there.
    pub async fn connect(socket: &Path, namespace: &str) -> Result<Self, RuntimeError> {
        let channel = containerd_client::connect(socket)
            .await
            .map_err(|source| RuntimeError::Connect { path: socket.to_owned(), source })?;
        Ok(Self { channel, namespace: namespace.to_owned(), lease: None })
    }

    /// The containerd namespace that requests go to.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// A request in our namespace, which fails when containerd does not answer in
    /// [`LIMIT`]: a shim that hangs costs one try, not the pod.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = self.open_ended(message);
        request.set_timeout(LIMIT);
        request
    }

    /// A request whose answer may take as long as it takes: the end of a process, or
    /// a stream.
    pub(crate) fn open_ended<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let metadata = request.metadata_mut();
        if let Ok(value) = self.namespace.parse() {
            metadata.insert("containerd-namespace", value);
        }
        if let Some(lease) = self.lease.as_ref().and_then(|lease| lease.id.parse().ok()) {
            metadata.insert("containerd-lease", lease);
        }
        request
    }

    /// The same connection under a new lease, which keeps what is made under it
    /// from containerd's garbage collector until the last clone is dropped (or for
    /// an hour, if we die).
    ///
    /// # Errors
    /// When containerd refuses.
    pub(crate) async fn with_lease(&self) -> Result<Self, RuntimeError> {
        let id = format!("corten-{}", uuid::Uuid::new_v4());
        let expires = crate::time::now() + jiff::SignedDuration::from_hours(1);
        let create = services::CreateRequest {
            id: id.clone(),
            labels: [("containerd.io/gc.expire".to_owned(), expires.to_string())].into(),
        };
        services::leases_client::LeasesClient::new(self.channel.clone())
            .create(self.request(create))
            .await
            .map_err(failed("create lease"))?;
        let lease = Lease { id, channel: self.channel.clone(), namespace: self.namespace.clone() };
        Ok(Self { lease: Some(Arc::new(lease)), ..self.clone() })
    }

    /// Whether what is made through this connection is kept by a lease.
    pub(crate) const fn has_lease(&self) -> bool {
        self.lease.is_some()
    }

    /// Gives the lease back. A failure is harmless: the lease expires.
    async fn end_lease(self, id: String) {
        let request = self.request(services::DeleteRequest { id, sync: false });
        if let Err(status) =
            services::leases_client::LeasesClient::new(self.channel.clone()).delete(request).await
        {
            tracing::debug!(error = status.message(), "lease not given back");
        }
    }

    pub(crate) fn containers(&self) -> services::containers_client::ContainersClient<Channel> {
        services::containers_client::ContainersClient::new(self.channel.clone())
            .max_decoding_message_size(LARGEST_ANSWER)
    }

    pub(crate) fn tasks(&self) -> services::tasks_client::TasksClient<Channel> {
        services::tasks_client::TasksClient::new(self.channel.clone())
            .max_decoding_message_size(LARGEST_ANSWER)
    }

    pub(crate) fn snapshots(&self) -> services::snapshots::snapshots_client::SnapshotsClient<Channel> {
        services::snapshots::snapshots_client::SnapshotsClient::new(self.channel.clone())
            .max_decoding_message_size(LARGEST_ANSWER)
    }

    pub(crate) fn content(&self) -> services::content_client::ContentClient<Channel> {
        services::content_client::ContentClient::new(self.channel.clone())
            .max_decoding_message_size(LARGEST_ANSWER)
    }

    pub(crate) fn images(&self) -> services::images_client::ImagesClient<Channel> {
        services::images_client::ImagesClient::new(self.channel.clone())
            .max_decoding_message_size(LARGEST_ANSWER)
    }

    pub(crate) fn diff(&self) -> services::diff_client::DiffClient<Channel> {
        services::diff_client::DiffClient::new(self.channel.clone())
    }

    pub(crate) fn events(&self) -> services::events_client::EventsClient<Channel> {
        services::events_client::EventsClient::new(self.channel.clone())
    }

    /// Makes our namespace exist.
    ///
    /// # Errors
    /// When containerd refuses.
    pub async fn ensure_namespace(&self) -> Result<(), RuntimeError> {
        let namespace =
            services::Namespace { name: self.namespace.clone(), ..services::Namespace::default() };
        let request = services::CreateNamespaceRequest { namespace: Some(namespace) };
        let created = services::namespaces_client::NamespacesClient::new(self.channel.clone())
            .create(self.request(request))
            .await
            .map_err(failed("create namespace"));
        match created {
            Err(error) if !error.already_exists() => Err(error),
            _ => Ok(()),
        }
    }

    /// containerd's version, without a leading `v`.
    ///
    /// # Errors
    /// When containerd does not answer.
    pub async fn version(&self) -> Result<String, RuntimeError> {
        let answer = services::version_client::VersionClient::new(self.channel.clone())
            .version(self.request(()))
            .await
            .map_err(failed("version"))?;
        let version = answer.into_inner().version;
        Ok(version.split('~').next().unwrap_or_default().trim_start_matches('v').to_owned())
    }
}

/// containerd's time as ours.
pub(crate) fn timestamp(time: Option<&prost_types::Timestamp>) -> Option<jiff::Timestamp> {
    let time = time?;
    jiff::Timestamp::new(time.seconds, time.nanos).ok().filter(|_| time.seconds > 0)
}
