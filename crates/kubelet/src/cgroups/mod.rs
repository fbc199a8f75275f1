//! Control groups: the tree `kubepods[/burstable|/besteffort]/pod<uid>` under a
//! configurable root, on the first and the second version of the kernel's
//! interface.
//!
//! Containers' own groups are made by runc; this module knows their parents,
//! and reads usage. What to write is computed as values by [`limits`]; the
//! files under the mount point are the only IO.

pub mod limits;
#[cfg(test)]
mod tests;
pub mod usage;

use std::io;
use std::path::{Path, PathBuf};

use api::types::core::v1::Pod;

use crate::pod::{self, QosClass};
use limits::Setting;

/// Which interface the kernel offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// One hierarchy per controller.
    V1,
    /// One hierarchy for all.
    V2,
}

/// The control group file system.
#[derive(Clone, Debug)]
pub struct Cgroups {
    mount: PathBuf,
    version: Version,
    root: String,
}

impl Cgroups {
    /// Finds out the version by what is mounted, as every container tool does.
    /// `root` is the group under which everything of this kubelet lives.
    #[must_use]
    pub fn detect(mount: &Path, root: &str) -> Self {
        let version = if mount.join("cgroup.controllers").exists() { Version::V2 } else { Version::V1 };
        let root = root.trim_matches('/');
        Self { mount: mount.to_owned(), version, root: root.to_owned() }
    }

    /// The interface in use.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.version
    }

    /// The path of a group relative to the hierarchy, with a leading slash.
    fn path(&self, below: &str) -> String {
        if self.root.is_empty() { format!("/{below}") } else { format!("/{}/{below}", self.root) }
    }

    /// The group of all pods.
    #[must_use]
    pub fn all_pods(&self) -> String {
        self.path("kubepods")
    }

    /// A pod's group.
    #[must_use]
    pub fn of_pod(&self, uid: &str, qos: QosClass) -> String {
        match qos {
            QosClass::Guaranteed => self.path(&format!("kubepods/pod{uid}")),
            QosClass::Burstable => self.path(&format!("kubepods/burstable/pod{uid}")),
            QosClass::BestEffort => self.path(&format!("kubepods/besteffort/pod{uid}")),
        }
    }

    /// The directories of a group in every hierarchy that is mounted.
    fn directories(&self, group: &str) -> Vec<PathBuf> {
        let group = group.trim_start_matches('/');
        match self.version {
            Version::V2 => vec![self.mount.join(group)],
            Version::V1 => {
                hierarchies(&self.mount).into_iter().map(|hierarchy| hierarchy.join(group)).collect()
            }
        }
    }

    /// Makes a pod's group and sets its limits; doing it again is harmless.
    ///
    /// # Errors
    /// When a directory cannot be made or a limit cannot be set.
    pub fn ensure_pod(&self, pod: &Pod) -> io::Result<()> {
        let id = pod::id(pod);
        let group = self.of_pod(&id.uid, pod::qos_class(pod));
        self.create(&group)?;
        self.set(&group, &limits::of_pod(pod, self.version))
    }

    /// Makes the groups of the quality-of-service classes.
    ///
    /// # Errors
    /// When a directory cannot be made.
    pub fn ensure_tree(&self) -> io::Result<()> {
        for name in ["kubepods", "kubepods/burstable", "kubepods/besteffort"] {
            self.create(&self.path(name))?;
        }
        let best_effort = limits::best_effort(self.version);
        self.set(&self.path("kubepods/besteffort"), &best_effort)
    }

    fn create(&self, group: &str) -> io::Result<()> {
        if self.version == Version::V2 {
            return self.create_v2(group);
        }
        for controller in ["cpu", "cpuacct", "memory", "pids"] {
            let hierarchy = self.mount.join(controller);
            if hierarchy.is_dir() {
                std::fs::create_dir_all(hierarchy.join(group.trim_start_matches('/')))?;
            }
        }
        Ok(())
    }

    /// Each level hands the controllers on to the next.
    fn create_v2(&self, group: &str) -> io::Result<()> {
        let mut directory = self.mount.clone();
        for part in group.split('/').filter(|part| !part.is_empty()) {
            delegate(&directory)?;
            directory.push(part);
            match std::fs::create_dir(&directory) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        delegate(&directory)
    }

    fn set(&self, group: &str, settings: &[Setting]) -> io::Result<()> {
        for setting in settings {
            let directory = match self.version {
                Version::V1 => self.mount.join(setting.controller),
                Version::V2 => self.mount.clone(),
            };
            let file = directory.join(group.trim_start_matches('/')).join(setting.file);
            if file.exists() {
                std::fs::write(&file, &setting.value).map_err(|error| {
                    io::Error::new(
                        error.kind(),
                        format!("write {} to {}: {error}", setting.value, file.display()),
                    )
                })?;
            }
        }
        Ok(())
    }

    /// Removes a pod's group, wherever it is, with everything below it.
    ///
    /// # Errors
    /// When processes are still in it.
    pub fn remove_pod(&self, uid: &str) -> io::Result<()> {
        for qos in [QosClass::Guaranteed, QosClass::Burstable, QosClass::BestEffort] {
            for directory in self.directories(&self.of_pod(uid, qos)) {
                remove_tree(&directory)?;
            }
        }
        Ok(())
    }

    /// Removes the whole tree of this kubelet, for tests and for the end of a
    /// development node.
    ///
    /// # Errors
    /// When processes are still in it.
    pub fn remove_all(&self) -> io::Result<()> {
        let top = if self.root.is_empty() { self.all_pods() } else { format!("/{}", self.root) };
        for directory in self.directories(&top) {
            remove_tree(&directory)?;
        }
        Ok(())
    }

    /// The uids of pods that have a group.
    #[must_use]
    pub fn pods(&self) -> Vec<String> {
        let mut uids = Vec::new();
        for group in ["kubepods", "kubepods/burstable", "kubepods/besteffort"] {
            for directory in self.directories(&self.path(group)) {
                for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
                    if let Some(uid) = entry.file_name().to_str().and_then(|name| name.strip_prefix("pod")) {
                        uids.push(uid.to_owned());
                    }
                }
            }
        }
        uids.sort();
        uids.dedup();
        uids
    }
}

/// The mounted hierarchies of version 1.
fn hierarchies(mount: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(mount).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

/// Enables every available controller for the children of a group.
fn delegate(directory: &Path) -> io::Result<()> {
    let available = std::fs::read_to_string(directory.join("cgroup.controllers"))?;
    for controller in available.split_whitespace() {
        if ["cpu", "cpuset", "io", "memory", "pids", "hugetlb"].contains(&controller) {
            let wanted = format!("+{controller}");
            // A controller that cannot be delegated (a process lives in the
            // group, or it is in use elsewhere) costs its limits, not the pod.
            if let Err(error) = std::fs::write(directory.join("cgroup.subtree_control"), &wanted) {
                tracing::debug!(group = %directory.display(), controller, error = %error, "controller not delegated");
            }
        }
    }
    Ok(())
}

/// Removes groups bottom up; their files go with them.
fn remove_tree(directory: &Path) -> io::Result<()> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Ok(()) };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path())?;
        }
    }
    match std::fs::remove_dir(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(io::Error::new(error.kind(), format!("remove {}: {error}", directory.display())))
        }
        _ => Ok(()),
    }
}
