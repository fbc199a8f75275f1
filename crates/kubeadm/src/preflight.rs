//! What must be so before a host becomes part of a cluster, checked all at once
//! so that one run shows every trouble.

use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::bail;

use crate::host::{CNI_PLUGINS, Host};

/// What was found.
#[derive(Debug, Default)]
pub struct Findings {
    warnings: Vec<String>,
    errors: Vec<String>,
}

impl Findings {
    fn error(&mut self, name: &str, text: impl std::fmt::Display) {
        self.errors.push(format!("[ERROR {name}]: {text}"));
    }

    fn warning(&mut self, name: &str, text: impl std::fmt::Display) {
        self.warnings.push(format!("[WARNING {name}]: {text}"));
    }

    /// Says the warnings, and fails with the errors unless they are to be ignored.
    ///
    /// # Errors
    /// The errors.
    pub fn judge(self, ignored: &[String], say: &dyn Fn(&str)) -> anyhow::Result<()> {
        let is_ignored = |line: &String| {
            let name = line.trim_start_matches("[ERROR ").split(']').next().unwrap_or_default();
            ignored.iter().any(|one| one == "all" || one.eq_ignore_ascii_case(name))
        };
        let (downgraded, fatal): (Vec<_>, Vec<_>) = self.errors.into_iter().partition(is_ignored);
        for line in self.warnings.iter().chain(&downgraded) {
            say(&format!("\t{}", line.replacen("[ERROR", "[WARNING", 1)));
        }
        if fatal.is_empty() {
            return Ok(());
        }
        bail!(
            "[preflight] Some fatal errors occurred:\n\t{}\n[preflight] If you know what you are doing, you can make \
             a check non-fatal with --ignore-preflight-errors=...",
            fatal.join("\n\t")
        )
    }
}

/// What a host will do.
pub struct Role {
    /// The address at which it is reached.
    pub address: IpAddr,
    /// Ports on all addresses.
    pub ports: Vec<u16>,
    /// Ports on the loopback only.
    pub local_ports: Vec<u16>,
    /// Whether it answers for names.
    pub serves_dns: bool,
    /// The programs of this release that it runs.
    pub programs: Vec<&'static str>,
}

/// Checks this host.
#[must_use]
pub fn check(host: &Host, role: &Role) -> Findings {
    let mut findings = Findings::default();
    if !nix::unistd::Uid::effective().is_root() {
        findings.error("IsPrivilegedUser", "user is not running as root");
        return findings;
    }
    check_machine(&mut findings);
    check_programs(host, role, &mut findings);
    check_ports(role, &mut findings);
    check_state(host, &mut findings);
    findings
}

fn check_machine(findings: &mut Findings) {
    if !Path::new("/run/systemd/system").exists() {
        findings.error(
            "Systemd",
            "this machine was not started by systemd; for a cluster without it: kubeadm dev up",
        );
    }
    let swaps = std::fs::read_to_string("/proc/swaps").unwrap_or_default();
    if swaps.lines().count() > 1 {
        findings
            .warning("Swap", "swap is on: memory limits of pods do not cover it, and they may become slow");
    }
}

fn is_installed(program: &str) -> bool {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let extra = ["/usr/sbin", "/sbin"].map(std::path::PathBuf::from);
    std::env::split_paths(&folders).chain(extra).any(|folder| folder.join(program).exists())
}

fn check_programs(host: &Host, role: &Role, findings: &mut Findings) {
    for (program, package) in
        [("nft", "nftables"), ("ip", "iproute2"), ("runc", "runc"), ("mount", "mount"), ("ctr", "containerd")]
    {
        if !is_installed(program) {
            findings.error(
                "FileExisting",
                format!("{program} is not installed; on Debian: apt-get install {package}"),
            );
        }
    }
    if !CNI_PLUGINS.iter().any(|folder| Path::new(folder).join("bridge").exists()) {
        let folders = CNI_PLUGINS.join(", ");
        findings.error(
            "CNI",
            format!("no CNI plugins in {folders}; on Debian: apt-get install containernetworking-plugins"),
        );
    }
    for program in &role.programs {
        if let Err(error) = host.program(program) {
            findings.error("Programs", error);
        }
    }
    let hidden = ["/tmp", "/var/tmp"].iter().any(|folder| host.programs.starts_with(folder));
    if hidden {
        let folder = host.programs.display();
        findings
            .error("Programs", format!("services do not see {folder}; put the programs into /usr/local/bin"));
    }
    if let Err(error) = UnixStream::connect(&host.containerd) {
        let socket = host.containerd.display();
        findings.error(
            "CRI",
            format!("containerd does not answer at {socket}: {error}; systemctl start containerd"),
        );
    }
}

fn check_ports(role: &Role, findings: &mut Findings) {
    let unspecified: IpAddr = if role.address.is_ipv4() { [0, 0, 0, 0].into() } else { [0_u16; 8].into() };
    let loopback: IpAddr = [127, 0, 0, 1].into();
    let all = role.ports.iter().map(|port| SocketAddr::new(unspecified, *port));
    for address in all.chain(role.local_ports.iter().map(|port| SocketAddr::new(loopback, *port))) {
        if let Err(error) = TcpListener::bind(address) {
            findings.error(
                &format!("Port-{}", address.port()),
                format!("{address} cannot be listened on: {error}"),
            );
        }
    }
    let name_server = SocketAddr::new(role.address, 53);
    if role.serves_dns
        && let Err(error) = TcpListener::bind(name_server).and_then(|_| UdpSocket::bind(name_server))
    {
        let text = format!("{name_server} cannot be listened on, where cluster DNS is to answer: {error}");
        findings.error("Port-53", text);
    } else if let Err(error) = UdpSocket::bind(SocketAddr::new(role.address, 0)) {
        findings.error("Address", format!("{} is no address of this host: {error}", role.address));
    }
}

fn check_state(host: &Host, findings: &mut Findings) {
    for file in [host.kubeconfig("admin.conf"), host.kubeconfig("kubelet.conf")] {
        if file.exists() {
            let name = format!(
                "FileAvailable-{}",
                file.display().to_string().trim_start_matches('/').replace('/', "-")
            );
            findings.error(&name, format!("{} already exists; kubeadm reset removes it", file.display()));
        }
    }
    for folder in [&host.data, &host.kubelet.join("pki")] {
        let is_filled = std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some());
        if is_filled {
            let name = format!(
                "DirAvailable-{}",
                folder.display().to_string().trim_start_matches('/').replace('/', "-")
            );
            findings.error(&name, format!("{} is not empty; kubeadm reset empties it", folder.display()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn errors_are_fatal_unless_they_are_to_be_ignored() {
        let findings = || {
            let mut findings = Findings::default();
            findings.warning("Swap", "on");
            findings.error("Port-6443", "taken");
            findings
        };
        let said = RefCell::new(Vec::new());
        let say = |line: &str| said.borrow_mut().push(line.to_owned());
        let error = findings().judge(&[], &say).expect_err("fatal").to_string();
        assert!(error.contains("[ERROR Port-6443]: taken") && !error.contains("Swap"), "{error}");
        findings().judge(&["port-6443".to_owned()], &say).expect("ignored");
        findings().judge(&["all".to_owned()], &say).expect("ignored");
        assert!(findings().judge(&["Swap".to_owned()], &say).is_err());
        assert_eq!(said.borrow()[1..3], ["\t[WARNING Swap]: on", "\t[WARNING Port-6443]: taken"]);
    }
}
