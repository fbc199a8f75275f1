//! Reading certificates: whose they are, how long they last, and the digest by
//! which a cluster's authority is known.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use x509_parser::extensions::GeneralName;
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::pki::Subject;

/// The digest of an authority's public key: `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Of a certificate's public key (its `SubjectPublicKeyInfo`), DER.
    ///
    /// # Errors
    /// It is no certificate.
    pub fn of(der: &[u8]) -> anyhow::Result<Self> {
        let (_, certificate) = X509Certificate::from_der(der).context("read a certificate")?;
        Ok(Self(Sha256::digest(certificate.public_key().raw).into()))
    }

    /// Of the first certificate in a PEM text.
    ///
    /// # Errors
    /// There is none.
    pub fn of_pem(pem: &str) -> anyhow::Result<Self> {
        let (_, block) = parse_x509_pem(pem.as_bytes()).context("read a certificate's PEM")?;
        Self::of(&block.contents)
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Digest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not sha256: and 64 hexadecimal digits");
        let digits = text.strip_prefix("sha256:").filter(|digits| digits.len() == 64).ok_or_else(wrong)?;
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| wrong())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
        }
        Ok(Self(bytes))
    }
}

/// What a certificate says.
#[derive(Clone, Debug)]
pub struct Facts {
    /// For whom it is.
    pub subject: Subject,
    /// Until when it is good.
    pub expires: Timestamp,
    /// Whether it is an authority's.
    pub is_authority: bool,
}

/// Reads the first certificate in a PEM text.
///
/// # Errors
/// There is none, or one that cannot be read.
pub fn read(pem: &str) -> anyhow::Result<Facts> {
    let (_, block) = parse_x509_pem(pem.as_bytes()).context("read a certificate's PEM")?;
    let certificate = block.parse_x509().context("read a certificate")?;
    let subject = certificate.subject();
    let text = |value: &x509_parser::x509::AttributeTypeAndValue<'_>| {
        value.as_str().map(str::to_owned).context("a name that is no text")
    };
    let name = subject.iter_common_name().next().map(text).transpose()?.unwrap_or_default();
    let groups = subject.iter_organization().map(text).collect::<Result<_, _>>()?;
    let mut hosts = Vec::new();
    if let Some(names) = certificate.subject_alternative_name().context("read host names")? {
        for name in &names.value.general_names {
            match name {
                GeneralName::DNSName(host) => hosts.push((*host).to_owned()),
                GeneralName::IPAddress(bytes) => hosts.push(address(bytes)?.to_string()),
                other => bail!("a certificate for {other}"),
            }
        }
    }
    let usage = certificate.extended_key_usage().context("read usages")?;
    let client_too = !hosts.is_empty() && usage.is_some_and(|usage| usage.value.client_auth);
    Ok(Facts {
        subject: Subject { name, groups, hosts, client_too },
        expires: Timestamp::from_second(certificate.validity().not_after.timestamp())?,
        is_authority: certificate.is_ca(),
    })
}

fn address(bytes: &[u8]) -> anyhow::Result<IpAddr> {
    let four = <[u8; 4]>::try_from(bytes).map(|four| IpAddr::from(Ipv4Addr::from(four)));
    four.or_else(|_| <[u8; 16]>::try_from(bytes).map(|sixteen| Ipv6Addr::from(sixteen).into()))
        .context("an address of an unknown length")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::Authority;

    const NOW: Timestamp = Timestamp::constant(1_790_000_000, 0);

    #[test]
    fn a_digest_survives_being_written_down() {
        let (authority, _) = Authority::generate("kubernetes", NOW).expect("authority");
        let digest = Digest::of_pem(authority.pem()).expect("a digest");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        let other = Authority::generate("kubernetes", NOW).expect("authority").0;
        assert_ne!(Digest::of_pem(other.pem()).expect("a digest"), digest);
        for bad in ["", "sha256:", "sha512:00", "sha256:zz", &digest.to_string()[..70]] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_certificate_says_what_it_was_made_for() {
        let (authority, _) = Authority::generate("kubernetes", NOW).expect("authority");
        assert!(read(authority.pem()).expect("reads").is_authority);
        let hosts = vec!["n1".to_owned(), "10.0.0.1".to_owned(), "fd00::1".to_owned()];
        let pair = authority.issue(&Subject::server("system:node:n1", hosts.clone()), NOW).expect("signs");
        let facts = read(&pair.certificate).expect("reads");
        assert_eq!((facts.subject.name.as_str(), facts.subject.hosts), ("system:node:n1", hosts));
        assert!(!facts.is_authority && !facts.subject.client_too && facts.expires > NOW);
        let pair = authority.issue(&Subject::client("jane", &["devs"]), NOW).expect("signs");
        assert_eq!(read(&pair.certificate).expect("reads").subject.groups, ["devs"]);
    }
}
