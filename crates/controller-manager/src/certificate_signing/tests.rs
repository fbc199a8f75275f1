use std::time::Duration;

use api::types::certificates::v1::CertificateSigningRequest;
use jiff::Timestamp;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair};
use serde_json::{Value, json};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::plan::{Order, Verdict, plan};
use super::sign::Authority;
use crate::signing_requests as requests;
use crate::testing::{certificate_request, now, signing_request};

const YEAR: Duration = Duration::from_hours(365 * 24);

fn approved(request: &str, changes: Value) -> CertificateSigningRequest {
    let mut all = json!({"status": {"conditions": [{"type": "Approved", "status": "True"}]}});
    api::patch::merge_patch(&mut all, changes);
    signing_request(request, all)
}

fn order(request: &CertificateSigningRequest) -> Order {
    match plan(request, YEAR, now()) {
        Verdict::Sign(order) => *order,
        other => panic!("{other:?}"),
    }
}

fn refusal(request: &CertificateSigningRequest) -> String {
    match plan(request, YEAR, now()) {
        Verdict::Refuse(failed) => {
            let failed = requests::condition(&failed, "Failed").cloned().expect("a condition");
            assert_eq!(failed.reason.as_deref(), Some("SignerValidationFailure"));
            failed.message.expect("a message")
        }
        other => panic!("{other:?}"),
    }
}

fn authority(ends: (i32, u8, u8)) -> (Authority, String) {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "kubernetes");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.not_after = rcgen::date_time_ymd(ends.0, ends.1, ends.2);
    let key = KeyPair::generate().expect("key");
    let certificate = params.self_signed(&key).expect("certificate").pem();
    (Authority::of(&certificate, &key.serialize_pem()).expect("an authority"), certificate)
}

#[test]
fn only_approved_requests_of_our_signers_are_signed() {
    let node = certificate_request("system:node:n1", &["system:nodes"], &[]);
    let cases = [
        (json!({}), true),
        (json!({"spec": {"signerName": "example.com/own"}}), false),
        (json!({"status": {"conditions": []}}), false),
        (json!({"status": {"certificate": "Zm9v"}}), false),
        (
            json!({"status": {"conditions": [
                {"type": "Approved", "status": "True"}, {"type": "Failed", "status": "True"}]}}),
            false,
        ),
    ];
    for (changes, signed) in cases {
        let verdict = plan(&approved(&node, changes.clone()), YEAR, now());
        assert_eq!(matches!(verdict, Verdict::Sign(_)), signed, "{changes}: {verdict:?}");
        assert_eq!(verdict == Verdict::NotOurs, !signed, "{changes}");
    }
}

#[test]
fn what_a_signer_does_not_sign_fails() {
    let node = certificate_request("system:node:n1", &["system:nodes"], &[]);
    let serving = certificate_request("system:node:n1", &["system:nodes"], &["n1"]);
    assert!(refusal(&approved(&serving, json!({}))).contains("DNS"));
    assert!(refusal(&approved(&node, json!({"spec": {"usages": ["server auth"]}}))).contains("usages"));
    let server = json!({"spec": {
        "signerName": requests::KUBELET_SERVING, "username": "system:node:n2",
        "usages": ["digital signature", "server auth"],
    }});
    assert!(refusal(&approved(&serving, server)).contains("requesting user"));
    let legacy = json!({"spec": {"signerName": requests::LEGACY, "usages": ["world peace"]}});
    assert!(refusal(&approved(&node, legacy)).contains("world peace"));
    assert!(refusal(&approved("rubbish", json!({}))).contains("PEM"));
}

#[test]
fn lives() {
    let node = certificate_request("system:node:n1", &["system:nodes"], &[]);
    let life = |seconds: Option<i32>| {
        let order = order(&approved(&node, json!({"spec": {"expirationSeconds": seconds}})));
        assert_eq!(now().as_second() - order.not_before.as_second(), 300);
        order.not_after.as_second() - now().as_second()
    };
    assert_eq!(life(None), 365 * 24 * 3600 - 300);
    assert_eq!(life(Some(3600)), 3600);
    assert_eq!(life(Some(60)), 600);
    assert_eq!(life(Some(i32::MAX)), 365 * 24 * 3600 - 300);
}

#[test]
fn the_certificate_is_what_was_asked_for() {
    let names = ["n1", "10.0.0.1", "fd00::1"];
    let request = certificate_request("jane", &["devs", "admins"], &names);
    let usages = json!(["digital signature", "client auth", "server auth"]);
    let legacy = json!({"spec": {"signerName": requests::LEGACY, "usages": usages}});
    let order = order(&approved(&request, legacy));
    let (authority, own) = authority((2030, 1, 1));
    let der = authority.sign(&order).expect("signs");
    let (_, certificate) = X509Certificate::from_der(&der).expect("a certificate");
    let own = x509_parser::pem::parse_x509_pem(own.as_bytes()).expect("PEM").1;
    let own = own.parse_x509().expect("a certificate");
    certificate.verify_signature(Some(own.public_key())).expect("signed by the authority");
    assert_eq!(certificate.issuer(), own.subject());
    let groups: Vec<_> =
        certificate.subject().iter_organization().map(|one| one.as_str().expect("text")).collect();
    assert_eq!(groups, ["devs", "admins"], "every group is there, in order");
    let asked = requests::der(request.as_bytes()).expect("DER");
    let (_, asked) =
        x509_parser::certification_request::X509CertificationRequest::from_der(&asked).expect("a request");
    assert_eq!(certificate.public_key().raw, asked.certification_request_info.subject_pki.raw);
    let names = certificate.subject_alternative_name().expect("reads").expect("names");
    assert_eq!(names.value.general_names.len(), 3);
    assert!(matches!(names.value.general_names[0], GeneralName::DNSName("n1")));
    assert!(!certificate.is_ca());
    let usage = certificate.extended_key_usage().expect("reads").expect("usages");
    assert!(usage.value.client_auth && usage.value.server_auth && !usage.value.any);
    assert_eq!(certificate.validity().not_before.timestamp(), order.not_before.as_second());
    assert_eq!(certificate.validity().not_after.timestamp(), order.not_after.as_second());
    let other = authority.sign(&order).expect("signs");
    let (_, other) = X509Certificate::from_der(&other).expect("a certificate");
    assert_ne!(certificate.raw_serial(), other.raw_serial());
}

#[test]
fn nothing_outlives_its_authority() {
    let node = certificate_request("system:node:n1", &["system:nodes"], &[]);
    let (authority, _) = authority((2026, 12, 1));
    let der = authority.sign(&order(&approved(&node, json!({})))).expect("signs");
    let (_, certificate) = X509Certificate::from_der(&der).expect("a certificate");
    let ends: Timestamp = "2026-12-01T00:00:00Z".parse().expect("a time");
    assert_eq!(certificate.validity().not_after.timestamp(), ends.as_second());
}
