//! The namespaces that a pod's containers share, pinned as files so that they
//! need no process: network, IPC and UTS.
//!
//! A pinned namespace outlives the kubelet, and disappears with a reboot, which
//! is how a sandbox is found to be lost.

use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, sendto, socket,
};

use super::containerd::RuntimeError;

/// What `statfs` says of a namespace file.
const NSFS_MAGIC: i64 = 0x6e73_6673;

/// A namespace that can be pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Namespace {
    /// Network interfaces, addresses, routes.
    Network,
    /// System V IPC and POSIX message queues.
    Ipc,
    /// Host name.
    Uts,
}

impl Namespace {
    const fn flag(self) -> CloneFlags {
        match self {
            Self::Network => CloneFlags::CLONE_NEWNET,
            Self::Ipc => CloneFlags::CLONE_NEWIPC,
            Self::Uts => CloneFlags::CLONE_NEWUTS,
        }
    }

    /// Its name under `/proc/PID/ns`.
    const fn file(self) -> &'static str {
        match self {
            Self::Network => "net",
            Self::Ipc => "ipc",
            Self::Uts => "uts",
        }
    }

    /// Where it is pinned under a sandbox's directory.
    #[must_use]
    pub fn path(self, directory: &Path) -> PathBuf {
        directory.join(self.file())
    }

    /// Whether it is pinned there.
    #[must_use]
    pub fn is_pinned(self, directory: &Path) -> bool {
        is_namespace(&self.path(directory))
    }
}

fn is_namespace(path: &Path) -> bool {
    nix::sys::statfs::statfs(path).is_ok_and(|fs| fs.filesystem_type().0 == NSFS_MAGIC)
}

/// What to pin.
#[derive(Clone, Debug)]
pub struct Pins {
    /// Directory for the files; it is made if need be.
    pub directory: PathBuf,
    /// Which namespaces.
    pub kinds: Vec<Namespace>,
    /// Host name in a new UTS namespace.
    pub hostname: String,
    /// Kernel settings inside the namespaces, `net.ipv4.…` by name.
    pub sysctls: Vec<(String, String)>,
}

/// Makes and pins the namespaces. Brings up the loopback device of a new network.
///
/// # Errors
/// When the kernel refuses; whatever was pinned by then stays for [`unpin`].
pub fn pin(pins: Pins) -> Result<(), RuntimeError> {
    std::fs::create_dir_all(&pins.directory)
        .map_err(RuntimeError::io(format!("make {}", pins.directory.display())))?;
    // A thread that ends, so that no other work runs in the new namespaces.
    std::thread::spawn(move || pin_on_this_thread(&pins))
        .join()
        .unwrap_or_else(|_| Err(RuntimeError::Unfit("making namespaces panicked".to_owned())))
}

fn pin_on_this_thread(pins: &Pins) -> Result<(), RuntimeError> {
    let flags = pins.kinds.iter().fold(CloneFlags::empty(), |flags, kind| flags | kind.flag());
    unshare(flags).map_err(RuntimeError::errno("unshare namespaces"))?;
    if pins.kinds.contains(&Namespace::Uts) {
        nix::unistd::sethostname(&pins.hostname).map_err(RuntimeError::errno("set host name"))?;
    }
    if pins.kinds.contains(&Namespace::Network) {
        bring_up_loopback().map_err(RuntimeError::errno("bring up the loopback device"))?;
    }
    for (name, value) in &pins.sysctls {
        let path = Path::new("/proc/sys").join(name.replace('.', "/"));
        std::fs::write(&path, value).map_err(RuntimeError::io(format!("set sysctl {name}")))?;
    }
    for kind in &pins.kinds {
        let target = kind.path(&pins.directory);
        std::fs::File::create(&target).map_err(RuntimeError::io(format!("create {}", target.display())))?;
        let source = Path::new("/proc/thread-self/ns").join(kind.file());
        mount(Some(&source), &target, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .map_err(RuntimeError::errno(format!("pin {}", target.display())))?;
    }
    Ok(())
}

/// Sets interface 1, which every new network namespace has, to up, with one
/// netlink message.
fn bring_up_loopback() -> nix::Result<()> {
    const RTM_NEWLINK: u16 = 16;
    const NLM_F_REQUEST_ACK: u16 = 0x1 | 0x4;
    const IFF_UP: u32 = 1;
    let socket =
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    let mut message = Vec::with_capacity(32);
    message.extend(32_u32.to_ne_bytes());
    message.extend(RTM_NEWLINK.to_ne_bytes());
    message.extend(NLM_F_REQUEST_ACK.to_ne_bytes());
    message.extend(1_u32.to_ne_bytes());
    message.extend(0_u32.to_ne_bytes());
    message.extend([0_u8, 0, 0, 0]);
    message.extend(1_i32.to_ne_bytes());
    message.extend(IFF_UP.to_ne_bytes());
    message.extend(IFF_UP.to_ne_bytes());
    sendto(socket.as_raw_fd(), &message, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    let mut answer = [0_u8; 64];
    let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    let code = answer
        .get(16..20)
        .filter(|_| length >= 20)
        .map_or(0, |bytes| i32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
    if code == 0 { Ok(()) } else { Err(nix::errno::Errno::from_raw(-code)) }
}

/// Removes the pins and the directory. What is not there is fine.
///
/// # Errors
/// When a file cannot be removed.
pub fn unpin(directory: &Path) -> Result<(), RuntimeError> {
    for kind in [Namespace::Network, Namespace::Ipc, Namespace::Uts] {
        let path = kind.path(directory);
        while is_namespace(&path) {
            umount2(&path, MntFlags::MNT_DETACH)
                .map_err(RuntimeError::errno(format!("unpin {}", path.display())))?;
        }
    }
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(RuntimeError::Io { what: format!("remove {}", directory.display()), source: error })
        }
        _ => Ok(()),
    }
}

/// Runs something on a thread inside a pinned network namespace; sockets opened
/// there stay in it.
///
/// # Errors
/// When the namespace cannot be entered, or from `work`.
pub fn inside_network<T: Send + 'static>(
    namespace: PathBuf,
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    std::thread::spawn(move || {
        let file = std::fs::File::open(&namespace)?;
        setns(file.as_fd(), CloneFlags::CLONE_NEWNET)?;
        work()
    })
    .join()
    .unwrap_or_else(|_| Err(std::io::Error::other("panic inside a network namespace")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pinned_namespaces_come_and_go() {
        let dir = tempfile::tempdir().expect("temp dir");
        let directory = dir.path().join("sandbox");
        pin(Pins {
            directory: directory.clone(),
            kinds: vec![Namespace::Network, Namespace::Uts],
            hostname: "inside".to_owned(),
            sysctls: vec![("net.ipv4.ip_unprivileged_port_start".to_owned(), "80".to_owned())],
        })
        .expect("pin (needs root)");
        assert!(Namespace::Network.is_pinned(&directory));
        assert!(!Namespace::Ipc.is_pinned(&directory));
        let listener = inside_network(Namespace::Network.path(&directory), || {
            std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()
        });
        assert!(listener.is_ok(), "loopback is up: {listener:?}");
        unpin(&directory).expect("unpin");
        assert!(!directory.exists());
        unpin(&directory).expect("unpin again");
    }
}
