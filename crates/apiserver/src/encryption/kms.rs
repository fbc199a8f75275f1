//! A key management service, version 2: it wraps a seed, of which every value gets
//! a key of its own. The service is asked when a seed is new, never for a value
//! whose seed is known.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use arc_swap::ArcSwapOption;
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk};
use bytes::Bytes;
use daemon::tasks;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use prost::Message as _;
use tonic::transport::{Channel, Endpoint, Uri};
use wire::kms::key_management_service_client::KeyManagementServiceClient as Client;
use wire::kms::{
    DecryptRequest, EncryptRequest, EncryptedDekSourceType, EncryptedObject, StatusRequest, StatusResponse,
};

use super::config;
use super::local::{gcm, open_gcm, seal_gcm};

/// Bytes of a seed, of a derived key, and of what tells derived keys apart.
const SEED: usize = 32;
/// How often the service is asked for its state.
const LOOK: Duration = Duration::from_secs(60);
/// How often that is tried at the start, a second apart.
const TRIES: u32 = 10;
/// Seeds that are remembered.
const MOST_SEEDS: usize = 1_000;
const MAX_KEY_ID: usize = 1_024;
const MAX_WRAPPED: usize = 1_024;
const MAX_ANNOTATIONS: usize = 32 * 1_024;

/// One service.
pub(super) struct Kms {
    name: String,
    client: Client<Channel>,
    timeout: Duration,
    current: ArcSwapOption<Source>,
    /// What wrapped seeds are, by the wrapped bytes and the id of their key.
    seeds: Mutex<HashMap<(Bytes, String), Seed>>,
    /// What was wrong when the service was looked at last.
    trouble: Mutex<Option<String>>,
}

#[derive(Clone)]
struct Seed(Arc<[u8]>);

/// The seed that values are encrypted with now.
struct Source {
    seed: Seed,
    key_id: String,
    wrapped: Bytes,
    annotations: HashMap<String, Bytes>,
}

/// The length of a derived key.
struct Length;

impl KeyType for Length {
    fn len(&self) -> usize {
        SEED
    }
}

impl Seed {
    /// The key that `info` tells apart from others of the same seed.
    fn key(&self, info: &[u8]) -> anyhow::Result<aws_lc_rs::aead::LessSafeKey> {
        let mut key = [0; SEED];
        let seed = Prk::new_less_safe(HKDF_SHA256, &self.0);
        let expanded = seed.expand(&[info], Length).and_then(|made| made.fill(&mut key));
        expanded.map_err(|_| anyhow::anyhow!("derive a key"))?;
        gcm(&key)
    }
}

impl Kms {
    /// Connects to a service, and has it wrap a first seed.
    pub(super) async fn connect(config: &config::Kms) -> anyhow::Result<Arc<Self>> {
        let path = PathBuf::from(config.endpoint.trim_start_matches("unix://"));
        let connector = tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { tokio::net::UnixStream::connect(path).await.map(TokioIo::new) }
        });
        let channel = Endpoint::from_static("http://localhost").connect_with_connector_lazy(connector);
        let kms = Arc::new(Self {
            name: config.name.clone(),
            client: Client::new(channel),
            timeout: config.timeout()?,
            current: ArcSwapOption::empty(),
            seeds: Mutex::default(),
            trouble: Mutex::default(),
        });
        let what = || format!("reach the key management service {:?} at {}", config.name, config.endpoint);
        for attempt in 1.. {
            match kms.look().await {
                Ok(()) => break,
                Err(error) if attempt == TRIES => return Err(error).with_context(what),
                Err(error) => tracing::warn!(name = config.name, "key management service: {error:#}"),
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let watched = Arc::downgrade(&kms);
        tasks::spawn("kms", async move {
            loop {
                tokio::time::sleep(LOOK).await;
                // Gone with the configuration that named it.
                let Some(kms) = watched.upgrade() else { return };
                let looked = kms.look().await;
                if let Err(error) = &looked {
                    tracing::warn!(name = kms.name, "key management service: {error:#}");
                }
                *kms.trouble.lock() = looked.err().map(|error| format!("{error:#}"));
            }
        });
        Ok(kms)
    }

    /// What was wrong when it was looked at last.
    pub(super) fn health(&self) -> Result<(), String> {
        self.trouble.lock().clone().map_or(Ok(()), |why| Err(format!("{}: {why}", self.name)))
    }

    fn request<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        request.set_timeout(self.timeout);
        request
    }

    /// Asks for the service's state, and for a new seed if its key has changed.
    async fn look(&self) -> anyhow::Result<()> {
        let status = self.client.clone().status(self.request(StatusRequest {})).await;
        let StatusResponse { version, healthz, key_id } = status.context("ask for its status")?.into_inner();
        ensure!(version == "v2", "it speaks version {version:?}, not v2");
        ensure!(healthz == "ok", "it is not healthy: {healthz}");
        check_key_id(&key_id)?;
        if self.current.load().as_ref().is_some_and(|current| current.key_id == key_id) {
            return Ok(());
        }
        let seed: [u8; SEED] = rand::random();
        let uid = uuid::Uuid::new_v4().to_string();
        let request = EncryptRequest { plaintext: Bytes::copy_from_slice(&seed), uid };
        let wrapped = self.client.clone().encrypt(self.request(request)).await;
        let wrapped = wrapped.context("encrypt a seed")?.into_inner();
        check_key_id(&wrapped.key_id)?;
        ensure!(
            (1..=MAX_WRAPPED).contains(&wrapped.ciphertext.len()),
            "the encrypted seed has {} bytes, expected 1 to {MAX_WRAPPED}",
            wrapped.ciphertext.len()
        );
        let size: usize = wrapped.annotations.iter().map(|(name, value)| name.len() + value.len()).sum();
        ensure!(size <= MAX_ANNOTATIONS, "its annotations have {size} bytes, more than {MAX_ANNOTATIONS}");
        let source = Source {
            seed: Seed(seed.as_slice().into()),
            key_id: wrapped.key_id,
            wrapped: wrapped.ciphertext,
            annotations: wrapped.annotations,
        };
        self.remember(source.wrapped.clone(), source.key_id.clone(), source.seed.clone());
        self.current.store(Some(Arc::new(source)));
        Ok(())
    }

    fn remember(&self, wrapped: Bytes, key_id: String, seed: Seed) {
        let mut seeds = self.seeds.lock();
        if seeds.len() >= MOST_SEEDS {
            seeds.clear();
        }
        seeds.insert((wrapped, key_id), seed);
    }

    /// Appends the encrypted value to `out`.
    pub(super) fn seal(&self, at: &[u8], value: &[u8], out: &mut Vec<u8>) -> anyhow::Result<()> {
        let source = self.current.load_full().context("there is no seed yet")?;
        let info: [u8; SEED] = rand::random();
        let mut data = info.to_vec();
        seal_gcm(&source.seed.key(&info)?, at, value, &mut data)?;
        let object = EncryptedObject {
            encrypted_data: data.into(),
            key_id: source.key_id.clone(),
            encrypted_dek_source: source.wrapped.clone(),
            annotations: source.annotations.clone(),
            encrypted_dek_source_type: EncryptedDekSourceType::HkdfSha256XnonceAesGcmSeed.into(),
        };
        object.encode(out).context("encode the envelope")
    }

    /// The value, and whether it was encrypted with another key than the current one.
    pub(super) async fn open(&self, at: &[u8], sealed: Bytes) -> anyhow::Result<(Vec<u8>, bool)> {
        let object = EncryptedObject::decode(sealed).context("read the envelope")?;
        let seed = self.seed(&object).await?;
        let value = match object.encrypted_dek_source_type() {
            EncryptedDekSourceType::AesGcmKey => open_gcm(&gcm(&seed.0)?, at, &object.encrypted_data)?,
            EncryptedDekSourceType::HkdfSha256XnonceAesGcmSeed => {
                let (info, inner) = object
                    .encrypted_data
                    .split_at_checked(SEED)
                    .context("the value is shorter than what tells its key")?;
                open_gcm(&seed.key(info)?, at, inner)?
            }
        };
        let is_stale = self.current.load().as_ref().is_none_or(|current| current.key_id != object.key_id);
        Ok((value, is_stale))
    }

    async fn seed(&self, object: &EncryptedObject) -> anyhow::Result<Seed> {
        let key = (object.encrypted_dek_source.clone(), object.key_id.clone());
        if let Some(known) = self.seeds.lock().get(&key) {
            return Ok(known.clone());
        }
        let request = DecryptRequest {
            ciphertext: key.0.clone(),
            uid: uuid::Uuid::new_v4().to_string(),
            key_id: key.1.clone(),
            annotations: object.annotations.clone(),
        };
        let opened = self.client.clone().decrypt(self.request(request)).await;
        let opened = opened.with_context(|| {
            format!("the key management service {:?} decrypts a seed of key {:?}", self.name, key.1)
        })?;
        let plain = opened.into_inner().plaintext;
        ensure!(plain.len() == SEED, "a decrypted seed has {} bytes, expected {SEED}", plain.len());
        let seed = Seed(plain.as_ref().into());
        self.remember(key.0, key.1, seed.clone());
        Ok(seed)
    }
}

fn check_key_id(id: &str) -> anyhow::Result<()> {
    ensure!(!id.is_empty(), "the id of its key is empty");
    ensure!(id.len() <= MAX_KEY_ID, "the id of its key has {} bytes, more than {MAX_KEY_ID}", id.len());
    Ok(())
}
