//! What certificate signing requests ask for, and what upstream's signers
//! accept (`pkg/apis/certificates/helpers.go`,
//! `pkg/controller/certificates/signer`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use api::metav1::Time;
use api::types::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};
use jiff::Timestamp;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::FromDer as _;

/// The signer of certificates for any client of the API server.
pub const API_CLIENT: &str = "kubernetes.io/kube-apiserver-client";
/// The signer of kubelets' client certificates.
pub const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
/// The signer of kubelets' serving certificates.
pub const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
/// The signer without promises.
pub const LEGACY: &str = "kubernetes.io/legacy-unknown";

/// The group of all nodes.
pub const NODES: &str = "system:nodes";
/// What a node's user name begins with.
pub const NODE_USER: &str = "system:node:";

/// Whom a certificate is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// The common name.
    pub name: String,
    /// The organizations.
    pub organizations: Vec<String>,
    /// Host names.
    pub hosts: Vec<String>,
    /// Addresses.
    pub addresses: Vec<IpAddr>,
    /// Mail addresses.
    pub mails: Vec<String>,
    /// URIs.
    pub uris: Vec<String>,
}

/// Why a request cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Unusable {
    /// It is not a request in PEM.
    #[error("the request is no PEM block of the type CERTIFICATE REQUEST")]
    NoPem,
    /// The block is damaged.
    #[error("the request cannot be read: {0}")]
    Damaged(String),
    /// Whoever made it does not have the key.
    #[error("the request is not signed by its own key")]
    Signature,
    /// A name of a kind that nobody signs.
    #[error("the request asks for a name that is no host name, address, mail address or URI")]
    OtherName,
}

/// The DER in a request's PEM.
///
/// # Errors
/// It is not a request in PEM.
pub fn der(pem: &[u8]) -> Result<Vec<u8>, Unusable> {
    let (_, pem) = parse_x509_pem(pem).map_err(|_| Unusable::NoPem)?;
    if pem.label == "CERTIFICATE REQUEST" { Ok(pem.contents) } else { Err(Unusable::NoPem) }
}

/// Reads a request, PEM.
///
/// # Errors
/// What is wrong with it.
pub fn read(pem: &[u8]) -> Result<Asked, Unusable> {
    let der = der(pem)?;
    let damaged = |error: &dyn std::fmt::Display| Unusable::Damaged(error.to_string());
    let (_, request) = X509CertificationRequest::from_der(&der).map_err(|error| damaged(&error))?;
    request.verify_signature().map_err(|_| Unusable::Signature)?;
    let subject = &request.certification_request_info.subject;
    let text = |value: &x509_parser::x509::AttributeTypeAndValue<'_>| {
        value.as_str().map(str::to_owned).map_err(|error| damaged(&error))
    };
    let mut asked = Asked {
        name: subject.iter_common_name().next().map(text).transpose()?.unwrap_or_default(),
        organizations: subject.iter_organization().map(text).collect::<Result<_, _>>()?,
        ..Asked::default()
    };
    for extension in request.requested_extensions().into_iter().flatten() {
        let ParsedExtension::SubjectAlternativeName(names) = extension else { continue };
        for name in &names.general_names {
            match name {
                GeneralName::DNSName(host) => asked.hosts.push((*host).to_owned()),
                GeneralName::RFC822Name(mail) => asked.mails.push((*mail).to_owned()),
                GeneralName::URI(uri) => asked.uris.push((*uri).to_owned()),
                GeneralName::IPAddress(bytes) => {
                    asked.addresses.push(address(bytes).ok_or(Unusable::OtherName)?);
                }
                _ => return Err(Unusable::OtherName),
            }
        }
    }
    Ok(asked)
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes)
        .map(|four| Ipv4Addr::from(four).into())
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(|sixteen| Ipv6Addr::from(sixteen).into()))
        .ok()
}

/// The node that a request is for, if its subject is a node's.
#[must_use]
pub fn node(asked: &Asked) -> Option<&str> {
    asked.name.strip_prefix(NODE_USER).filter(|node| !node.is_empty() && asked.organizations == [NODES])
}

fn are_exactly(usages: &[String], sets: &[&[&str]]) -> bool {
    let mut have: Vec<&str> = usages.iter().map(String::as_str).collect();
    have.sort_unstable();
    have.dedup();
    sets.iter().any(|set| {
        let mut want = set.to_vec();
        want.sort_unstable();
        have == want
    })
}

/// Whether upstream's rules for a kubelet's client certificate hold.
///
/// # Errors
/// The rule that does not.
pub fn check_kubelet_client(asked: &Asked, usages: &[String]) -> Result<(), &'static str> {
    if asked.organizations != [NODES] {
        return Err("subject organization is not system:nodes");
    }
    if !asked.hosts.is_empty() {
        return Err("DNS subjectAltNames are not allowed");
    }
    if !asked.mails.is_empty() {
        return Err("email subjectAltNames are not allowed");
    }
    if !asked.addresses.is_empty() {
        return Err("IP subjectAltNames are not allowed");
    }
    if !asked.uris.is_empty() {
        return Err("URI subjectAltNames are not allowed");
    }
    if node(asked).is_none() {
        return Err("subject common name does not begin with system:node: ");
    }
    let sets: [&[&str]; 2] =
        [&["digital signature", "client auth"], &["key encipherment", "digital signature", "client auth"]];
    if !are_exactly(usages, &sets) {
        return Err("usages did not match [client auth digital signature key encipherment]");
    }
    Ok(())
}

/// Whether upstream's rules for a kubelet's serving certificate hold.
///
/// # Errors
/// The rule that does not.
pub fn check_kubelet_serving(asked: &Asked, usages: &[String]) -> Result<(), &'static str> {
    if asked.organizations != [NODES] {
        return Err("subject organization is not system:nodes");
    }
    if asked.hosts.is_empty() && asked.addresses.is_empty() {
        return Err("DNS or IP subjectAltName is required");
    }
    if !asked.mails.is_empty() {
        return Err("email subjectAltNames are not allowed");
    }
    if !asked.uris.is_empty() {
        return Err("URI subjectAltNames are not allowed");
    }
    if node(asked).is_none() {
        return Err("subject common name does not begin with system:node: ");
    }
    let sets: [&[&str]; 2] =
        [&["digital signature", "server auth"], &["key encipherment", "digital signature", "server auth"]];
    if !are_exactly(usages, &sets) {
        return Err("usages did not match [digital signature key encipherment server auth]");
    }
    Ok(())
}

/// Whether upstream's rules for a client of the API server hold.
///
/// # Errors
/// The rule that does not.
pub fn check_api_client(usages: &[String]) -> Result<(), &'static str> {
    let allowed = ["digital signature", "key encipherment", "client auth"];
    if !usages.iter().all(|usage| allowed.contains(&usage.as_str())) {
        return Err("usages are not limited to [client auth digital signature key encipherment]");
    }
    if !usages.iter().any(|usage| usage == "client auth") {
        return Err("usages do not have client auth");
    }
    Ok(())
}

/// A condition of a request that holds.
#[must_use]
pub fn condition<'a>(
    request: &'a CertificateSigningRequest,
    kind: &str,
) -> Option<&'a CertificateSigningRequestCondition> {
    let conditions = request.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().find(|one| one.type_ == kind && one.status != "False")
}

/// The certificate of a request that was signed, PEM.
#[must_use]
pub fn certificate(request: &CertificateSigningRequest) -> Option<&[u8]> {
    let bytes = request.status.as_ref()?.certificate.as_ref()?;
    (!bytes.0.is_empty()).then_some(bytes.0.as_slice())
}

/// The request with one more condition.
#[must_use]
pub fn with_condition(
    request: &CertificateSigningRequest,
    (kind, reason): (&str, &str),
    message: &str,
    now: Timestamp,
) -> CertificateSigningRequest {
    let mut request = request.clone();
    let conditions = request.status.get_or_insert_default().conditions.get_or_insert_default();
    conditions.push(CertificateSigningRequestCondition {
        type_: kind.to_owned(),
        status: "True".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_update_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    });
    request
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::certificate_request;

    fn asked(name: &str, organization: &str, hosts: &[&str]) -> Asked {
        read(certificate_request(name, &[organization], hosts).as_bytes()).expect("reads")
    }

    fn usages(list: &[&str]) -> Vec<String> {
        list.iter().map(|one| (*one).to_owned()).collect()
    }

    #[test]
    fn a_request_reads() {
        let asked = asked("system:node:n1", NODES, &["n1", "10.0.0.1", "fd00::1"]);
        assert_eq!(node(&asked), Some("n1"));
        assert_eq!((asked.hosts.len(), asked.addresses.len()), (1, 2));
        assert_eq!(read(b"rubbish"), Err(Unusable::NoPem));
    }

    #[test]
    fn a_request_that_was_tampered_with_is_refused() {
        let pem = certificate_request("jane", &[], &[]);
        let der = der(pem.as_bytes()).expect("reads");
        let at = der.windows(4).position(|four| four == b"jane").expect("the name");
        let mut other = der;
        other[at] = b'k';
        use base64::Engine as _;
        let text = base64::engine::general_purpose::STANDARD.encode(other);
        let lines: Vec<String> =
            text.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line).into()).collect();
        let pem = format!(
            "-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n",
            lines.join("\n")
        );
        assert_eq!(read(pem.as_bytes()), Err(Unusable::Signature));
    }

    #[test]
    fn upstreams_rules() {
        let client = usages(&["client auth", "digital signature"]);
        let server = usages(&["digital signature", "server auth", "key encipherment"]);
        let plain = asked("system:node:n1", NODES, &[]);
        let serving = asked("system:node:n1", NODES, &["n1", "10.0.0.1"]);
        assert_eq!(check_kubelet_client(&plain, &client), Ok(()));
        assert!(check_kubelet_client(&serving, &client).is_err());
        assert!(check_kubelet_client(&plain, &server).is_err());
        assert!(check_kubelet_client(&asked("n1", NODES, &[]), &client).is_err());
        assert!(check_kubelet_client(&asked("system:node:", NODES, &[]), &client).is_err());
        assert!(check_kubelet_client(&asked("system:node:n1", "system:masters", &[]), &client).is_err());
        assert_eq!(check_kubelet_serving(&serving, &server), Ok(()));
        assert!(check_kubelet_serving(&plain, &server).is_err());
        assert!(check_kubelet_serving(&serving, &client).is_err());
        assert_eq!(check_api_client(&client), Ok(()));
        assert!(check_api_client(&server).is_err());
        assert!(check_api_client(&usages(&["digital signature"])).is_err());
    }
}
