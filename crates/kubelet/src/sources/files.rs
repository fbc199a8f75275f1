//! Static pods: manifests in a directory (or in one file), watched by inotify
//! and read again now and then.
//!
//! A manifest that cannot be understood any more keeps the pod that it was: a
//! slip in an editor does not take a control plane down. Only a file that is
//! gone ends its pod.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use api::types::core::v1::Pod;
use futures::StreamExt as _;
use inotify::{EventStream, Inotify, WatchMask};
use jiff::Timestamp;
use tokio::sync::mpsc;

use super::manifest::Decoder;
use crate::cluster::{PodChange, Source};
use crate::pod::{self, CONFIG_SEEN};

/// How often the files are read without an event (upstream's default).
const AT_LEAST_EVERY: Duration = Duration::from_secs(20);
/// How often a directory that cannot be watched is looked at.
const UNWATCHED_EVERY: Duration = Duration::from_secs(1);
/// Writers do several things to a file at once.
const QUIET: Duration = Duration::from_millis(50);

/// The manifests below a path, as last read.
pub struct Files {
    path: PathBuf,
    decoder: Decoder,
    known: BTreeMap<PathBuf, Arc<Pod>>,
}

impl Files {
    /// Nothing read yet.
    #[must_use]
    pub const fn new(path: PathBuf, decoder: Decoder) -> Self {
        Self { path, decoder, known: BTreeMap::new() }
    }

    /// Reads everything again: what changed, pods that are gone first.
    ///
    /// # Errors
    /// When the directory exists and cannot be listed: then nothing is known
    /// about the pods, and nothing changes.
    pub fn read(&mut self, now: Timestamp) -> io::Result<Vec<PodChange>> {
        let mut next: BTreeMap<PathBuf, Arc<Pod>> = BTreeMap::new();
        for file in manifests(&self.path)? {
            let before = self.known.get(&file);
            let Some(pod) = self.read_one(&file, before, now) else { continue };
            let uid = pod::id(&pod).uid;
            if next.values().any(|other| pod::id(other).uid == uid) {
                tracing::error!(file = %file.display(), uid, "another manifest has this pod's uid");
            } else {
                next.insert(file, pod);
            }
        }
        let gone = self.known.values().filter(|old| {
            let id = pod::id(old);
            next.values().all(|new| pod::id(new).uid != id.uid)
        });
        let mut changes: Vec<PodChange> = gone.map(|old| PodChange::Gone(pod::id(old))).collect();
        let changed = next.values().filter(|new| self.known.values().all(|old| !Arc::ptr_eq(old, new)));
        changes.extend(changed.map(|pod| PodChange::Set(Arc::clone(pod))));
        self.known = next;
        Ok(changes)
    }

    fn read_one(&self, file: &Path, before: Option<&Arc<Pod>>, now: Timestamp) -> Option<Arc<Pod>> {
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) => {
                tracing::error!(file = %file.display(), error = %error, "manifest not read");
                return before.cloned();
            }
        };
        match self.decoder.decode(&text, &file.display().to_string(), now) {
            // The same pod as before, but for the time when it was first seen.
            Ok(pod) => match before.filter(|old| is_same(old, &pod)) {
                Some(old) => Some(Arc::clone(old)),
                None => Some(Arc::new(pod)),
            },
            Err(error) => {
                let error = crate::images::chain(&error);
                tracing::error!(file = %file.display(), error, "manifest not understood");
                before.cloned()
            }
        }
    }
}

fn is_same(old: &Pod, new: &Pod) -> bool {
    let timeless = |pod: &Pod| {
        let mut pod = pod.clone();
        pod.metadata.annotations.get_or_insert_default().remove(CONFIG_SEEN);
        pod
    };
    timeless(old) == timeless(new)
}

/// The files that count: all but hidden ones, without those of directories below.
fn manifests(path: &Path) -> io::Result<Vec<PathBuf>> {
    match std::fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
        Ok(meta) if meta.is_file() => return Ok(vec![path.to_owned()]),
        Ok(_) => {}
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        let is_hidden = entry.file_name().to_string_lossy().starts_with('.');
        if !is_hidden && std::fs::metadata(entry.path()).is_ok_and(|meta| meta.is_file()) {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

/// Follows the manifests below a path for the node of that name.
#[must_use]
pub fn watch(path: PathBuf, node: &str) -> mpsc::Receiver<PodChange> {
    let (sender, changes) = mpsc::channel(64);
    let files = Files::new(path, Decoder::new(node));
    daemon::tasks::spawn("static-pods", follow(files, sender));
    changes
}

async fn follow(mut files: Files, sender: mpsc::Sender<PodChange>) {
    let mut watch = None;
    let mut has_synced = false;
    while !sender.is_closed() {
        // The watch comes first, so that no change falls between it and the read.
        if watch.is_none() {
            watch = watch_directory(&files.path)
                .inspect_err(
                    |error| tracing::debug!(path = %files.path.display(), %error, "manifests not watched"),
                )
                .ok();
        }
        match files.read(crate::time::now()) {
            Ok(mut changes) => {
                if !std::mem::replace(&mut has_synced, true) {
                    changes.push(PodChange::Synced(Source::Files));
                }
                for change in changes {
                    if sender.send(change).await.is_err() {
                        return;
                    }
                }
            }
            Err(error) => {
                tracing::error!(path = %files.path.display(), %error, "manifests not listed");
            }
        }
        let longest = if watch.is_some() { AT_LEAST_EVERY } else { UNWATCHED_EVERY };
        tokio::select! {
            is_alive = next_event(&mut watch) => if !is_alive { watch = None },
            () = tokio::time::sleep(longest) => {}
            () = sender.closed() => return,
        }
    }
}

type Events = EventStream<[u8; 4096]>;

/// Watches the directory (of the file, if it is one).
fn watch_directory(path: &Path) -> io::Result<Events> {
    let directory = match path.parent() {
        Some(parent) if path.is_file() => parent,
        _ => path,
    };
    let inotify = Inotify::init()?;
    let mask = WatchMask::CREATE
        | WatchMask::CLOSE_WRITE
        | WatchMask::DELETE
        | WatchMask::MOVE
        | WatchMask::ATTRIB
        | WatchMask::DELETE_SELF
        | WatchMask::MOVE_SELF;
    inotify.watches().add(directory, mask)?;
    inotify.into_event_stream([0; 4096])
}

/// Waits for something to happen, and for a moment of quiet after it; whether
/// the watch still watches.
async fn next_event(watch: &mut Option<Events>) -> bool {
    let Some(events) = watch else { return std::future::pending().await };
    let is_end = |event: &io::Result<inotify::EventOwned>| {
        use inotify::EventMask;
        let ends = EventMask::DELETE_SELF | EventMask::MOVE_SELF | EventMask::IGNORED;
        event.as_ref().map_or(true, |event| event.mask.intersects(ends))
    };
    let Some(first) = events.next().await else { return false };
    let mut is_alive = !is_end(&first);
    while let Ok(Some(event)) = tokio::time::timeout(QUIET, events.next()).await {
        is_alive &= !is_end(&event);
    }
    is_alive
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(name: &str, image: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{containers: [{{name: c, image: {image}}}]}}\n"
        )
    }

    fn seen(changes: Vec<PodChange>) -> Vec<String> {
        changes
            .into_iter()
            .map(|change| match change {
                PodChange::Set(pod) => format!("+{}", pod::id(&pod).name),
                PodChange::Gone(id) => format!("-{}", id.name),
                PodChange::Synced(source) => format!("{source:?}"),
            })
            .collect()
    }

    #[test]
    fn files_come_change_and_go() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("manifests");
        let mut files = Files::new(path.clone(), Decoder::new("n"));
        let mut clock = 0;
        let mut read = || {
            clock += 1;
            seen(files.read(Timestamp::from_second(clock).expect("a time")).expect("reads"))
        };
        let write = |name: &str, text: &str| std::fs::write(path.join(name), text).expect("write");
        let nothing: [&str; 0] = [];
        assert_eq!(read(), nothing, "a missing directory has no pods");
        std::fs::create_dir(&path).expect("mkdir");
        write("a.yaml", &manifest("a", "i:1"));
        write("b.yaml", &manifest("b", "i:1"));
        write(".hidden", &manifest("c", "i:1"));
        std::fs::create_dir(path.join("below")).expect("mkdir");
        assert_eq!(read(), ["+a-n", "+b-n"]);
        assert_eq!(read(), nothing, "the time of reading is no change");
        write("a.yaml", &manifest("a", "i:2"));
        assert_eq!(read(), ["-a-n", "+a-n"], "other content is another pod");
        write("a.yaml", "kind: [");
        assert_eq!(read(), nothing, "a broken manifest keeps its pod");
        std::fs::rename(path.join("b.yaml"), path.join("z.yaml")).expect("rename");
        assert_eq!(read(), ["-b-n", "+b-n"], "the file is part of the identity");
        std::fs::remove_file(path.join("a.yaml")).expect("remove");
        std::fs::remove_file(path.join("z.yaml")).expect("remove");
        assert_eq!(read(), ["-a-n", "-b-n"]);
    }

    #[test]
    fn one_file_instead_of_a_directory() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("pod.json");
        std::fs::write(&path, manifest("a", "i")).expect("write");
        let mut files = Files::new(path, Decoder::new("n"));
        assert_eq!(seen(files.read(Timestamp::UNIX_EPOCH).expect("reads")), ["+a-n"]);
    }

    #[tokio::test]
    async fn changes_are_noticed_without_polling() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().to_owned();
        let mut changes = watch(path.clone(), "n");
        // Far less than the time between reads.
        let patience = AT_LEAST_EVERY / 2;
        let mut next = async || {
            let change = tokio::time::timeout(patience, changes.recv()).await.expect("in time");
            seen(vec![change.expect("still watching")]).remove(0)
        };
        assert_eq!(next().await, "Files");
        std::fs::write(path.join("a.yaml"), manifest("a", "i:1")).expect("write");
        assert_eq!(next().await, "+a-n");
        std::fs::write(path.join(".new"), manifest("a", "i:2")).expect("write");
        std::fs::rename(path.join(".new"), path.join("a.yaml")).expect("rename");
        assert_eq!((next().await, next().await), ("-a-n".to_owned(), "+a-n".to_owned()));
        std::fs::remove_file(path.join("a.yaml")).expect("remove");
        assert_eq!(next().await, "-a-n");
    }
}
