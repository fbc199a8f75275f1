//! What is inside of PEM: requests and certificates.

use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Why bytes are not a request that its own key signed.
pub(super) fn request_error(pem: &[u8]) -> Option<String> {
    let block = Pem::iter_from_buffer(pem).next().and_then(Result::ok);
    let Some(block) = block.filter(|block| block.label == "CERTIFICATE REQUEST") else {
        return Some("PEM block type must be CERTIFICATE REQUEST".to_owned());
    };
    match X509CertificationRequest::from_der(&block.contents) {
        Ok((_, request)) => request.verify_signature().err().map(|error| error.to_string()),
        Err(error) => Some(format!("cannot read the request: {error}")),
    }
}

/// Why bytes are not certificates.
pub(super) fn certificates_error(pem: &[u8]) -> Option<String> {
    if has_headers(pem) {
        return Some("no PEM block headers are permitted".to_owned());
    }
    let mut blocks = 0;
    for block in Pem::iter_from_buffer(pem).map_while(Result::ok) {
        if block.label != "CERTIFICATE" {
            return Some(format!("only CERTIFICATE PEM blocks are allowed, found {:?}", block.label));
        }
        if let Err(error) = X509Certificate::from_der(&block.contents) {
            return Some(format!("cannot read the certificate: {error}"));
        }
        blocks += 1;
    }
    (blocks == 0).then(|| "must contain at least one CERTIFICATE PEM block".to_owned())
}

/// Whether a block begins with lines such as `Proc-Type: 4,ENCRYPTED`.
fn has_headers(pem: &[u8]) -> bool {
    let text = String::from_utf8_lossy(pem);
    let mut is_inside = false;
    text.lines().any(|line| {
        if line.starts_with("-----BEGIN ") {
            is_inside = true;
        } else if line.starts_with("-----END ") {
            is_inside = false;
        }
        is_inside && line.contains(':')
    })
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn request() -> String {
        let key = KeyPair::generate().expect("a key");
        CertificateParams::default().serialize_request(&key).expect("a request").pem().expect("PEM")
    }

    fn certificate() -> String {
        let params = CertificateParams::default();
        params.self_signed(&KeyPair::generate().expect("a key")).expect("a certificate").pem()
    }

    #[test]
    fn requests() {
        assert_eq!(request_error(request().as_bytes()), None);
        let label = Some("PEM block type must be CERTIFICATE REQUEST".to_owned());
        assert_eq!(request_error(b"no PEM"), label);
        assert_eq!(request_error(certificate().as_bytes()), label);
        // Another key's signature over the same words.
        let swapped = {
            let (one, other) = (parsed(&request()), parsed(&request()));
            let end = one.len() - 64;
            [&one[..end], &other[other.len() - 64..]].concat()
        };
        assert!(request_error(&block("CERTIFICATE REQUEST", &swapped)).is_some());
        assert!(request_error(&block("CERTIFICATE REQUEST", b"rubbish")).is_some());
    }

    fn parsed(pem: &str) -> Vec<u8> {
        Pem::iter_from_buffer(pem.as_bytes()).next().expect("a block").expect("PEM").contents
    }

    fn block(label: &str, contents: &[u8]) -> Vec<u8> {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::STANDARD.encode(contents);
        format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n").into_bytes()
    }

    #[test]
    fn certificates() {
        let good = certificate();
        assert_eq!(certificates_error(format!("{good}{good}").as_bytes()), None);
        for (pem, expected) in [
            ("".to_owned(), "must contain at least one CERTIFICATE PEM block"),
            (request(), "only CERTIFICATE PEM blocks are allowed, found \"CERTIFICATE REQUEST\""),
            (good.replacen("-----\n", "-----\nProc-Type: 4\n", 1), "no PEM block headers are permitted"),
        ] {
            assert_eq!(certificates_error(pem.as_bytes()).as_deref(), Some(expected));
        }
    }
}
