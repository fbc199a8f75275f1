//! `kube-controller-manager`.

use controller_manager::flags::Flags;

fn main() -> anyhow::Result<()> {
    let flags: Flags = daemon::config::parse()?;
    let common = flags.common.clone();
    daemon::run(&common, |shell| controller_manager::run(flags, shell))
}
