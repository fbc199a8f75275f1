//! Volumes: what a pod's containers see of the host, of API objects and of
//! scratch space. Each is a directory under the pod's directory (or a path on
//! the host); what is mounted is found again from the mount table.

pub mod atomic;
pub mod projected;
pub mod subpath;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use api::types::core::v1::{Container, HostPathVolumeSource, Pod, Volume};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::cluster::{Cluster, ClusterError};
use crate::pod;
use crate::runtime::spec::{HostMount, expand};

/// A volume that cannot be had now.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// An object that it is made of.
    #[error("MountVolume.SetUp failed for volume \"{volume}\" : {source}")]
    Object {
        /// The volume's name.
        volume: String,
        /// Why.
        source: ClusterError,
    },
    /// The file system.
    #[error("MountVolume.SetUp failed for volume \"{volume}\" : {source}")]
    Io {
        /// The volume's name.
        volume: String,
        /// Why.
        source: io::Error,
    },
    /// A kind of volume, or a reference, that this node does not know.
    #[error("volume \"{volume}\": {why}")]
    Unfit {
        /// The volume's name.
        volume: String,
        /// What is wrong.
        why: String,
    },
}

/// The volumes of this node's pods.
#[derive(Clone)]
pub struct Volumes {
    root: PathBuf,
    cluster: Arc<dyn Cluster>,
}

impl Volumes {
    /// Volumes under `root`/pods/UID/volumes.
    #[must_use]
    pub const fn new(root: PathBuf, cluster: Arc<dyn Cluster>) -> Self {
        Self { root, cluster }
    }

    fn pod_directory(&self, uid: &str) -> PathBuf {
        self.root.join("pods").join(uid)
    }

    /// A volume's own directory.
    fn directory(&self, uid: &str, kind: &str, name: &str) -> PathBuf {
        self.pod_directory(uid).join("volumes").join(format!("kubernetes.io~{kind}")).join(name)
    }

    /// Makes every volume of a pod, or brings it up to date; doing it again
    /// changes only what changed in the API. Gives their paths by name.
    ///
    /// # Errors
    /// The first volume that cannot be had.
    pub async fn prepare(&self, pod: &Pod) -> Result<HashMap<String, PathBuf>, VolumeError> {
        let mut paths = HashMap::new();
        for volume in pod::spec(pod).volumes.iter().flatten() {
            paths.insert(volume.name.clone(), self.prepare_one(pod, volume).await?);
        }
        Ok(paths)
    }

    async fn prepare_one(&self, pod: &Pod, volume: &Volume) -> Result<PathBuf, VolumeError> {
        let uid = pod::id(pod).uid;
        let io = |source| VolumeError::Io { volume: volume.name.clone(), source };
        if let Some(host) = &volume.host_path {
            return host_path(host).map_err(io);
        }
        if let Some(empty) = &volume.empty_dir {
            let directory = self.directory(&uid, "empty-dir", &volume.name);
            let is_new = !directory.exists();
            std::fs::create_dir_all(&directory).map_err(io)?;
            if empty.medium.as_deref() == Some("Memory") && !is_mounted(&directory) {
                let limit = empty.size_limit.as_ref().and_then(|limit| limit.0.parse::<api::Quantity>().ok());
                let options = limit.map_or_else(
                    || "mode=1777".to_owned(),
                    |limit| format!("mode=1777,size={}", limit.units()),
                );
                let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
                mount(Some("tmpfs"), &directory, Some("tmpfs"), flags, Some(options.as_str()))
                    .map_err(|errno| io(errno.into()))?;
            }
            if is_new {
                open_up(&directory, pod).map_err(io)?;
            }
            return Ok(directory);
        }
        if let Some((kind, source)) = projected::source(volume) {
            let directory = self.directory(&uid, kind, &volume.name);
            let expires_soon = projected::token_needs_renewal(&directory, crate::time::now());
            let files =
                projected::files(pod, &volume.name, &source, self.cluster.as_ref(), &directory, expires_soon)
                    .await?;
            let group = pod::spec(pod).security_context.as_ref().and_then(|context| context.fs_group);
            atomic::write(&directory, &files, group.and_then(|group| u32::try_from(group).ok()))
                .map_err(io)?;
            return Ok(directory);
        }
        Err(VolumeError::Unfit {
            volume: volume.name.clone(),
            why: "this kind of volume is not supported on this node".to_owned(),
        })
    }

    /// The mounts of one container.
    ///
    /// # Errors
    /// When a sub-path leads out of its volume, or names a volume that is not.
    pub fn mounts(
        &self,
        pod: &Pod,
        container: &Container,
        paths: &HashMap<String, PathBuf>,
        environment: &[(String, String)],
    ) -> Result<Vec<HostMount>, VolumeError> {
        let uid = pod::id(pod).uid;
        let mut mounts = Vec::new();
        for (number, wanted) in container.volume_mounts.iter().flatten().enumerate() {
            let unfit = |why: String| VolumeError::Unfit { volume: wanted.name.clone(), why };
            let base =
                paths.get(&wanted.name).ok_or_else(|| unfit("the pod has no such volume".to_owned()))?;
            let sub_path = match (&wanted.sub_path, &wanted.sub_path_expr) {
                (_, Some(expression)) if !expression.is_empty() => {
                    let find = |name: &str| {
                        environment.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())
                    };
                    Some(expand(expression, find))
                }
                (Some(path), _) if !path.is_empty() => Some(path.clone()),
                _ => None,
            };
            let source = match sub_path {
                None => base.clone(),
                Some(sub_path) => {
                    let target = self
                        .pod_directory(&uid)
                        .join("volume-subpaths")
                        .join(&wanted.name)
                        .join(&container.name)
                        .join(number.to_string());
                    subpath::bind(base, &sub_path, &target)
                        .map_err(|source| VolumeError::Io { volume: wanted.name.clone(), source })?;
                    target
                }
            };
            let volume = pod::spec(pod).volumes.iter().flatten().find(|volume| volume.name == wanted.name);
            let is_object = volume.is_some_and(|volume| projected::source(volume).is_some());
            mounts.push(HostMount {
                target: wanted.mount_path.clone(),
                source,
                is_read_only: wanted.read_only == Some(true) || is_object,
                propagation: match wanted.mount_propagation.as_deref() {
                    Some("HostToContainer") => "rslave",
                    Some("Bidirectional") => "rshared",
                    _ => "rprivate",
                },
            });
        }
        Ok(mounts)
    }

    /// Unmounts and removes a pod's volumes. Harmless if they are gone.
    ///
    /// # Errors
    /// When something is still in use.
    pub fn remove(&self, uid: &str) -> io::Result<()> {
        let directory = self.pod_directory(uid);
        unmount_below(&directory)?;
        for name in ["volumes", "volume-subpaths"] {
            remove_directory(&directory.join(name))?;
        }
        Ok(())
    }

    /// Removes a pod's whole directory, after its volumes.
    ///
    /// # Errors
    /// When something is still in use.
    pub fn remove_pod(&self, uid: &str) -> io::Result<()> {
        self.remove(uid)?;
        remove_directory(&self.pod_directory(uid))
    }

    /// The uids of pods that have a directory.
    #[must_use]
    pub fn pods(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.root.join("pods")).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }
}

fn remove_directory(directory: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Mount points, as the kernel lists them.
fn mount_points() -> Vec<PathBuf> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|path| PathBuf::from(path.replace("\\040", " ")))
        .collect()
}

fn is_mounted(path: &Path) -> bool {
    mount_points().iter().any(|point| point == path)
}

/// Unmounts everything below a directory, the deepest first.
fn unmount_below(directory: &Path) -> io::Result<()> {
    let mut points: Vec<PathBuf> =
        mount_points().into_iter().filter(|point| point.starts_with(directory)).collect();
    points.reverse();
    for point in points {
        umount2(&point, MntFlags::MNT_DETACH)
            .map_err(|errno| io::Error::other(format!("unmount {}: {errno}", point.display())))?;
    }
    Ok(())
}

/// Scratch space is for every user of the pod.
fn open_up(directory: &Path, pod: &Pod) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let group = pod::spec(pod).security_context.as_ref().and_then(|context| context.fs_group);
    let mode = if group.is_some() { 0o2777 } else { 0o777 };
    if let Some(group) = group.and_then(|group| u32::try_from(group).ok()) {
        std::os::unix::fs::chown(directory, None, Some(group))?;
    }
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(mode))
}

/// Checks (or makes) a path on the host, by the volume's type.
fn host_path(source: &HostPathVolumeSource) -> io::Result<PathBuf> {
    use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _};
    let path = PathBuf::from(&source.path);
    let kind = source.type_.as_deref().unwrap_or_default();
    match kind {
        "DirectoryOrCreate" => std::fs::DirBuilder::new().recursive(true).mode(0o755).create(&path)?,
        "FileOrCreate" if !path.exists() => {
            std::fs::File::create(&path)?;
        }
        _ => {}
    }
    let file_type = std::fs::metadata(&path).map(|meta| meta.file_type());
    let is_right = |file_type: std::fs::FileType| match kind {
        "" => true,
        "Directory" | "DirectoryOrCreate" => file_type.is_dir(),
        "File" | "FileOrCreate" => file_type.is_file(),
        "Socket" => file_type.is_socket(),
        "CharDevice" => file_type.is_char_device(),
        "BlockDevice" => file_type.is_block_device(),
        _ => false,
    };
    match file_type {
        // Without a type nothing is checked; the runtime makes a directory.
        Err(_) if kind.is_empty() => std::fs::create_dir_all(&path).map(|()| path),
        Ok(found) if is_right(found) => Ok(path),
        _ => Err(io::Error::other(format!("hostPath type check failed: {} is not a {kind}", source.path))),
    }
}
