//! `kubeadm certs`: how long this host's certificates last, and new ones.
//!
//! A certificate is renewed as what it is: its subject and names are read from
//! the old one. Where the authority's key is, it signs at once; a node asks the
//! cluster, as it did when it joined.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use client::Kubeconfig;
use jiff::Timestamp;

use crate::certificate::{self, Facts};
use crate::host::{CONTROL_PLANE_KUBECONFIGS, Host};
use crate::pki::{Authority, FRONT_PROXY_AUTHORITY, FRONT_PROXY_CLIENT, Folder, Pair, write_secret};
use crate::signing::{self, Wanted};
use crate::{join, node, systemd, tokens};

/// Daemons that read their credentials only when they start.
const RESTARTED: [(&str, &str); 3] = [
    ("controller-manager.conf", "kube-controller-manager.service"),
    ("scheduler.conf", "kube-scheduler.service"),
    ("kube-dns.conf", "kube-dns.service"),
];

/// Where a certificate is kept.
#[derive(Clone, Debug)]
enum Place {
    /// In a kubeconfig.
    Kubeconfig(PathBuf),
    /// As `NAME.crt` and `NAME.key` in a folder.
    Files(PathBuf, &'static str),
    /// With its key in one file: a node's client certificate.
    KubeletClient(PathBuf),
}

/// A certificate of this host.
#[derive(Clone, Debug)]
pub struct Held {
    name: &'static str,
    place: Place,
    facts: Facts,
}

impl Held {
    /// Its name on the command line.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Until when it is good.
    #[must_use]
    pub const fn expires(&self) -> Timestamp {
        self.facts.expires
    }
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}

impl Place {
    fn exists(&self) -> bool {
        match self {
            Self::Kubeconfig(path) | Self::KubeletClient(path) => path.exists(),
            Self::Files(folder, name) => folder.join(format!("{name}.crt")).exists(),
        }
    }

    fn certificate(&self) -> anyhow::Result<String> {
        match self {
            Self::KubeletClient(path) => read(path),
            Self::Files(folder, name) => read(&folder.join(format!("{name}.crt"))),
            Self::Kubeconfig(path) => {
                let config = Kubeconfig::load(path)?;
                let user = config.users.first().context("the kubeconfig has no user")?;
                let data = user
                    .user
                    .client_certificate_data
                    .as_ref()
                    .context("the kubeconfig has no certificate")?;
                let bytes = base64::engine::general_purpose::STANDARD.decode(data.trim())?;
                Ok(String::from_utf8(bytes)?)
            }
        }
    }

    fn replace(&self, host: &Host, pair: &Pair) -> anyhow::Result<()> {
        match self {
            Self::KubeletClient(_) => node::write_client(host, pair),
            Self::Files(folder, name) => Folder::new(folder).write(name, pair),
            Self::Kubeconfig(path) => {
                let mut config = Kubeconfig::load(path)?;
                let encode = |text: &str| Some(base64::engine::general_purpose::STANDARD.encode(text));
                let user = &mut config.users.first_mut().context("the kubeconfig has no user")?.user;
                user.client_certificate_data = encode(&pair.certificate);
                user.client_key_data = encode(&pair.key);
                let value = serde_json::to_value(&config).context("write a kubeconfig")?;
                write_secret(path, &api::yaml::format(&value).context("write a kubeconfig")?)
            }
        }
    }
}

/// The certificates that this host has, the authority's own apart.
///
/// # Errors
/// One of them cannot be read.
pub fn held(host: &Host) -> anyhow::Result<Vec<Held>> {
    let mut places: Vec<(&'static str, Place)> = CONTROL_PLANE_KUBECONFIGS
        .into_iter()
        .map(|name| (name, Place::Kubeconfig(host.kubeconfig(name))))
        .collect();
    places.push(("apiserver", Place::Files(host.pki.clone(), "apiserver")));
    places.push(("apiserver-kubelet-client", Place::Files(host.pki.clone(), "apiserver-kubelet-client")));
    places.push((FRONT_PROXY_CLIENT, Place::Files(host.pki.clone(), FRONT_PROXY_CLIENT)));
    places.push(("kubelet-client", Place::KubeletClient(host.kubelet_client())));
    places.push(("kubelet-serving", Place::Files(host.kubelet_pki(), "kubelet")));
    let present = places.into_iter().filter(|(_, place)| place.exists());
    present
        .map(|(name, place)| {
            let facts = place.certificate().and_then(|pem| certificate::read(&pem));
            let facts = facts.with_context(|| format!("read the certificate of {name}"))?;
            Ok(Held { name, place, facts })
        })
        .collect()
}

/// The tables of certificates and authorities.
///
/// # Errors
/// A certificate cannot be read.
pub fn report(host: &Host, now: Timestamp) -> anyhow::Result<String> {
    let held = held(host)?;
    if held.is_empty() {
        bail!("this host has no certificates of a cluster");
    }
    let cells = |name: &str, expires: Timestamp| {
        let date = expires.strftime("%b %d, %Y %H:%M UTC").to_string();
        let left = if expires > now { crate::token::remaining(expires, now) } else { "<invalid>".to_owned() };
        [name.to_owned(), date, left]
    };
    let mut rows = vec![["CERTIFICATE", "EXPIRES", "RESIDUAL TIME"].map(str::to_owned)];
    rows.extend(held.iter().map(|one| cells(one.name, one.facts.expires)));
    let authority = certificate::read(&read(&host.pki.join("ca.crt"))?)?;
    let mut authorities = vec![["CERTIFICATE AUTHORITY", "EXPIRES", "RESIDUAL TIME"].map(str::to_owned)];
    authorities.push(cells("ca", authority.expires));
    let front_proxy = host.pki.join(format!("{FRONT_PROXY_AUTHORITY}.crt"));
    if front_proxy.exists() {
        authorities.push(cells(FRONT_PROXY_AUTHORITY, certificate::read(&read(&front_proxy)?)?.expires));
    }
    Ok(format!("{}\n\n{}", tokens::table(&rows), tokens::table(&authorities)))
}

/// Renews certificates: one by its name, or all that expire within a time.
///
/// # Errors
/// There is no such certificate, or it cannot be signed.
pub async fn renew(
    host: &Host,
    name: &str,
    within: Option<Duration>,
    now: Timestamp,
    say: &dyn Fn(&str),
) -> anyhow::Result<()> {
    let held = held(host)?;
    let chosen: Vec<&Held> = held.iter().filter(|one| name == "all" || one.name == name).collect();
    if chosen.is_empty() {
        let known: Vec<_> = held.iter().map(Held::name).collect();
        bail!("this host has no certificate {name:?}; it has: all {}", known.join(" "));
    }
    let authority = match host.pki.join("ca.key") {
        path if path.exists() => Some(Folder::new(&host.pki).authority(now)?),
        _ => None,
    };
    let mut renewed = Vec::new();
    for one in chosen {
        let is_due =
            within.is_none_or(|within| now.checked_add(within).map_or(true, |end| one.facts.expires < end));
        if !is_due {
            continue;
        }
        let pair = match &authority {
            Some(_) if one.name == FRONT_PROXY_CLIENT => {
                sign(&Folder::new(&host.pki).front_proxy_authority(now)?, one, now)?
            }
            Some(authority) => sign(authority, one, now)?,
            None => ask(host, one).await?,
        };
        one.place.replace(host, &pair).with_context(|| format!("replace the certificate of {}", one.name))?;
        say(&format!("certificate of {} renewed", one.name));
        renewed.push(one.name);
    }
    for (file, unit) in RESTARTED.iter().filter(|(file, _)| renewed.contains(file)) {
        systemd::systemctl(&["try-restart", unit])
            .with_context(|| format!("have {unit} use the new {file}"))?;
    }
    if renewed.is_empty() {
        say("no certificate is due");
    }
    Ok(())
}

fn sign(authority: &Authority, held: &Held, now: Timestamp) -> anyhow::Result<Pair> {
    authority.issue(&held.facts.subject, now).with_context(|| format!("sign a certificate for {}", held.name))
}

async fn ask(host: &Host, held: &Held) -> anyhow::Result<Pair> {
    let subject = &held.facts.subject;
    let node = subject.name.strip_prefix("system:node:").context("the certificate is not that of a node")?;
    let wanted = match held.place {
        Place::KubeletClient(_) => Wanted::Client,
        _ => Wanted::Serving(subject.hosts.iter().filter_map(|host| host.parse::<IpAddr>().ok()).collect()),
    };
    signing::obtain(&join::own_client(host)?, node, &wanted).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::Subject;

    const NOW: Timestamp = Timestamp::constant(1_790_000_000, 0);

    #[tokio::test]
    async fn what_is_renewed_is_the_same_but_for_its_time() {
        daemon::tls::install_crypto();
        let dir = tempfile::tempdir().expect("temp dir");
        let mut host = Host::new(Some(dir.path().join("pki")), "/run/none").expect("a host");
        host.configuration = dir.path().to_owned();
        host.kubelet = dir.path().join("kubelet");
        let pki = Folder::new(&host.pki);
        let authority = pki.authority(NOW).expect("authority");
        let names = vec!["kubernetes".to_owned(), "10.0.0.1".to_owned()];
        pki.ensure("apiserver", &authority, &Subject::server("kube-apiserver", names.clone()), NOW)
            .expect("signs");
        let admin = Subject::client("kubernetes-admin", &["kubeadm:cluster-admins"]);
        let path = host.kubeconfig("admin.conf");
        crate::kubeconfigs::ensure(&path, "kubernetes", "https://10.0.0.1:6443", &authority, &admin, NOW)
            .expect("writes");
        let before = held(&host).expect("reads");
        assert_eq!(before.iter().map(Held::name).collect::<Vec<_>>(), ["admin.conf", "apiserver"]);
        let later = NOW + Duration::from_hours(100 * 24);
        let week = Some(Duration::from_hours(7 * 24));
        renew(&host, "all", week, later, &|_| {}).await.expect("nothing to do");
        assert_eq!(held(&host).expect("reads")[0].expires(), before[0].expires(), "not due");
        renew(&host, "all", None, later, &|_| {}).await.expect("renews");
        let after = held(&host).expect("reads");
        for (old, new) in before.iter().zip(&after) {
            assert!(new.expires() > old.expires(), "{}", old.name);
            assert_eq!(new.facts.subject, old.facts.subject);
        }
        assert_eq!(after[1].facts.subject.hosts, names);
        let session = client::Session::from_file(&path).expect("still a kubeconfig");
        assert_eq!(session.server, "https://10.0.0.1:6443");
        assert!(report(&host, later).expect("reads").contains("admin.conf"));
        let error = renew(&host, "other", None, later, &|_| {}).await.expect_err("unknown");
        assert!(error.to_string().contains("apiserver"), "{error}");
    }
}
