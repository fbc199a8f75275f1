//! Programs that tests run: bounded in time, and gone with the test; and folders
//! with what their package managers install, kept between runs.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

/// How long a program may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long an installation may take.
const INSTALLATION: Duration = Duration::from_secs(300);

/// What a program said, and how it ended.
pub(crate) struct Said {
    pub(crate) success: bool,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs a program to its end, and kills it where that takes too long.
pub(crate) async fn run(command: &mut Command) -> Said {
    run_within(PATIENCE, command).await
}

/// Runs a program that has to succeed.
pub(crate) async fn run_well(command: &mut Command) -> String {
    let said = run(command).await;
    assert!(said.success, "{:?}:\n{}{}", command.as_std(), said.stdout, said.stderr);
    said.stdout
}

async fn run_within(limit: Duration, command: &mut Command) -> Said {
    command.kill_on_drop(true);
    let output = match tokio::time::timeout(limit, command.output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => {
            panic!(
                "{:?}: {error}; `deploy/install-packages clients` installs what the tests need",
                command.as_std()
            )
        }
        Err(_) => panic!("{:?} did not end in {} s", command.as_std(), limit.as_secs()),
    };
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Said { success: output.status.success(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// The folder of the files that belong to a client's tests.
pub(crate) fn sources(client: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/compat").join(client)
}

/// The folder into which a package manager installed what `manifest` lists: filled
/// once, and again when the manifest changes. `install` gives the command for a folder.
pub(crate) async fn installed(
    client: &str,
    manifest: &str,
    install: impl FnOnce(&Path) -> Command,
) -> PathBuf {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let folder = root.join(client);
    // Tests that want the same folder wait for the first of them.
    let lock = File::create(root.join(format!("{client}.lock"))).expect("a lock file");
    tokio::task::block_in_place(|| lock.lock()).expect("the lock");
    let complete = root.join(format!("{client}.installed"));
    if fs::read_to_string(&complete).is_ok_and(|text| text == manifest) {
        return folder;
    }
    // Of an older manifest, or of an installation that did not end.
    drop(fs::remove_file(&complete));
    drop(fs::remove_dir_all(&folder));
    fs::create_dir_all(&folder).expect("a folder");
    let mut command = install(&folder);
    command.stdin(Stdio::null());
    let said = run_within(INSTALLATION, &mut command).await;
    assert!(
        said.success,
        "the {client} client cannot be installed; `deploy/install-packages clients` brings what this needs: {:?}\n{}{}",
        command.as_std(),
        said.stdout,
        said.stderr
    );
    fs::write(&complete, manifest).expect("is noted");
    folder
}
