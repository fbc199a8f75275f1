//! What verifiers of service account tokens elsewhere need: who issues them, and the
//! public keys (OpenID Connect Discovery 1.0, RFC 7517).

use api::Status;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::authn::Tokens;

pub(super) const CONFIGURATION: &str = "/.well-known/openid-configuration";
pub(super) const KEYS: &str = "/openid/v1/jwks";

/// The provider's description.
pub(super) fn configuration(tokens: &Tokens) -> Value {
    json!({
        "issuer": tokens.issuer(),
        "jwks_uri": tokens.keys_url(),
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": [tokens.algorithm()],
    })
}

/// The public keys.
pub(super) fn keys(tokens: &Tokens) -> Result<Value, Status> {
    let unreadable = |what: &str| Status::internal(format!("the public key of service accounts: {what}"));
    let (_, pem) = x509_parser::pem::parse_x509_pem(tokens.public_key()).map_err(|_| unreadable("no PEM"))?;
    let (_, info) = SubjectPublicKeyInfo::from_der(&pem.contents).map_err(|_| unreadable("no public key"))?;
    let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let mut key = match info.parsed().map_err(|_| unreadable("of an unknown kind"))? {
        PublicKey::RSA(key) => {
            let trimmed = |bytes: &[u8]| {
                let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
                text(&bytes[zeros..])
            };
            json!({"kty": "RSA", "n": trimmed(key.modulus), "e": trimmed(key.exponent)})
        }
        PublicKey::EC(point) => {
            // Uncompressed: 4, then both coordinates.
            let data = point.data().strip_prefix(&[4]).ok_or_else(|| unreadable("a compressed point"))?;
            let (x, y) = data.split_at(data.len() / 2);
            json!({"kty": "EC", "crv": "P-256", "x": text(x), "y": text(y)})
        }
        _ => return Err(unreadable("neither RSA nor EC")),
    };
    key["use"] = "sig".into();
    key["alg"] = tokens.algorithm().into();
    key["kid"] = tokens.key_id().into();
    Ok(json!({"keys": [key]}))
}
