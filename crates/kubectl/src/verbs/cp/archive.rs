//! Archives of files: packed for a container, unpacked from one. Nothing is
//! written outside the destination, and links are not made.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// A path of a container without `.`, `..` and doubled slashes.
pub(super) fn cleaned(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let rooted = path.starts_with('/');
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        match (part, parts.last()) {
            ("..", None) if rooted => {}
            ("..", Some(last)) if *last != ".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    match (rooted, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".into(),
        (false, false) => parts.join("/"),
    }
}

/// What the names of an archive's members start with, when a container packs
/// a path.
pub(super) fn member_prefix(path: &str) -> String {
    let cleaned = cleaned(path.trim_start_matches('/').trim_end_matches('/'));
    let mut rest = cleaned.as_str();
    while let Some(shorter) = rest.strip_prefix("../") {
        rest = shorter;
    }
    match rest {
        "." | ".." => String::new(),
        rest => rest.to_owned(),
    }
}

/// The last part of a local path.
pub(super) fn base(path: &Path) -> String {
    let absolute = fs::canonicalize(path);
    let named = path.file_name().or_else(|| absolute.as_ref().ok().and_then(|path| path.file_name()));
    named.map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

/// Packs a file or folder under a name.
pub(super) fn pack(source: &Path, name: &str, sink: impl Write) -> io::Result<()> {
    let mut archive = tar::Builder::new(sink);
    archive.follow_symlinks(false);
    add(&mut archive, source, Path::new(name))?;
    archive.finish()
}

fn add(archive: &mut tar::Builder<impl Write>, source: &Path, name: &Path) -> io::Result<()> {
    let about = fs::symlink_metadata(source)?;
    if !about.is_dir() {
        return archive.append_path_with_name(source, name);
    }
    let mut entries: Vec<PathBuf> =
        fs::read_dir(source)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    entries.sort();
    if entries.is_empty() {
        // Folders with something in them are made on the way.
        return archive.append_dir(name, source);
    }
    for entry in entries {
        let below = name.join(entry.file_name().unwrap_or_default());
        add(archive, &entry, &below)?;
    }
    Ok(())
}

/// Unpacks what a container packed into a destination: as it, or below it
/// where it is a folder's content.
pub(super) fn unpack(from: impl Read, prefix: &str, destination: &Path, hint: &str) -> io::Result<()> {
    let mut archive = tar::Archive::new(from);
    let mut hinted = false;
    for member in archive.entries()? {
        let mut member = member?;
        let name = member.path()?.to_string_lossy().into_owned();
        let Some(rest) = name.strip_prefix(prefix) else {
            return Err(io::Error::other("tar contents corrupted"));
        };
        let below = cleaned(rest.trim_start_matches('/'));
        let target = if below == "." { destination.to_owned() } else { destination.join(&below) };
        if below.split('/').next() == Some("..") {
            eprintln!(
                "warning: file {:?} is outside target destination, skipping",
                target.display().to_string()
            );
            continue;
        }
        let kind = member.header().entry_type();
        if kind.is_dir() {
            fs::create_dir_all(&target)?;
            continue;
        }
        if let Some(folder) = target.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder)?;
        }
        if kind.is_symlink() {
            let link = member.link_name()?.unwrap_or_default();
            let consider = if hinted { String::new() } else { format!(" (consider using \"{hint}\")") };
            hinted = true;
            eprintln!(
                "warning: skipping symlink: {:?} -> {:?}{consider}",
                target.display().to_string(),
                link.display().to_string()
            );
            continue;
        }
        io::copy(&mut member, &mut fs::File::create(&target)?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned() {
        let table =
            [("/a//b/./c/", "/a/b/c"), ("a/../b", "b"), ("../../x", "../../x"), ("/../x", "/x"), ("", ".")];
        for (path, clean) in table {
            assert_eq!(cleaned(path), clean);
        }
        let table = [("/var/log", "var/log"), ("../../etc/x", "etc/x"), ("./a", "a"), ("/", ""), (".", "")];
        for (path, prefix) in table {
            assert_eq!(member_prefix(path), prefix);
        }
    }

    #[test]
    fn folders_are_packed_and_unpacked() {
        let folder = tempfile::tempdir().expect("folder");
        let source = folder.path().join("source");
        fs::create_dir_all(source.join("deep/empty")).expect("folders");
        fs::write(source.join("deep/file"), "text").expect("file");
        let mut bytes = Vec::new();
        pack(&source, "name", &mut bytes).expect("packs");
        let target = folder.path().join("target");
        unpack(bytes.as_slice(), "name", &target, "").expect("unpacks");
        assert_eq!(fs::read_to_string(target.join("deep/file")).expect("file"), "text");
        assert!(target.join("deep/empty").is_dir());
        assert!(unpack(bytes.as_slice(), "other", &target, "").is_err());
    }

    #[test]
    fn nothing_is_written_outside() {
        let folder = tempfile::tempdir().expect("folder");
        let mut archive = tar::Builder::new(Vec::new());
        let mut add = |name: &str, kind: tar::EntryType| {
            let mut header = tar::Header::new_gnu();
            // The library refuses such names, an attacker does not.
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(kind);
            header.set_size(if kind.is_file() { 4 } else { 0 });
            if kind.is_symlink() {
                header.set_link_name("/etc").expect("link");
            }
            header.set_cksum();
            archive.append(&header, if kind.is_file() { b"evil".as_slice() } else { b"" }).expect("append");
        };
        add("dir/../../evil", tar::EntryType::Regular);
        add("dir/../other/../../evil", tar::EntryType::Regular);
        add("dir/link", tar::EntryType::Symlink);
        add("dir/good", tar::EntryType::Regular);
        let bytes = archive.into_inner().expect("archive");
        let target = folder.path().join("inner/target");
        unpack(bytes.as_slice(), "dir", &target, "").expect("unpacks");
        assert_eq!(fs::read_to_string(target.join("good")).expect("good"), "evil");
        assert!(fs::symlink_metadata(target.join("link")).is_err());
        assert!(!folder.path().join("inner/evil").exists() && !folder.path().join("evil").exists());
    }
}
