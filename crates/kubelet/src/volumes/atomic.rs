//! Directories whose content changes at once: files live in a directory with a
//! time in its name, `..data` links to it, and each file is a link through
//! `..data`, as upstream's atomic writer has it.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

/// A file's content and mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    /// Content.
    pub data: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
    /// Its owner, if not root.
    pub owner: Option<u32>,
}

/// Makes a directory hold exactly these files, by relative path. Nothing is
/// written when nothing changed.
///
/// # Errors
/// When a path leads out of the directory, or writing fails.
pub fn write(directory: &Path, files: &BTreeMap<String, Payload>, group: Option<u32>) -> io::Result<()> {
    for path in files.keys() {
        let is_inside = !path.is_empty()
            && !path.starts_with('/')
            && path.split('/').all(|part| !matches!(part, "" | "." | ".."));
        if !is_inside || path.starts_with("..") {
            return Err(io::Error::other(format!("path {path:?} leads out of the volume")));
        }
    }
    std::fs::create_dir_all(directory)?;
    let link = directory.join("..data");
    let old = std::fs::read_link(&link).ok();
    if old.is_some() && is_same(&link, files) {
        return Ok(());
    }
    let name = format!("..{}", uuid::Uuid::new_v4().simple());
    let fresh = directory.join(&name);
    std::fs::create_dir(&fresh)?;
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o755))?;
    for (path, payload) in files {
        let file = fresh.join(path);
        if let Some(parent) = file.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(&file, &payload.data)?;
        std::os::unix::fs::chown(&file, payload.owner, group)?;
        let mode = if group.is_some() { payload.mode | 0o440 } else { payload.mode };
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode))?;
    }
    let partial = directory.join("..data_tmp");
    let _ignored = std::fs::remove_file(&partial);
    symlink(&name, &partial)?;
    std::fs::rename(&partial, &link)?;
    link_names(directory, files)?;
    if let Some(old) = old {
        std::fs::remove_dir_all(directory.join(old))?;
    }
    Ok(())
}

fn is_same(current: &Path, files: &BTreeMap<String, Payload>) -> bool {
    let mut count = 0;
    let mut directories = vec![current.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                directories.push(entry.path());
            } else {
                count += 1;
            }
        }
    }
    count == files.len()
        && files
            .iter()
            .all(|(path, payload)| std::fs::read(current.join(path)).is_ok_and(|data| data == payload.data))
}

/// Links for the first part of every path; those of vanished files go.
fn link_names(directory: &Path, files: &BTreeMap<String, Payload>) -> io::Result<()> {
    let wanted: std::collections::BTreeSet<&str> =
        files.keys().filter_map(|path| path.split('/').next()).collect();
    for name in &wanted {
        let link = directory.join(name);
        if std::fs::symlink_metadata(&link).is_err() {
            symlink(Path::new("..data").join(name), &link)?;
        }
    }
    for entry in std::fs::read_dir(directory)? {
        let name = entry?.file_name();
        let Some(name) = name.to_str() else { continue };
        if !name.starts_with("..") && !wanted.contains(name) {
            std::fs::remove_file(directory.join(name))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(list: &[(&str, &str)]) -> BTreeMap<String, Payload> {
        list.iter()
            .map(|(path, data)| {
                ((*path).to_owned(), Payload { data: data.as_bytes().to_vec(), mode: 0o644, owner: None })
            })
            .collect()
    }

    #[test]
    fn changes_are_atomic_and_old_versions_go() {
        let dir = tempfile::tempdir().expect("temp dir");
        let root = dir.path();
        write(root, &files(&[("a", "1"), ("d/b", "2")]), None).expect("write");
        let first = std::fs::read_link(root.join("..data")).expect("link");
        assert_eq!(std::fs::read_to_string(root.join("d/b")).expect("read"), "2");
        write(root, &files(&[("a", "1"), ("d/b", "2")]), None).expect("write the same");
        assert_eq!(std::fs::read_link(root.join("..data")).expect("link"), first, "nothing changed");
        write(root, &files(&[("a", "3")]), None).expect("write");
        assert_eq!(std::fs::read_to_string(root.join("a")).expect("read"), "3");
        assert!(!root.join("d").exists() && !root.join(first).exists());
        assert!(write(root, &files(&[("../x", "")]), None).is_err());
    }
}
