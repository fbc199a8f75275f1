//! Start and stop hooks.

use std::time::Duration;

use api::types::core::v1::LifecycleHandler;

use crate::probes::check::{self, Target};
use crate::runtime::Runtime;

/// Runs a hook within a time.
///
/// # Errors
/// What went wrong.
pub async fn run(
    runtime: &Runtime,
    hook: &LifecycleHandler,
    target: &Target<'_>,
    limit: Duration,
) -> Result<(), String> {
    if let Some(exec) = &hook.exec {
        return check::exec_command(
            runtime,
            target.container,
            exec.command.as_deref().unwrap_or_default(),
            limit,
        )
        .await;
    }
    let work = async {
        if let Some(http) = &hook.http_get {
            check::http_get(http, target).await
        } else if let Some(sleep) = &hook.sleep {
            tokio::time::sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or_default())).await;
            Ok(())
        } else {
            Err("the hook names no action".to_owned())
        }
    };
    tokio::time::timeout(limit, work)
        .await
        .unwrap_or_else(|_| Err(format!("hook did not end within {limit:?}")))
}
