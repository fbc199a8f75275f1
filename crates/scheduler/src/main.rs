//! `kube-scheduler`.

use scheduler::config::Flags;

fn main() -> anyhow::Result<()> {
    let flags: Flags = daemon::config::parse()?;
    let common = flags.common.clone();
    daemon::run(&common, |shell| async move { scheduler::assemble(&flags, &shell).await?.finished().await })
}
