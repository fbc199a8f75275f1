//! `kube-dns`.

use kube_dns::config::Flags;

fn main() -> anyhow::Result<()> {
    let flags: Flags = daemon::config::parse()?;
    let common = flags.common.clone();
    daemon::run(&common, |shell| async move { kube_dns::assemble(&flags, &shell).await?.finished().await })
}
