//! What can be told to the scheduler: flags, with upstream's names, and the
//! configuration file that `--config` names, in upstream's format.

mod duration;
pub mod file;
mod profiles;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Parser;
use client::election::Election;
use daemon::shell::CommonFlags;

pub use self::file::Configuration;
pub use self::profiles::profiles;

/// The scheduler of pods that name none.
pub const DEFAULT_SCHEDULER: &str = "default-scheduler";

/// Gives pods their nodes.
#[derive(Clone, Debug, Parser)]
#[command(name = "kube-scheduler", version)]
pub struct Flags {
    /// What every daemon has.
    #[command(flatten)]
    pub common: CommonFlags,
    /// How to reach the API server; the configuration file may say it instead.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Work only while holding the lease that all schedulers of the cluster share; true unless
    /// the configuration file says otherwise.
    #[arg(long, num_args = 0..=1, default_missing_value = "true")]
    pub leader_elect: Option<bool>,
    /// The name of this instance in that lease; a random one where none is given.
    #[arg(long, value_name = "NAME")]
    pub leader_elect_identity: Option<String>,
}

/// Flags and file together.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The flags.
    pub flags: Flags,
    /// The file; the default where there is none.
    pub file: Configuration,
}

impl Settings {
    /// Reads the process's arguments. The file is a `KubeSchedulerConfiguration`,
    /// or, as for every daemon, one of flags.
    ///
    /// # Errors
    /// A file that cannot be read, or says what cannot be done.
    pub fn parse() -> anyhow::Result<Self> {
        let arguments: Vec<String> = std::env::args().collect();
        let path = config_path(&arguments);
        let file = path.map(|path| Configuration::read(Path::new(path))).transpose()?.flatten();
        let flags = match file {
            Some(_) => Flags::parse(),
            None => daemon::config::parse()?,
        };
        Ok(Self { flags, file: file.unwrap_or_default() })
    }

    /// How to reach the API server.
    ///
    /// # Errors
    /// Nothing says it.
    pub fn kubeconfig(&self) -> anyhow::Result<&Path> {
        let path = self.flags.kubeconfig.as_ref().or(self.file.client_connection.kubeconfig.as_ref());
        path.map(PathBuf::as_path).context(
            "no kubeconfig: give --kubeconfig, or clientConnection.kubeconfig in the configuration file",
        )
    }

    /// The election to win before work; `None`: there is none.
    #[must_use]
    pub fn election(&self) -> Option<Election> {
        let file = &self.file.leader_election;
        if !self.flags.leader_elect.or(file.leader_elect).unwrap_or(true) {
            return None;
        }
        let name = file.resource_name.as_deref().unwrap_or("kube-scheduler");
        let usual = Election::new(name, &self.flags.identity());
        Some(Election {
            namespace: file.resource_namespace.clone().unwrap_or(usual.namespace),
            lease: file.lease_duration.unwrap_or(usual.lease),
            renew_deadline: file.renew_deadline.unwrap_or(usual.renew_deadline),
            retry: file.retry_period.unwrap_or(usual.retry),
            ..usual
        })
    }
}

impl Flags {
    /// The name of this instance.
    #[must_use]
    pub fn identity(&self) -> String {
        self.leader_elect_identity.clone().unwrap_or_else(|| {
            let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
            format!("{}_{:016x}", host.trim(), rand::random::<u64>())
        })
    }
}

/// What `--config` says last.
fn config_path(arguments: &[String]) -> Option<&str> {
    let pairs = arguments.windows(2).filter(|pair| pair[0] == "--config").map(|pair| pair[1].as_str());
    let joined = arguments.iter().filter_map(|argument| argument.strip_prefix("--config="));
    joined.chain(pairs).last()
}
