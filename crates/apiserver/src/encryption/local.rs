//! Providers whose keys are in the configuration: AES-GCM, AES-CBC, secretbox.

use anyhow::Context as _;
use aws_lc_rs::aead::{self, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::cipher::{
    AES_128, AES_192, AES_256, DecryptionContext, PaddedBlockDecryptingKey, PaddedBlockEncryptingKey,
    UnboundCipherKey,
};
use crypto_secretbox::aead::{Aead as _, KeyInit as _};
use crypto_secretbox::{Key as BoxKey, XSalsa20Poly1305};

use super::config::Key;

/// A value that does not open: damaged, moved to another key, or of another secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it does not open with this key")]
pub(super) struct DoesNotOpen;

/// A cipher with its key.
pub(super) enum Cipher {
    /// Authenticates where the value is stored, too.
    Gcm(Box<LessSafeKey>),
    /// Authenticates nothing.
    Cbc {
        seal: Box<PaddedBlockEncryptingKey>,
        open: Box<PaddedBlockDecryptingKey>,
    },
    Secretbox(XSalsa20Poly1305),
}

/// The initialization vector of AES-CBC, in bytes.
const VECTOR: usize = 16;
/// The nonce of secretbox, in bytes.
const BOX_NONCE: usize = 24;

impl Cipher {
    pub(super) fn gcm(key: &Key) -> anyhow::Result<Self> {
        gcm(&key.bytes(&[16, 24, 32])?).map(Box::new).map(Self::Gcm)
    }

    pub(super) fn cbc(key: &Key) -> anyhow::Result<Self> {
        let bytes = key.bytes(&[16, 24, 32])?;
        let algorithm = match bytes.len() {
            16 => &AES_128,
            24 => &AES_192,
            _ => &AES_256,
        };
        let unbound = || UnboundCipherKey::new(algorithm, &bytes).context("a key of AES");
        Ok(Self::Cbc {
            seal: Box::new(PaddedBlockEncryptingKey::cbc_pkcs7(unbound()?).context("a key of AES")?),
            open: Box::new(PaddedBlockDecryptingKey::cbc_pkcs7(unbound()?).context("a key of AES")?),
        })
    }

    pub(super) fn secretbox(key: &Key) -> anyhow::Result<Self> {
        let bytes = key.bytes(&[32])?;
        let bytes: [u8; 32] = bytes.as_slice().try_into().context("a key of secretbox")?;
        Ok(Self::Secretbox(XSalsa20Poly1305::new(&BoxKey::from(bytes))))
    }

    /// Appends the encrypted value to `out`.
    pub(super) fn seal(&self, at: &[u8], value: &[u8], out: &mut Vec<u8>) -> Result<(), DoesNotOpen> {
        match self {
            Self::Gcm(key) => seal_gcm(key, at, value, out),
            Self::Cbc { seal, .. } => {
                let mut inner = value.to_vec();
                match seal.encrypt(&mut inner).map_err(|_| DoesNotOpen)? {
                    DecryptionContext::Iv128(vector) => out.extend_from_slice(vector.as_ref()),
                    _ => return Err(DoesNotOpen),
                }
                out.extend_from_slice(&inner);
                Ok(())
            }
            Self::Secretbox(key) => {
                let nonce: [u8; BOX_NONCE] = rand::random();
                let sealed = key.encrypt(&nonce.into(), value).map_err(|_| DoesNotOpen)?;
                out.extend_from_slice(&nonce);
                out.extend_from_slice(&sealed);
                Ok(())
            }
        }
    }

    /// The value that was encrypted.
    pub(super) fn open(&self, at: &[u8], sealed: &[u8]) -> Result<Vec<u8>, DoesNotOpen> {
        match self {
            Self::Gcm(key) => open_gcm(key, at, sealed),
            Self::Cbc { open, .. } => {
                let (vector, inner) = sealed.split_at_checked(VECTOR).ok_or(DoesNotOpen)?;
                let vector: [u8; VECTOR] = vector.try_into().map_err(|_| DoesNotOpen)?;
                let mut inner = inner.to_vec();
                let context = DecryptionContext::Iv128(vector.into());
                let value = open.decrypt(&mut inner, context).map_err(|_| DoesNotOpen)?;
                Ok(value.to_vec())
            }
            Self::Secretbox(key) => {
                let (nonce, inner) = sealed.split_at_checked(BOX_NONCE).ok_or(DoesNotOpen)?;
                let nonce: [u8; BOX_NONCE] = nonce.try_into().map_err(|_| DoesNotOpen)?;
                key.decrypt(&nonce.into(), inner).map_err(|_| DoesNotOpen)
            }
        }
    }
}

/// A key of AES-GCM.
pub(super) fn gcm(bytes: &[u8]) -> anyhow::Result<LessSafeKey> {
    let algorithm = match bytes.len() {
        16 => &aead::AES_128_GCM,
        24 => &aead::AES_192_GCM,
        _ => &aead::AES_256_GCM,
    };
    let key = UnboundKey::new(algorithm, bytes).map_err(|_| anyhow::anyhow!("a key of AES-GCM"))?;
    Ok(LessSafeKey::new(key))
}

/// Nonce, ciphertext and tag; `at` is authenticated.
pub(super) fn seal_gcm(
    key: &LessSafeKey,
    at: &[u8],
    value: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), DoesNotOpen> {
    let nonce: [u8; NONCE_LEN] = rand::random();
    out.extend_from_slice(&nonce);
    let start = out.len();
    out.extend_from_slice(value);
    let nonce = Nonce::assume_unique_for_key(nonce);
    let tag = key.seal_in_place_separate_tag(nonce, Aad::from(at), &mut out[start..]);
    out.extend_from_slice(tag.map_err(|_| DoesNotOpen)?.as_ref());
    Ok(())
}

/// What [`seal_gcm`] made.
pub(super) fn open_gcm(key: &LessSafeKey, at: &[u8], sealed: &[u8]) -> Result<Vec<u8>, DoesNotOpen> {
    let (nonce, inner) = sealed.split_at_checked(NONCE_LEN).ok_or(DoesNotOpen)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| DoesNotOpen)?;
    let mut inner = inner.to_vec();
    let length = key.open_in_place(nonce, Aad::from(at), &mut inner).map_err(|_| DoesNotOpen)?.len();
    inner.truncate(length);
    Ok(inner)
}
