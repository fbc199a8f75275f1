//! Certificate signing requests.

use base64::Engine as _;
use serde_json::Value;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::X509Name;

use super::Subject;
use super::text::{Text, inline_labels, items, text, time};

pub(super) fn write(out: &mut Text, subject: &Subject<'_>) {
    let object = subject.object;
    let (metadata, spec) = (&object["metadata"], &object["spec"]);
    out.field("Name", text(&metadata["name"]));
    out.field("Labels", inline_labels(&metadata["labels"]));
    out.field("Annotations", inline_labels(&metadata["annotations"]));
    out.field("CreationTimestamp", time(&metadata["creationTimestamp"]));
    out.field("Requesting User", text(&spec["username"]));
    if !text(&spec["signerName"]).is_empty() {
        out.field("Signer", text(&spec["signerName"]));
    }
    if let Some(seconds) = spec["expirationSeconds"].as_i64() {
        out.field("Requested Duration", api::time::human_duration(seconds));
    }
    out.field("Status", status(object));
    match request(text(&spec["request"])) {
        Some(der) => match X509CertificationRequest::from_der(&der) {
            Ok((_, request)) => contents(out, &request),
            Err(error) => out.line(0, format_args!("Error parsing CSR: {error}")),
        },
        None => out.line(0, "Error parsing CSR: PEM block type must be CERTIFICATE REQUEST"),
    }
}

/// `Approved,Issued`.
fn status(object: &Value) -> String {
    let has = |kind: &str| items(&object["status"]["conditions"]).any(|one| one["type"] == kind);
    let mut words = vec![match (has("Denied"), has("Approved")) {
        (true, _) => "Denied",
        (false, true) => "Approved",
        (false, false) => "Pending",
    }];
    if has("Failed") {
        words.push("Failed");
    }
    if !text(&object["status"]["certificate"]).is_empty() {
        words.push("Issued");
    }
    words.join(",")
}

fn request(base64: &str) -> Option<Vec<u8>> {
    let pem = base64::engine::general_purpose::STANDARD.decode(base64).ok()?;
    let (_, block) = x509_parser::pem::parse_x509_pem(&pem).ok()?;
    (block.label == "CERTIFICATE REQUEST").then_some(block.contents)
}

fn contents(out: &mut Text, request: &X509CertificationRequest<'_>) {
    let subject = &request.certification_request_info.subject;
    out.line(0, "Subject:");
    let first = |mut values: Vec<String>| if values.is_empty() { String::new() } else { values.remove(0) };
    out.field("\tCommon Name", first(of_name(subject, "2.5.4.3")));
    out.field("\tSerial Number", first(of_name(subject, "2.5.4.5")));
    for (title, identifier) in [
        ("Organization", "2.5.4.10"),
        ("Organizational Unit", "2.5.4.11"),
        ("Country", "2.5.4.6"),
        ("Locality", "2.5.4.7"),
        ("Province", "2.5.4.8"),
        ("StreetAddress", "2.5.4.9"),
        ("PostalCode", "2.5.4.17"),
    ] {
        list(out, title, &of_name(subject, identifier));
    }
    let mut names: [Vec<String>; 4] = Default::default();
    for extension in request.requested_extensions().into_iter().flatten() {
        let ParsedExtension::SubjectAlternativeName(alternatives) = extension else { continue };
        for name in &alternatives.general_names {
            match name {
                GeneralName::DNSName(name) => names[0].push((*name).to_owned()),
                GeneralName::RFC822Name(name) => names[1].push((*name).to_owned()),
                GeneralName::URI(uri) => names[2].push((*uri).to_owned()),
                GeneralName::IPAddress(bytes) => names[3].push(address(bytes)),
                _ => {}
            }
        }
    }
    if names.iter().any(|names| !names.is_empty()) {
        out.line(0, "Subject Alternative Names:");
        for (title, names) in ["DNS Names", "Email Addresses", "URIs", "IP Addresses"].iter().zip(&names) {
            list(out, title, names);
        }
    }
}

fn of_name(name: &X509Name<'_>, identifier: &str) -> Vec<String> {
    name.iter_attributes()
        .filter(|one| one.attr_type().to_id_string() == identifier)
        .filter_map(|one| one.as_str().ok().map(str::to_owned))
        .collect()
}

fn list(out: &mut Text, title: &str, values: &[String]) {
    let mut title = format!("{title}:");
    for value in values {
        out.line(0, format_args!("\t{title}\t{value}"));
        title.clear();
    }
}

fn address(bytes: &[u8]) -> String {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        std::net::Ipv4Addr::from(four).to_string()
    } else if let Ok(six) = <[u8; 16]>::try_from(bytes) {
        std::net::Ipv6Addr::from(six).to_string()
    } else {
        "?".into()
    }
}
