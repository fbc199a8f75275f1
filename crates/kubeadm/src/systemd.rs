//! Writes units, and tells systemd about them, through `systemctl`.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::units::Unit;

const POLL: Duration = Duration::from_millis(100);

/// Runs `systemctl`.
///
/// # Errors
/// What it says.
pub fn systemctl(arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new("systemctl").args(arguments).output().context("run systemctl")?;
    if !output.status.success() {
        bail!("systemctl {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Writes units and has systemd read them.
///
/// # Errors
/// A file cannot be written.
pub fn write(folder: &Path, units: &[Unit]) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    for unit in units {
        let path = folder.join(&unit.name);
        fs::write(&path, &unit.text).with_context(|| format!("write {}", path.display()))?;
    }
    systemctl(&["daemon-reload"]).map(drop)
}

/// A property of a unit.
fn property(unit: &str, name: &str) -> String {
    let shown = systemctl(&["show", "--property", name, "--value", unit]);
    shown.map(|text| text.trim().to_owned()).unwrap_or_default()
}

/// Whether a unit runs and has said that it is ready.
#[must_use]
pub fn is_active(unit: &str) -> bool {
    property(unit, "ActiveState") == "active"
}

/// Starts a unit now and at each boot, and waits until it says that it is ready.
///
/// # Errors
/// It is not ready in time; the message has its last words.
pub async fn start(unit: &str, patience: Duration) -> anyhow::Result<()> {
    systemctl(&["enable", "--quiet", unit])?;
    systemctl(&["start", "--no-block", unit])?;
    let ready = async {
        while !is_active(unit) {
            tokio::time::sleep(POLL).await;
        }
    };
    if tokio::time::timeout(patience, ready).await.is_ok() {
        return Ok(());
    }
    bail!(
        "{unit} is not ready after {} seconds; its last words (more with: journalctl -u {unit}):\n{}",
        patience.as_secs(),
        last_words(unit)
    )
}

fn last_words(unit: &str) -> String {
    let output =
        Command::new("journalctl").args(["--no-pager", "--lines=10", "--output=cat", "-u", unit]).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().map(|line| format!("    {line}\n")).collect()
}

/// Stops units and removes them; those that are not there are no error.
///
/// # Errors
/// A file cannot be removed.
pub fn remove(folder: &Path, names: &[String]) -> anyhow::Result<()> {
    let present: Vec<&str> =
        names.iter().filter(|name| folder.join(name).exists()).map(String::as_str).collect();
    for name in &present {
        // One that cannot be stopped must not keep the others.
        if let Err(error) = systemctl(&["disable", "--quiet", "--now", name]) {
            tracing::warn!(unit = name, error = format!("{error:#}"), "not stopped");
        }
        let path = folder.join(name);
        fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
    }
    if present.is_empty() {
        return Ok(());
    }
    systemctl(&["daemon-reload"])?;
    // A unit that failed would be remembered.
    for name in present {
        if let Err(error) = systemctl(&["reset-failed", name]) {
            tracing::debug!(unit = name, error = format!("{error:#}"), "nothing to forget");
        }
    }
    Ok(())
}
