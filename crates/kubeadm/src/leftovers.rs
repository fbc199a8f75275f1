//! Removing what daemons and containers leave behind when they end: mounts and
//! cgroups.

use std::fs;
use std::path::Path;

use anyhow::Context as _;

/// Unmounts everything below a folder, the innermost first.
///
/// # Errors
/// The table of mounts cannot be read.
pub fn unmount_below(folder: &Path) -> anyhow::Result<()> {
    let prefix = format!("{}/", folder.display());
    for _ in 0..3 {
        let table = fs::read_to_string("/proc/self/mounts").context("read the mounts")?;
        let mut points: Vec<String> = table
            .lines()
            .filter_map(|line| line.split(' ').nth(1))
            .map(|point| point.replace("\\040", " "))
            .filter(|point| point.starts_with(&prefix))
            .collect();
        if points.is_empty() {
            return Ok(());
        }
        points.sort_by_key(|point| std::cmp::Reverse(point.len()));
        for point in points {
            if let Err(error) = nix::mount::umount2(point.as_str(), nix::mount::MntFlags::MNT_DETACH) {
                tracing::debug!(%point, %error, "cannot unmount");
            }
        }
    }
    Ok(())
}

/// Removes the cgroups of a cluster from every hierarchy.
pub fn remove_cgroups(root: &str) {
    let name = root.trim_start_matches('/');
    let base = Path::new("/sys/fs/cgroup");
    let mut tops = vec![base.join(name)];
    tops.extend(fs::read_dir(base).into_iter().flatten().flatten().map(|entry| entry.path().join(name)));
    for top in tops.into_iter().filter(|top| top.is_dir()) {
        remove_cgroup(&top);
    }
}

fn remove_cgroup(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_cgroup(&entry.path());
        }
    }
    if let Err(error) = fs::remove_dir(folder) {
        tracing::debug!(cgroup = %folder.display(), %error, "cannot remove");
    }
}
