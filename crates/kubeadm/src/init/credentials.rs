//! The keys, certificates and kubeconfigs of a control plane that is a node too.

use std::fs;
use std::net::SocketAddr;

use anyhow::Context as _;
use jiff::Timestamp;

use super::Options;
use crate::host::Host;
use crate::pki::{Folder, Subject};
use crate::signing::node_user;
use crate::{kubeconfigs, node};

/// Makes what is missing.
///
/// # Errors
/// A file cannot be written.
pub fn make(host: &Host, options: &Options, now: Timestamp, say: &dyn Fn(&str)) -> anyhow::Result<()> {
    let pki = Folder::new(&host.pki);
    say(&format!("[certs] Using certificateDir folder {:?}", host.pki.display()));
    let is_new = !pki.path("ca.crt").exists();
    let authority = pki.authority(now)?;
    say(if is_new {
        "[certs] Generating \"ca\" certificate and key"
    } else {
        "[certs] Using the existing \"ca\""
    });
    let names = server_names(options);
    say("[certs] Generating \"apiserver\" certificate and key");
    say(&format!("[certs] apiserver serving cert is signed for {}", names.join(", ")));
    pki.ensure("apiserver", &authority, &Subject::server("kube-apiserver", names), now)?;
    say("[certs] Generating \"apiserver-kubelet-client\" certificate and key");
    let caller = Subject::client("kube-apiserver-kubelet-client", &["kubeadm:cluster-admins"]);
    pki.ensure("apiserver-kubelet-client", &authority, &caller, now)?;
    say("[certs] Generating \"front-proxy-ca\" and \"front-proxy-client\" certificates and keys");
    pki.ensure_front_proxy(now)?;
    say("[certs] Generating \"sa\" key and public key");
    pki.ensure_service_account_keys()?;

    say(&format!("[kubeconfig] Using kubeconfig folder {:?}", host.configuration.display()));
    fs::create_dir_all(&host.configuration)
        .with_context(|| format!("create {}", host.configuration.display()))?;
    let endpoint = SocketAddr::new(options.address, options.port).to_string();
    let server = format!("https://{endpoint}");
    let users = [
        ("admin.conf", Subject::client("kubernetes-admin", &["kubeadm:cluster-admins"])),
        ("super-admin.conf", Subject::client("kubernetes-super-admin", &["system:masters"])),
        ("controller-manager.conf", Subject::client("system:kube-controller-manager", &[])),
        ("scheduler.conf", Subject::client("system:kube-scheduler", &[])),
        ("kube-dns.conf", Subject::client("system:kube-dns", &[])),
    ];
    for (file, user) in users {
        say(&format!("[kubeconfig] Writing {file:?} kubeconfig file"));
        kubeconfigs::ensure(&host.kubeconfig(file), "kubernetes", &server, &authority, &user, now)?;
    }
    // The authority is at hand: this node has no need to ask for its certificates.
    let user = node_user(&options.node_name);
    let credentials = node::Credentials {
        client: authority.issue(&Subject::client(user.as_str(), &["system:nodes"]), now)?,
        serving: authority.issue(
            &Subject {
                groups: vec!["system:nodes".to_owned()],
                ..Subject::server(user, vec![options.node_name.clone(), options.address.to_string()])
            },
            now,
        )?,
    };
    say("[kubeconfig] Writing \"kubelet.conf\" kubeconfig file");
    node::write_files(host, authority.pem(), &endpoint, &credentials)
}

/// Everything that the API server is called.
fn server_names(options: &Options) -> Vec<String> {
    let fixed = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost", "127.0.0.1"];
    let mut names: Vec<String> = fixed.map(str::to_owned).into();
    names.push(format!("kubernetes.default.svc.{}", options.cluster.dns_domain));
    names.push(options.node_name.clone());
    names.push(options.cluster.server_address().to_string());
    names.push(options.address.to_string());
    names.extend(options.extra_names.iter().cloned());
    names.sort();
    names.dedup();
    names
}
