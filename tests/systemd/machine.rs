//! One host: a Debian with systemd as its first process, in a container of
//! `systemd-nspawn`. Everything of it is gone when it is dropped.

use std::cell::RefCell;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::fabric::{BRIDGE, Fabric, GATEWAY};
use crate::{now, wait};

/// How long a host may take to end.
const GRACE: Duration = Duration::from_secs(20);
/// Inside such a container the first version's controllers are mounted read-only.
const WRITABLE_CGROUPS: &str = "\
[Unit]
DefaultDependencies=no
Before=containerd.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'for one in /sys/fs/cgroup/*/; do mount -o remount,rw,bind $one || true; done'
";

pub(crate) struct Machine {
    name: String,
    folder: TempDir,
    command: RefCell<Command>,
    process: RefCell<Child>,
    cgroups: Vec<PathBuf>,
}

impl Machine {
    /// Starts host number `number`, with folders of this machine bound into it.
    pub(crate) fn boot(
        number: u8,
        base: &Path,
        fabric: &Fabric,
        binds: &[(&Path, &str)],
    ) -> anyhow::Result<Self> {
        let name = format!("host{number}");
        // Containers' layers cannot lie on an overlay, nor on a tmpfs.
        let folder = tempfile::Builder::new().prefix("corten-systemd-").tempdir_in("/var/tmp")?;
        let unique = format!("corten-{}-{name}", std::process::id());
        let root = folder.path().join("root");
        for part in ["root", "upper", "work", "containerd"] {
            fs::create_dir(folder.path().join(part)).context("make a host's folder")?;
        }
        let options = format!(
            "lowerdir={},upperdir={1}/upper,workdir={1}/work",
            base.display(),
            folder.path().display()
        );
        mount(Some("overlay"), &root, Some("overlay"), MsFlags::empty(), Some(options.as_str()))
            .context("mount a host's overlay")?;
        let prepared = configure(&root, &name, number).and_then(|()| make_cgroups(&unique));
        let started = prepared.and_then(|cgroups| {
            let mut command = nspawn(&root, &unique, fabric, folder.path(), binds, &cgroups);
            let log = fs::File::create(folder.path().join("log")).context("make a host's log")?;
            let process = command.stderr(log).spawn().context("start systemd-nspawn")?;
            Ok((command, process, cgroups))
        });
        match started {
            Ok((command, process, cgroups)) => {
                let (command, process) = (RefCell::new(command), RefCell::new(process));
                Ok(Self { name, folder, command, process, cgroups })
            }
            Err(error) => {
                // The folder must not be removed through the mount.
                let _ = umount2(&root, MntFlags::MNT_DETACH);
                Err(error)
            }
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The host's first process.
    fn first_process(&self) -> anyhow::Result<i32> {
        let path = format!("/proc/{0}/task/{0}/children", self.process.borrow().id());
        let children = fs::read_to_string(path).context("the host has ended")?;
        let is_systemd = |pid: &&str| {
            fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "systemd")
        };
        let first = children.split_whitespace().find(is_systemd).context("the host has not started yet")?;
        Ok(first.parse()?)
    }

    fn inside(&self, script: &str) -> anyhow::Result<std::process::Output> {
        let first = self.first_process()?.to_string();
        Command::new("nsenter")
            .args(["--target", &first, "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--"])
            .args([
                "env",
                "-i",
                "PATH=/opt/corten:/usr/sbin:/usr/bin:/sbin:/bin",
                "HOME=/root",
                "sh",
                "-c",
                script,
            ])
            .stdin(Stdio::null())
            .output()
            .context("run nsenter")
    }

    /// Runs a command as root on the host and returns what it printed.
    pub(crate) fn run(&self, script: &str) -> anyhow::Result<String> {
        let output = self.inside(script)?;
        let (said, complained) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success(), "{}: {script}: {}\n{said}{complained}", self.name, output.status);
        Ok(said.into_owned())
    }

    /// Runs a command that must fail, and returns its complaint.
    pub(crate) fn refused(&self, script: &str) -> anyhow::Result<String> {
        let output = self.inside(script)?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(!output.status.success(), "{}: {script} did not fail:\n{said}", self.name);
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Shuts the host down, and boots it again.
    pub(crate) fn reboot(&self) -> anyhow::Result<()> {
        self.run("systemctl --no-block poweroff")?;
        wait(&format!("{} shuts down", self.name), || Ok(self.process.borrow_mut().try_wait()?.is_some()))?;
        // The process before has ended and was waited for.
        *self.process.borrow_mut() =
            self.command.borrow_mut().spawn().context("start systemd-nspawn again")?;
        self.wait_until_booted()
    }

    /// Writes a file on the host.
    pub(crate) fn write(&self, path: &str, text: &str) -> anyhow::Result<()> {
        let path = format!("/proc/{}/root{path}", self.first_process()?);
        fs::write(&path, text).with_context(|| format!("write {path}"))
    }

    pub(crate) fn wait_until_booted(&self) -> anyhow::Result<()> {
        wait(&format!("{} boots", self.name), || {
            Ok(self.inside("systemctl is-system-running")?.stdout.starts_with(b"running"))
        })
        .with_context(|| {
            format!("failed units: {:?}", self.run("systemctl --failed --no-legend").unwrap_or_default())
        })
    }

    pub(crate) fn last_words(&self) -> String {
        let script = "systemctl --no-pager --no-legend --failed; \
                      journalctl --no-pager --lines=150 --output=short-precise -u 'kube*' -u containerd";
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        log + &self.run(script).unwrap_or_else(|error| format!("{error:#}"))
    }

    fn end(&mut self) {
        let process = self.process.get_mut();
        let pid = Pid::from_raw(i32::try_from(process.id()).unwrap_or_default());
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            // It may have ended by itself.
            let _ = kill(pid, signal);
            let begun = now();
            while begun.elapsed() < GRACE {
                if matches!(process.try_wait(), Ok(Some(_)) | Err(_)) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.end();
        let root = self.folder.path().join("root");
        if let Err(error) = umount2(&root, MntFlags::MNT_DETACH) {
            eprintln!("cannot unmount {}: {error}", root.display());
        }
        for cgroup in &self.cgroups {
            let begun = now();
            // The kernel may still be taking the last processes away.
            while cgroup.exists() && remove_cgroup(cgroup).is_err() && begun.elapsed() < GRACE {
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }
}

fn configure(root: &Path, name: &str, number: u8) -> anyhow::Result<()> {
    let units = root.join("etc/systemd/system");
    let wanted = units.join("multi-user.target.wants");
    let networks = root.join("etc/systemd/network");
    let settings = root.join("etc/systemd/system.conf.d");
    for folder in [&wanted, &networks, &settings] {
        fs::create_dir_all(folder)?;
    }
    let network = format!(
        "[Match]\nName=host0\n[Network]\nAddress=10.211.0.{number}/24\nGateway={GATEWAY}\n\
         LinkLocalAddressing=no\nIPv6AcceptRA=no\n"
    );
    for (path, text) in [
        (root.join("etc/hostname"), format!("{name}\n")),
        (root.join("etc/hosts"), format!("127.0.0.1 localhost {name}\n")),
        (root.join("etc/machine-id"), String::new()),
        (networks.join("10-host0.network"), network),
        // Pods that do not listen to SIGTERM hold a shutdown up for this long.
        (settings.join("stop.conf"), "[Manager]\nDefaultTimeoutStopSec=5s\n".to_owned()),
        (units.join("writable-cgroups.service"), WRITABLE_CGROUPS.to_owned()),
    ] {
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    }
    let resolver = root.join("etc/resolv.conf");
    if resolver.is_symlink() || resolver.exists() {
        fs::remove_file(&resolver).context("replace resolv.conf")?;
    }
    fs::write(&resolver, format!("nameserver {GATEWAY}\n")).context("write resolv.conf")?;
    let link = |unit: &str, target: &str| std::os::unix::fs::symlink(target, wanted.join(unit));
    link("writable-cgroups.service", "../writable-cgroups.service").context("enable a unit")?;
    link("systemd-networkd.service", "/lib/systemd/system/systemd-networkd.service").context("enable a unit")
}

/// A cgroup of its own in each hierarchy: what the host takes for the root.
fn make_cgroups(name: &str) -> anyhow::Result<Vec<PathBuf>> {
    let mount = Path::new("/sys/fs/cgroup");
    if mount.join("cgroup.controllers").exists() {
        let own = mount.join(name);
        fs::create_dir(&own).with_context(|| format!("make {}", own.display()))?;
        return Ok(vec![own]);
    }
    let mut made = Vec::new();
    for entry in fs::read_dir(mount)? {
        let hierarchy = entry?.path();
        if !hierarchy.join("cgroup.procs").exists() || hierarchy.is_symlink() {
            continue;
        }
        let own = hierarchy.join(name);
        fs::create_dir(&own).with_context(|| format!("make {}", own.display()))?;
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if let Ok(value) = fs::read(hierarchy.join(file)) {
                fs::write(own.join(file), value).with_context(|| format!("set {file}"))?;
            }
        }
        if own.join("cgroup.clone_children").exists() {
            fs::write(own.join("cgroup.clone_children"), "1").context("set cgroup.clone_children")?;
        }
        made.push(own);
    }
    Ok(made)
}

fn remove_cgroup(folder: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            remove_cgroup(&path)?;
        }
    }
    fs::remove_dir(folder)
}

/// The container's command, which first puts itself into its cgroups.
fn nspawn(
    root: &Path,
    unique: &str,
    fabric: &Fabric,
    folder: &Path,
    binds: &[(&Path, &str)],
    cgroups: &[PathBuf],
) -> Command {
    const ENTER: &str =
        "while [ \"$1\" != -- ]; do echo $$ > \"$1/cgroup.procs\"; shift; done; shift; exec \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-e", "-c", ENTER, "sh"]).args(cgroups).arg("--");
    command.args(["nsenter", &format!("--net=/run/netns/{}", fabric.namespace())]);
    command.args(["systemd-nspawn", "--quiet", "--boot", "--register=no", "--keep-unit", "--console=pipe"]);
    command.args(["--link-journal=no", "--capability=all", "--system-call-filter=add_key keyctl bpf"]);
    command.arg("--kill-signal=SIGRTMIN+3");
    command.arg(format!("--directory={}", root.display()));
    command.arg(format!("--machine={unique}"));
    command.arg(format!("--network-bridge={BRIDGE}"));
    command.arg(format!("--bind={}:/var/lib/containerd", folder.join("containerd").display()));
    for (from, to) in binds {
        command.arg(format!("--bind-ro={}:{to}", from.display()));
    }
    command.stdin(Stdio::null()).stdout(Stdio::null());
    // A signal to the test's group must not end the host before it is taken down.
    command.process_group(0);
    command
}
