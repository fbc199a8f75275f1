//! Containers' logs: the process that writes them ([`logger`]) and the way they
//! are read again ([`read`]).

pub mod logger;
pub mod read;

use std::path::{Path, PathBuf};

use crate::pod::{self, PodId};

/// The file of one attempt of a container, where upstream has it.
#[must_use]
pub fn path(root: &Path, id: &PodId, container: &str, attempt: u32) -> PathBuf {
    root.join(pod::log_directory(id)).join(container).join(format!("{attempt}.log"))
}
