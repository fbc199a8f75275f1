//! `kube-proxy`.

use kube_proxy::config::Flags;

fn main() -> anyhow::Result<()> {
    let flags: Flags = daemon::config::parse()?;
    let common = flags.common.clone();
    daemon::run(&common, |shell| async move { kube_proxy::assemble(&flags, &shell).await })
}
