//! The cluster's keys and certificates, in upstream's places below one folder.
//!
//! Everything that is there already is kept, so that running it again changes
//! nothing. Private keys are readable by their owner only.

use std::fs;
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};

/// Life of the authority and of what it signs, in days.
const CA_DAYS: i64 = 3650;
const LEAF_DAYS: i64 = 365;
/// Clocks that are a little behind must take a fresh certificate.
const BACKDATED_MINUTES: i64 = 5;

/// What a certificate is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// The common name: the user.
    pub name: String,
    /// The organizations: the groups.
    pub groups: Vec<String>,
    /// The host names and addresses of a server; none for a client.
    pub hosts: Vec<String>,
    /// Whether it is used as a client as well, where it has hosts.
    pub client_too: bool,
}

impl Subject {
    /// A client.
    pub fn client(name: impl Into<String>, groups: &[&str]) -> Self {
        Self {
            name: name.into(),
            groups: groups.iter().map(|one| (*one).to_owned()).collect(),
            ..Self::default()
        }
    }

    /// A server.
    pub fn server(name: impl Into<String>, hosts: Vec<String>) -> Self {
        Self { name: name.into(), hosts, ..Self::default() }
    }
}

/// A certificate and its key, PEM.
#[derive(Clone)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// The key.
    pub key: String,
}

/// The certificate authority of a cluster.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

fn validity(params: &mut CertificateParams, days: i64, now: jiff::Timestamp) -> anyhow::Result<()> {
    let at = |minutes: i64| -> anyhow::Result<_> {
        let seconds = now.as_second() + minutes * 60;
        let time = jiff::Timestamp::from_second(seconds)?.to_zoned(jiff::tz::TimeZone::UTC);
        Ok(rcgen::date_time_ymd(time.year().into(), time.month().unsigned_abs(), time.day().unsigned_abs()))
    };
    // Whole days: the first begins before now whatever the clock.
    params.not_before = at(-BACKDATED_MINUTES)?;
    params.not_after = at(days * 24 * 60)?;
    Ok(())
}

impl Authority {
    /// A new authority.
    ///
    /// # Errors
    /// The certificate cannot be made.
    pub fn generate(name: &str, now: jiff::Timestamp) -> anyhow::Result<(Self, Pair)> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        validity(&mut params, CA_DAYS, now)?;
        let key = KeyPair::generate().context("generate the authority's key")?;
        let certificate = params.self_signed(&key).context("sign the authority's certificate")?;
        let pair = Pair { certificate: certificate.pem(), key: key.serialize_pem() };
        Ok((Self { issuer: Issuer::new(params, key), pem: certificate.pem() }, pair))
    }

    /// An authority that exists.
    ///
    /// # Errors
    /// A certificate or key that cannot be read.
    pub fn load(pair: &Pair) -> anyhow::Result<Self> {
        let key = KeyPair::from_pem(&pair.key).context("read the authority's key")?;
        let issuer =
            Issuer::from_ca_cert_pem(&pair.certificate, key).context("read the authority's certificate")?;
        Ok(Self { issuer, pem: pair.certificate.clone() })
    }

    /// The authority's certificate, PEM.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Signs a new certificate.
    ///
    /// # Errors
    /// The certificate cannot be made.
    pub fn issue(&self, subject: &Subject, now: jiff::Timestamp) -> anyhow::Result<Pair> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, subject.name.as_str());
        for group in &subject.groups {
            params.distinguished_name.push(DnType::OrganizationName, group.as_str());
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        for host in &subject.hosts {
            params.subject_alt_names.push(match host.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => {
                    SanType::DnsName(host.as_str().try_into().with_context(|| format!("host name {host:?}"))?)
                }
            });
        }
        if !subject.hosts.is_empty() {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        if subject.hosts.is_empty() || subject.client_too {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
        }
        validity(&mut params, LEAF_DAYS, now)?;
        let key = KeyPair::generate().context("generate a key")?;
        let certificate = params
            .signed_by(&key, &self.issuer)
            .with_context(|| format!("sign the certificate of {:?}", subject.name))?;
        let mut chain = certificate.pem();
        if !subject.hosts.is_empty() {
            // A server shows its authority, for clients that know no more than its digest.
            chain.push_str(&self.pem);
        }
        Ok(Pair { certificate: chain, key: key.serialize_pem() })
    }
}

/// File, and common name, of the authority of those who speak for others.
pub const FRONT_PROXY_AUTHORITY: &str = "front-proxy-ca";
/// File, and common name, of the API server's certificate by it.
pub const FRONT_PROXY_CLIENT: &str = "front-proxy-client";

/// The files below one folder.
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// The folder, `/etc/kubernetes/pki` on a host.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// A file in it.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The authority, made if there is none.
    ///
    /// # Errors
    /// Files that cannot be read or written.
    pub fn authority(&self, now: jiff::Timestamp) -> anyhow::Result<Authority> {
        self.authority_in("ca", "kubernetes", now)
    }

    /// The authority whose clients speak for others to extension API servers, made if
    /// there is none. It is one of its own: whoever it signs may say that they are
    /// anybody.
    ///
    /// # Errors
    /// Files that cannot be read or written.
    pub fn front_proxy_authority(&self, now: jiff::Timestamp) -> anyhow::Result<Authority> {
        self.authority_in(FRONT_PROXY_AUTHORITY, FRONT_PROXY_AUTHORITY, now)
    }

    /// The certificate with which the API server speaks for others, signed if it is
    /// not there.
    ///
    /// # Errors
    /// Files that cannot be read or written.
    pub fn ensure_front_proxy(&self, now: jiff::Timestamp) -> anyhow::Result<()> {
        let authority = self.front_proxy_authority(now)?;
        self.ensure(FRONT_PROXY_CLIENT, &authority, &Subject::client(FRONT_PROXY_CLIENT, &[]), now)
    }

    fn authority_in(&self, file: &str, name: &str, now: jiff::Timestamp) -> anyhow::Result<Authority> {
        fs::create_dir_all(&self.0).with_context(|| format!("create {}", self.0.display()))?;
        let (certificate, key) = (self.path(&format!("{file}.crt")), self.path(&format!("{file}.key")));
        if certificate.exists() {
            return Authority::load(&Pair { certificate: read(&certificate)?, key: read(&key)? });
        }
        let (authority, pair) = Authority::generate(name, now)?;
        self.write(file, &pair)?;
        Ok(authority)
    }

    /// A certificate by file name, signed if it is not there.
    ///
    /// # Errors
    /// Files that cannot be written.
    pub fn ensure(
        &self,
        name: &str,
        authority: &Authority,
        subject: &Subject,
        now: jiff::Timestamp,
    ) -> anyhow::Result<()> {
        if self.path(&format!("{name}.crt")).exists() && self.path(&format!("{name}.key")).exists() {
            return Ok(());
        }
        self.write(name, &authority.issue(subject, now)?)
    }

    /// The pair that signs service account tokens.
    ///
    /// # Errors
    /// Files that cannot be written.
    pub fn ensure_service_account_keys(&self) -> anyhow::Result<()> {
        if self.path("sa.key").exists() && self.path("sa.pub").exists() {
            return Ok(());
        }
        let key = KeyPair::generate().context("generate the service account key")?;
        write_secret(&self.path("sa.key"), &key.serialize_pem())?;
        fs::write(self.path("sa.pub"), key.public_key_pem()).context("write sa.pub")
    }

    /// Writes a certificate and its key by file name, over what is there.
    ///
    /// # Errors
    /// Files that cannot be written.
    pub fn write(&self, name: &str, pair: &Pair) -> anyhow::Result<()> {
        write_secret(&self.path(&format!("{name}.key")), &pair.key)?;
        let path = self.path(&format!("{name}.crt"));
        fs::write(&path, &pair.certificate).with_context(|| format!("write {}", path.display()))
    }
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}

/// Writes a file that only its owner can read, whole or not at all.
///
/// # Errors
/// The file cannot be written.
pub fn write_secret(path: &Path, text: &str) -> anyhow::Result<()> {
    let write = || -> std::io::Result<()> {
        let temporary = path.with_extension("tmp");
        // A leftover of a crash may have other permissions.
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests;
