//! Where a container's input comes from and its output goes: pipes, and the
//! logger that reads them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::containerd::RuntimeError;
use super::containers::NewContainer;
use super::{Runtime, labels};
use crate::logs::logger::{self, Pipes, Plan};

/// What follows a container's id in the names of its pipes.
const SUFFIXES: [&str; 4] = ["-stdin", "-stdout", "-stderr", "-logger"];

/// Addresses as containerd takes them; empty where there is nothing.
pub(super) struct Stdio {
    pub(super) stdin: String,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

/// The plan of the logger that the kubelet starts for a container, if it does.
pub(super) fn logger_of(labels: &HashMap<String, String>) -> Option<Plan> {
    serde_json::from_str(labels.get(labels::LOGGER)?).ok()
}

impl Runtime {
    fn pipe(&self, id: &str, suffix: &str) -> PathBuf {
        self.settings.state.join("io").join(format!("{id}{suffix}"))
    }

    /// Where a container's standard input is written.
    #[must_use]
    pub fn stdin_path(&self, id: &str) -> PathBuf {
        self.pipe(id, "-stdin")
    }

    /// The logger of a container: the shim's, or ours where the shim's would cost
    /// the container its input.
    pub(super) fn logger_plan(&self, id: &str, new: &NewContainer<'_>) -> Plan {
        let has_stdin = new.container.stdin == Some(true);
        let holds_stdin = has_stdin && new.container.stdin_once != Some(true);
        let needs_pipes = has_stdin && new.container.tty != Some(true);
        Plan {
            file: self.log_path(new),
            max_size: self.settings.log_max_size,
            max_files: self.settings.log_max_files,
            hold: holds_stdin.then(|| self.stdin_path(id)),
            pipes: needs_pipes.then(|| Pipes {
                stdout: self.pipe(id, "-stdout"),
                stderr: self.pipe(id, "-stderr"),
                lock: self.pipe(id, "-logger"),
            }),
        }
    }

    /// Makes the pipes of a container and the directory of its log, and starts its
    /// logger if that is ours to do.
    pub(super) fn stdio(&self, id: &str, new: &NewContainer<'_>) -> Result<Stdio, RuntimeError> {
        let plan = self.logger_plan(id, new);
        if let Some(directory) = plan.file.parent() {
            std::fs::create_dir_all(directory)
                .map_err(RuntimeError::io(format!("make {}", directory.display())))?;
        }
        let mut stdio = Stdio { stdin: String::new(), stdout: String::new(), stderr: String::new() };
        if new.container.stdin == Some(true) {
            let stdin = self.stdin_path(id);
            make_fifo(&stdin)?;
            stdio.stdin = stdin.display().to_string();
        }
        if let Some(pipes) = &plan.pipes {
            make_fifo(&pipes.stdout)?;
            make_fifo(&pipes.stderr)?;
            stdio.stdout = pipes.stdout.display().to_string();
            stdio.stderr = pipes.stderr.display().to_string();
            self.start_logger(&plan)?;
        } else {
            stdio.stdout = plan.uri(&self.settings.logger);
            if new.container.tty != Some(true) {
                stdio.stderr.clone_from(&stdio.stdout);
            }
        }
        Ok(stdio)
    }

    /// Starts a logger for a plan with pipes; one too many leaves at once.
    pub(super) fn start_logger(&self, plan: &Plan) -> Result<(), RuntimeError> {
        logger::start(&self.settings.logger, plan)
            .map_err(RuntimeError::io(format!("start the logger of {}", plan.file.display())))
    }

    /// Removes a container's pipes.
    pub(super) fn remove_pipes(&self, id: &str) -> Result<(), RuntimeError> {
        for suffix in SUFFIXES {
            match std::fs::remove_file(self.pipe(id, suffix)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(RuntimeError::io(format!("remove pipes of {id}"))(error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// The container that a pipe belongs to, by the pipe's name.
pub(super) fn owner(name: &str) -> Option<&str> {
    SUFFIXES.iter().find_map(|suffix| name.strip_suffix(suffix))
}

/// Makes a named pipe, and its directory.
pub(super) fn make_fifo(path: &Path) -> Result<(), RuntimeError> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)
            .map_err(RuntimeError::io(format!("make {}", directory.display())))?;
    }
    nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRUSR | nix::sys::stat::Mode::S_IWUSR)
        .map_err(RuntimeError::errno(format!("make pipe {}", path.display())))
}
