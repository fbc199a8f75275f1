//! Parts of volumes: a path that a container may have made itself, so it is
//! resolved without ever leaving the volume, and mounted by descriptor.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::Path;

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, mkdirat};

/// Binds `sub_path` of the volume at `base` to `target`; a missing directory is
/// made. Done already is fine.
///
/// # Errors
/// When the path leads out of the volume, or the mount fails.
pub fn bind(base: &Path, sub_path: &str, target: &Path) -> io::Result<()> {
    if super::is_mounted(target) {
        return Ok(());
    }
    let found = resolve(base, sub_path)?;
    let is_directory = File::from(found.try_clone()?).metadata()?.is_dir();
    if is_directory {
        std::fs::create_dir_all(target)?;
    } else {
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent)?;
        }
        File::create(target)?;
    }
    let source = format!("/proc/self/fd/{}", found.as_raw_fd());
    mount(Some(source.as_str()), target, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)?;
    Ok(())
}

/// Opens a path below a directory, part by part, making what is missing.
fn resolve(base: &Path, sub_path: &str) -> io::Result<OwnedFd> {
    let mut current = OwnedFd::from(File::open(base)?);
    let mut walked = std::path::PathBuf::new();
    for part in sub_path.split('/').filter(|part| !matches!(*part, "" | ".")) {
        if part == ".." {
            return Err(io::Error::other(format!("subPath {sub_path:?} must not contain '..'")));
        }
        walked.push(part);
        // From the volume's root each time, so that links inside it work.
        let root = File::open(base)?;
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        current = match openat2(root.as_fd(), &walked, how) {
            Ok(found) => found,
            Err(nix::errno::Errno::ENOENT) => {
                mkdirat(current.as_fd(), part, Mode::from_bits_truncate(0o755))?;
                openat2(root.as_fd(), &walked, how)?
            }
            Err(errno) => return Err(errno.into()),
        };
    }
    Ok(current)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_inside() {
        let dir = tempfile::tempdir().expect("temp dir");
        let base = dir.path().join("volume");
        std::fs::create_dir(&base).expect("mkdir");
        std::os::unix::fs::symlink("/etc", base.join("out")).expect("link");
        std::os::unix::fs::symlink("inner", base.join("in")).expect("link");
        std::fs::create_dir(base.join("inner")).expect("mkdir");
        assert!(resolve(&base, "a/b").is_ok() && base.join("a/b").is_dir());
        assert!(resolve(&base, "in/x").is_ok() && base.join("inner/x").is_dir());
        assert!(resolve(&base, "out/passwd").is_err());
        assert!(resolve(&base, "../x").is_err());
    }
}
