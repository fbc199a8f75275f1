//! The file system that both hosts boot from: made once, kept outside of the
//! repository, made anew where it is missing.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, ensure};

const FOLDER: &str = "/var/cache/corten";
/// Part of the name: other packages are another base.
const NAME: &str = "systemd-bookworm-1";
const PACKAGES: &str = "systemd,systemd-sysv,dbus,containerd,runc,containernetworking-plugins,nftables,conntrack,\
                        iproute2,iptables,util-linux,procps,kmod,busybox-static";

/// The base's folder.
pub(crate) fn ensure() -> anyhow::Result<PathBuf> {
    fs::create_dir_all(FOLDER).with_context(|| format!("create {FOLDER}"))?;
    let lock = File::create(format!("{FOLDER}/lock")).context("open the lock of the base")?;
    lock.lock().context("wait for whoever makes the base")?;
    let folder = PathBuf::from(FOLDER).join(NAME);
    if folder.exists() {
        return Ok(folder);
    }
    eprintln!("making the hosts' base in {} (once; some minutes)", folder.display());
    let unfinished = folder.with_extension("unfinished");
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).context("remove a base that was not finished")?;
    }
    let output = Command::new("debootstrap")
        .args(["--variant=minbase", &format!("--include={PACKAGES}"), "bookworm"])
        .arg(&unfinished)
        .output()
        .context("run debootstrap; deploy/install-packages installs it")?;
    let said = String::from_utf8_lossy(&output.stdout);
    let last: Vec<_> = said.lines().rev().take(10).collect();
    ensure!(output.status.success(), "debootstrap failed; its last lines, last first: {last:#?}");
    fs::rename(&unfinished, &folder).context("put the base in its place")?;
    Ok(folder)
}
