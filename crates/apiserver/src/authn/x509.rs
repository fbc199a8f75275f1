//! A verified client certificate as a user: the common name is the user's name,
//! each organization a group; which certificate it was is told in the extra facts.
//! The user ends with its certificate, also on a connection that lives on.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{AUTHENTICATED, CREDENTIAL_ID, User};

/// The user of a certificate, and how long it is that.
pub(super) struct Identity {
    pub(super) user: Arc<User>,
    pub(super) until: Timestamp,
}

/// The identity in a certificate; `None` where it has no common name.
pub(super) fn identity(certificate: &CertificateDer<'_>) -> Option<Identity> {
    let fingerprint: String = Sha256::digest(certificate).iter().map(|byte| format!("{byte:02x}")).collect();
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let subject = certificate.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
    if name.is_empty() {
        return None;
    }
    let mut groups: Vec<String> =
        subject.iter_organization().filter_map(|one| one.as_str().ok()).map(str::to_owned).collect();
    groups.push(AUTHENTICATED.to_owned());
    let until = Timestamp::from_second(certificate.validity().not_after.timestamp()).ok()?;
    let extra = BTreeMap::from([(CREDENTIAL_ID.to_owned(), vec![format!("X509SHA256={fingerprint}")])]);
    Some(Identity { user: Arc::new(User { name, groups, extra, ..User::default() }), until })
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    #[test]
    fn name_and_groups_come_from_the_subject() {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "jane");
        params.distinguished_name.push(DnType::OrganizationName, "devs");
        let key = KeyPair::generate().expect("key");
        let certificate = params.self_signed(&key).expect("certificate");
        let Identity { user, until } = identity(certificate.der()).expect("a user");
        assert_eq!(
            (user.name.as_str(), user.groups.clone()),
            ("jane", vec!["devs".to_owned(), AUTHENTICATED.to_owned()])
        );
        let credential = &user.extra[CREDENTIAL_ID][0];
        assert_eq!((credential.len(), credential.starts_with("X509SHA256=")), (75, true), "{credential}");
        assert_eq!(until, "4096-01-01T00:00:00Z".parse().expect("a time"));
    }
}
