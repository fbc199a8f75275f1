//! The flags of the scheduler, with upstream's names.

use std::path::PathBuf;

use clap::{ArgAction, Parser};
use daemon::shell::CommonFlags;

/// The scheduler of pods that name none.
pub const DEFAULT_SCHEDULER: &str = "default-scheduler";

/// Gives pods their nodes.
#[derive(Clone, Debug, Parser)]
#[command(name = "kube-scheduler", version)]
pub struct Flags {
    /// What every daemon has.
    #[command(flatten)]
    pub common: CommonFlags,
    /// How to reach the API server.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: PathBuf,
    /// Work only while holding the lease that all schedulers of the cluster share.
    #[arg(long, default_value_t = true, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub leader_elect: bool,
    /// The name of this instance in that lease; a random one where none is given.
    #[arg(long, value_name = "NAME")]
    pub leader_elect_identity: Option<String>,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leader_election_is_on_unless_switched_off() {
        let parse = |more: &[&str]| {
            let base = ["kube-scheduler", "--kubeconfig=k"];
            Flags::try_parse_from(base.iter().chain(more)).expect("parses").leader_elect
        };
        assert!(parse(&[]) && parse(&["--leader-elect"]) && parse(&["--leader-elect=true"]));
        assert!(!parse(&["--leader-elect=false"]));
        assert!(Flags::try_parse_from(["kube-scheduler"]).is_err());
    }
}
