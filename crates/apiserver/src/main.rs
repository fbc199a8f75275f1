//! `kube-apiserver`.

use apiserver::config::Flags;

/// See docs/decisions/0013.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> anyhow::Result<()> {
    let flags: Flags = daemon::config::parse()?;
    let common = flags.common.clone();
    daemon::run(&common, |shell| async move {
        let running = apiserver::assemble(&flags, &shell).await?;
        tracing::info!(address = %running.address, "serving");
        shell.ready();
        shell.shutdown.begun().await;
        running.finished().await
    })
}
