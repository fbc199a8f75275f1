//! The signature: the only place where the authority's key is used.
//!
//! The certificate is made by `rcgen`, whose names hold one value of each type.
//! A request may have several (a user in two groups), and the key in it may be
//! of a type that `rcgen` does not name: so subject and key are put in from the
//! request, byte for byte, and the whole is signed again.

use std::fs;

use base64::Engine as _;
use rcgen::{
    CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair,
    KeyUsagePurpose, SanType, SerialNumber, SigningKey as _,
};
use reconcile::action::Completion;
use serde_json::Value;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::AuthorityFiles;
use super::plan::Order;

/// An order, to be carried out with an authority.
#[derive(Debug)]
pub(super) struct Signature {
    pub(super) order: Order,
    pub(super) authority: AuthorityFiles,
}

/// An authority's material, in memory.
pub(super) struct Authority {
    certificate: Vec<u8>,
    key: KeyPair,
}

impl Completion for Signature {
    fn complete(&self, mut object: Value) -> Result<Value, String> {
        let authority = Authority::load(&self.authority)?;
        let certificate = authority.sign(&self.order)?;
        object["status"]["certificate"] =
            base64::engine::general_purpose::STANDARD.encode(pem(&certificate)).into();
        Ok(object)
    }
}

fn key_usage(usage: &str) -> Option<KeyUsagePurpose> {
    Some(match usage {
        "signing" | "digital signature" => KeyUsagePurpose::DigitalSignature,
        "content commitment" => KeyUsagePurpose::ContentCommitment,
        "key encipherment" => KeyUsagePurpose::KeyEncipherment,
        "key agreement" => KeyUsagePurpose::KeyAgreement,
        "data encipherment" => KeyUsagePurpose::DataEncipherment,
        "cert sign" => KeyUsagePurpose::KeyCertSign,
        "crl sign" => KeyUsagePurpose::CrlSign,
        "encipher only" => KeyUsagePurpose::EncipherOnly,
        "decipher only" => KeyUsagePurpose::DecipherOnly,
        _ => return None,
    })
}

fn extended_usage(usage: &str) -> Option<ExtendedKeyUsagePurpose> {
    let other = |last: u64| ExtendedKeyUsagePurpose::Other(vec![1, 3, 6, 1, 5, 5, 7, 3, last]);
    Some(match usage {
        "any" => ExtendedKeyUsagePurpose::Any,
        "server auth" => ExtendedKeyUsagePurpose::ServerAuth,
        "client auth" => ExtendedKeyUsagePurpose::ClientAuth,
        "code signing" => ExtendedKeyUsagePurpose::CodeSigning,
        "email protection" | "s/mime" => ExtendedKeyUsagePurpose::EmailProtection,
        "ipsec end system" => other(5),
        "ipsec tunnel" => other(6),
        "ipsec user" => other(7),
        "timestamping" => ExtendedKeyUsagePurpose::TimeStamping,
        "ocsp signing" => ExtendedKeyUsagePurpose::OcspSigning,
        _ => return None,
    })
}

/// Whether a certificate can have the usage. (Upstream knows two more, of
/// Microsoft and Netscape.)
pub(super) fn is_known(usage: &str) -> bool {
    key_usage(usage).is_some() || extended_usage(usage).is_some()
}

impl Authority {
    fn load(files: &AuthorityFiles) -> Result<Self, String> {
        let text = |path: &std::path::Path| {
            fs::read_to_string(path).map_err(|error| format!("read {}: {error}", path.display()))
        };
        Self::of(&text(&files.certificate)?, &text(&files.key)?)
    }

    /// From PEM.
    pub(super) fn of(certificate: &str, key: &str) -> Result<Self, String> {
        let (_, block) = parse_x509_pem(certificate.as_bytes())
            .map_err(|error| format!("read the authority's certificate: {error}"))?;
        let key = KeyPair::from_pem(key).map_err(|error| format!("read the authority's key: {error}"))?;
        Ok(Self { certificate: block.contents, key })
    }

    /// The certificate, DER.
    pub(super) fn sign(&self, order: &Order) -> Result<Vec<u8>, String> {
        let (_, own) = X509Certificate::from_der(&self.certificate).map_err(|error| error.to_string())?;
        let der = self.certificate.as_slice().into();
        let issuer = Issuer::from_ca_cert_der(&der, &self.key)
            .map_err(|error| format!("use the authority's certificate: {error}"))?;
        let params = params(order, own.validity().not_after.timestamp())?;
        let made = params.signed_by(&self.key, &issuer).map_err(|error| error.to_string())?;
        let (_, request) =
            X509CertificationRequest::from_der(&order.request).map_err(|error| error.to_string())?;
        let info = &request.certification_request_info;
        self.with_subject_and_key(made.der(), info.subject.as_raw(), info.subject_pki.raw)
    }

    /// The certificate with another subject and key, signed anew.
    fn with_subject_and_key(&self, made: &[u8], subject: &[u8], key: &[u8]) -> Result<Vec<u8>, String> {
        let (_, certificate) = X509Certificate::from_der(made).map_err(|error| error.to_string())?;
        let whole = certificate.tbs_certificate.as_ref();
        let offset = |part: &[u8]| part.as_ptr() as usize - whole.as_ptr() as usize;
        let (old_subject, old_key) = (certificate.subject().as_raw(), certificate.public_key().raw);
        let (subject_at, key_at) = (offset(old_subject), offset(old_key));
        let head = header_length(whole).ok_or("the certificate made has no header")?;
        let body = [
            &whole[head..subject_at],
            subject,
            &whole[subject_at + old_subject.len()..key_at],
            key,
            &whole[key_at + old_key.len()..],
        ]
        .concat();
        let body = sequence(&body);
        let signature = self.key.sign(&body).map_err(|error| format!("sign: {error}"))?;
        let algorithm = &made[made.len() - trailer(&certificate, made)..];
        let (_, algorithm_length) = element(algorithm).ok_or("the certificate made has no algorithm")?;
        let mut bits = vec![0];
        bits.extend(signature);
        Ok(sequence(&[body, algorithm[..algorithm_length].to_vec(), tagged(3, &bits)].concat()))
    }
}

/// The length of what follows the signed part of a certificate.
fn trailer(certificate: &X509Certificate<'_>, made: &[u8]) -> usize {
    let signed = certificate.tbs_certificate.as_ref();
    let end = signed.as_ptr() as usize + signed.len() - made.as_ptr() as usize;
    made.len() - end
}

fn params(order: &Order, authority_ends: i64) -> Result<CertificateParams, String> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, order.asked.name.as_str());
    let time = |seconds: i64| {
        let time = jiff::Timestamp::from_second(seconds).map_err(|error| error.to_string())?;
        let time = time.to_zoned(jiff::tz::TimeZone::UTC);
        let day =
            rcgen::date_time_ymd(time.year().into(), time.month().unsigned_abs(), time.day().unsigned_abs());
        let since = i64::from(time.hour()) * 3600 + i64::from(time.minute()) * 60 + i64::from(time.second());
        Ok::<_, String>(day + std::time::Duration::from_secs(since.unsigned_abs()))
    };
    params.not_before = time(order.not_before.as_second())?;
    params.not_after = time(order.not_after.as_second().min(authority_ends))?;
    params.serial_number = Some(SerialNumber::from_slice(&rand::random::<[u8; 16]>()));
    params.use_authority_key_identifier_extension = true;
    params.key_usages = order.usages.iter().filter_map(|usage| key_usage(usage)).collect();
    params.extended_key_usages = order.usages.iter().filter_map(|usage| extended_usage(usage)).collect();
    // Basic constraints: no authority.
    let mut no_authority = CustomExtension::from_oid_content(&[2, 5, 29, 19], vec![0x30, 0]);
    no_authority.set_criticality(true);
    params.custom_extensions.push(no_authority);
    let asked = &order.asked;
    let bad = |error: rcgen::Error| error.to_string();
    for host in &asked.hosts {
        params.subject_alt_names.push(SanType::DnsName(host.as_str().try_into().map_err(bad)?));
    }
    for mail in &asked.mails {
        params.subject_alt_names.push(SanType::Rfc822Name(mail.as_str().try_into().map_err(bad)?));
    }
    for uri in &asked.uris {
        params.subject_alt_names.push(SanType::URI(uri.as_str().try_into().map_err(bad)?));
    }
    params.subject_alt_names.extend(asked.addresses.iter().copied().map(SanType::IpAddress));
    Ok(params)
}

fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match u8::try_from(content.len()) {
        Ok(short) if short < 0x80 => out.push(short),
        _ => {
            let bytes = content.len().to_be_bytes();
            let used: Vec<u8> = bytes.into_iter().skip_while(|byte| *byte == 0).collect();
            out.push(0x80 | u8::try_from(used.len()).unwrap_or(u8::MAX));
            out.extend(used);
        }
    }
    out.extend(content);
    out
}

fn sequence(content: &[u8]) -> Vec<u8> {
    tagged(0x30, content)
}

/// The lengths of an element's header, and of the whole element.
fn element(der: &[u8]) -> Option<(usize, usize)> {
    let first = usize::from(*der.get(1)?);
    if first < 0x80 {
        return Some((2, 2 + first));
    }
    let count = first & 0x7f;
    let length = der
        .get(2..2 + count)?
        .iter()
        .try_fold(0_usize, |sum, byte| sum.checked_mul(256)?.checked_add(usize::from(*byte)))?;
    Some((2 + count, 2 + count + length))
}

fn header_length(der: &[u8]) -> Option<usize> {
    element(der).map(|(header, _)| header)
}

/// A certificate in PEM.
pub(super) fn pem(der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut out = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in text.as_bytes().chunks(64) {
        out.push_str(&String::from_utf8_lossy(line));
        out.push('\n');
    }
    out.push_str("-----END CERTIFICATE-----\n");
    out
}
