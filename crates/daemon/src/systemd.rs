//! The two things that systemd and a daemon say to each other: "I am ready"
//! (`sd_notify`) and "here is your socket" (socket activation).

use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Tells the service manager that the daemon is ready; does nothing without one.
pub fn notify_ready() {
    notify("READY=1");
}

/// Tells the service manager that the daemon is stopping.
pub fn notify_stopping() {
    notify("STOPPING=1");
}

fn notify(state: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(error) = send(path.as_encoded_bytes(), state) {
        tracing::warn!(%error, state, "cannot notify the service manager");
    }
}

fn send(path: &[u8], state: &str) -> std::io::Result<()> {
    use std::os::unix::ffi::OsStrExt as _;
    let address = match path.split_first() {
        Some((b'@', name)) => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(path))?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address)?;
    Ok(())
}

/// The sockets passed by the service manager (`LISTEN_FDS`), in order.
///
/// Call it once, before other code opens descriptors.
#[must_use]
pub fn listen_sockets() -> Vec<OwnedFd> {
    const FIRST: RawFd = 3;
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    if number("LISTEN_PID").is_some_and(|pid| pid != std::process::id()) {
        return Vec::new();
    }
    let count = number("LISTEN_FDS").and_then(|count| RawFd::try_from(count).ok()).unwrap_or(0);
    (FIRST..FIRST + count).map(adopt).collect()
}

#[expect(unsafe_code, reason = "the service manager's protocol hands descriptors over by number")]
fn adopt(fd: RawFd) -> OwnedFd {
    // SAFETY: LISTEN_FDS says that these descriptors are open and ours, and the
    // caller takes them once.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
