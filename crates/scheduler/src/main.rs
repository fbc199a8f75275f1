//! `kube-scheduler`.

use scheduler::config::Settings;

fn main() -> anyhow::Result<()> {
    let settings = Settings::parse()?;
    let common = settings.flags.common.clone();
    daemon::run(
        &common,
        |shell| async move { scheduler::assemble(&settings, &shell).await?.finished().await },
    )
}
