//! What the container runtime says about a pod, as plain values: the input of
//! every decision, read anew from containerd whenever something changed.

use std::net::IpAddr;

use jiff::Timestamp;

use crate::pod::Role;

/// A pod's sandbox: the namespaces that its containers share, pinned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandbox {
    /// The sandbox's id in the runtime.
    pub id: String,
    /// How many sandboxes the pod had before this one.
    pub attempt: u32,
    /// When it was made.
    pub created_at: Timestamp,
    /// Whether its namespaces exist (they do not survive a reboot) and its
    /// network is set up.
    pub is_ready: bool,
    /// The pod's addresses; empty with the host's network.
    pub addresses: Vec<IpAddr>,
}

/// A container as the runtime knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The container's id.
    pub id: String,
    /// Its name in the pod.
    pub name: String,
    /// Its role in the pod.
    pub role: Role,
    /// How often the container of that name was started before.
    pub attempt: u32,
    /// Hash of the specification it was made from.
    pub hash: String,
    /// The image as the pod names it.
    pub image: String,
    /// The image's resolved identity.
    pub image_id: String,
    /// The sandbox it runs in.
    pub sandbox_id: String,
    /// The group of containers whose shim it shares.
    pub shim: String,
    /// Seconds to wait, after its end, before its successor starts.
    pub backoff_seconds: u32,
    /// When it was made, which is when it started but for some milliseconds.
    pub created_at: Timestamp,
    /// What it does now.
    pub state: State,
}

/// What a container does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Made, not started.
    Created,
    /// Running.
    Running {
        /// Its first process.
        pid: u32,
    },
    /// Ended.
    Exited(Exit),
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Exit code; 128 and a signal's number if a signal ended it.
    pub code: i32,
    /// A word: Completed, Error, OOMKilled, `StartError`, `ContainerStatusUnknown`.
    pub reason: String,
    /// The termination message.
    pub message: Option<String>,
    /// When it ended.
    pub finished_at: Timestamp,
}

impl Record {
    /// Whether it runs, or is about to.
    #[must_use]
    pub const fn is_running(&self) -> bool {
        matches!(self.state, State::Running { .. })
    }

    /// How it ended, if it did.
    #[must_use]
    pub const fn exit(&self) -> Option<&Exit> {
        match &self.state {
            State::Exited(exit) => Some(exit),
            _ => None,
        }
    }
}

/// Everything that the runtime has of one pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Sandboxes, the newest first.
    pub sandboxes: Vec<Sandbox>,
    /// Containers, the newest of each name first.
    pub containers: Vec<Record>,
}

impl Observed {
    /// The newest container of that name.
    #[must_use]
    pub fn latest(&self, name: &str) -> Option<&Record> {
        self.containers.iter().find(|record| record.name == name)
    }

    /// The container of that name before the newest.
    #[must_use]
    pub fn previous(&self, name: &str) -> Option<&Record> {
        self.containers.iter().filter(|record| record.name == name).nth(1)
    }

    /// The sandbox in use: the newest that is ready. A newer one that is not is
    /// what a kubelet that died asked for, and containerd was late to make.
    #[must_use]
    pub fn sandbox(&self) -> Option<&Sandbox> {
        self.sandboxes.iter().find(|sandbox| sandbox.is_ready)
    }

    /// The shim that a new container can share: that of one which runs, because a
    /// shim without any is about to leave, and takes nobody in any more.
    #[must_use]
    pub fn shim(&self, sandbox: &str) -> Option<&str> {
        self.running().find(|record| record.sandbox_id == sandbox).map(|record| record.shim.as_str())
    }

    /// The containers that run.
    pub fn running(&self) -> impl Iterator<Item = &Record> {
        self.containers.iter().filter(|record| record.is_running())
    }

    /// Puts sandboxes and containers in the order that the other functions
    /// rely on.
    #[must_use]
    pub fn sorted(mut self) -> Self {
        self.sandboxes.sort_by_key(|sandbox| std::cmp::Reverse((sandbox.attempt, sandbox.created_at)));
        self.containers.sort_by_key(|record| std::cmp::Reverse((record.attempt, record.created_at)));
        self
    }
}
