//! Encryption at rest: what the configuration names is encrypted before it enters
//! the store and decrypted when it comes out, so that nothing above knows of it.
//!
//! Values carry upstream's prefixes (`k8s:enc:aesgcm:v1:NAME:`), which say how to
//! open them. What was encrypted with another key than the first one is read all
//! the same, and written anew with the next write of its object, even one that
//! changes nothing. Start reading in [`Encryption::seal`].

mod config;
mod encrypted_store;
mod kms;
mod local;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use bytes::Bytes;
use daemon::{Shutdown, tasks};
use store::StoreError;

use crate::cache;
use crate::stored;
use kms::Kms;
use local::Cipher;

pub(crate) use encrypted_store::EncryptedStore;

/// All encrypted values begin with this.
const PREFIX: &[u8] = b"k8s:enc:";
/// How often the file is looked at, where that is asked for.
const RELOAD: Duration = Duration::from_secs(60);

/// How values are encrypted.
pub(crate) struct Encryption {
    path: PathBuf,
    rules: ArcSwap<Rules>,
}

struct Rules {
    /// What the file said.
    text: String,
    rules: Vec<Rule>,
}

struct Rule {
    of: config::Rule,
    /// The first one writes.
    ways: Vec<Way>,
}

/// One key of one provider.
struct Way {
    /// What its values begin with; nothing, if it does not encrypt.
    prefix: String,
    how: How,
}

enum How {
    Identity,
    Local(Cipher),
    Kms(Arc<Kms>),
}

impl Encryption {
    /// Reads the configuration and reaches its key management services.
    ///
    /// # Errors
    /// A file that cannot be read or makes no sense; a service that does not answer.
    pub(crate) async fn load(path: &Path) -> anyhow::Result<Arc<Self>> {
        let rules = ArcSwap::from_pointee(load(path).await?);
        Ok(Arc::new(Self { path: path.to_owned(), rules }))
    }

    /// Reads the file again when it changes. A file with mistakes changes nothing.
    pub(crate) fn follow(self: &Arc<Self>, shutdown: Shutdown) {
        let this = Arc::clone(self);
        tasks::spawn("encryption", async move {
            loop {
                tokio::select! {
                    () = shutdown.begun() => return,
                    () = tokio::time::sleep(RELOAD) => {}
                }
                let text = std::fs::read_to_string(&this.path).unwrap_or_default();
                if text == this.rules.load().text {
                    continue;
                }
                match load(&this.path).await {
                    Ok(rules) => {
                        this.rules.store(Arc::new(rules));
                        tracing::info!(path = %this.path.display(), "encryption configuration read again");
                    }
                    Err(error) => {
                        tracing::error!("the new encryption configuration is not used: {error:#}");
                    }
                }
            }
        });
    }

    /// Whether all key management services worked when they were looked at last.
    pub(crate) fn health(&self) -> Result<(), String> {
        for rule in &self.rules.load().rules {
            for way in &rule.ways {
                if let How::Kms(kms) = &way.how {
                    kms.health()?;
                }
            }
        }
        Ok(())
    }

    /// The value for the store.
    fn seal(&self, key: &[u8], value: Bytes) -> Result<Bytes, StoreError> {
        let rules = self.rules.load();
        let Some(way) = rules.of(key).and_then(|rule| rule.ways.first()) else { return Ok(value) };
        let mut out = way.prefix.clone().into_bytes();
        match &way.how {
            How::Identity => return Ok(value),
            How::Local(cipher) => cipher.seal(key, &value, &mut out).map_err(|why| unreadable(key, why))?,
            How::Kms(kms) => {
                kms.seal(key, &value, &mut out).map_err(|why| unreadable(key, format!("{why:#}")))?
            }
        }
        Ok(out.into())
    }

    /// The value that was sealed.
    async fn open(&self, key: &[u8], value: Bytes) -> Result<Bytes, StoreError> {
        let is_sealed = value.starts_with(PREFIX);
        let rules = self.rules.load_full();
        let Some(rule) = rules.of(key) else {
            return if is_sealed {
                Err(unreadable(key, "it is encrypted, and no rule is for it"))
            } else {
                Ok(value)
            };
        };
        let fits = |way: &Way| match way.how {
            How::Identity => !is_sealed,
            _ => value.starts_with(way.prefix.as_bytes()),
        };
        let mut why = "no matching prefix found".to_owned();
        for (index, way) in rule.ways.iter().enumerate().filter(|(_, way)| fits(way)) {
            let sealed = value.slice(way.prefix.len()..);
            let opened = match &way.how {
                How::Identity => Ok((sealed.to_vec(), false)),
                How::Local(cipher) => {
                    cipher.open(key, &sealed).map(|value| (value, false)).map_err(|why| why.to_string())
                }
                How::Kms(kms) => kms.open(key, sealed).await.map_err(|why| format!("{why:#}")),
            };
            match opened {
                Ok((mut value, is_old)) => {
                    if index > 0 || is_old {
                        stored::mark_stale(&mut value);
                    }
                    return Ok(value.into());
                }
                // Another key may have the same name.
                Err(error) => why = format!("{}: {error}", way.prefix.trim_end_matches(':')),
            }
        }
        Err(unreadable(key, why))
    }
}

impl Rules {
    fn of(&self, key: &[u8]) -> Option<&Rule> {
        let (group, resource) = cache::resource_of(std::str::from_utf8(key).ok()?)?;
        self.rules.iter().find(|rule| rule.of.covers(group, resource))
    }
}

fn unreadable(key: &[u8], why: impl ToString) -> StoreError {
    StoreError::Unreadable { key: String::from_utf8_lossy(key).into_owned(), why: why.to_string() }
}

async fn load(path: &Path) -> anyhow::Result<Rules> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let read = read(text).await;
    read.with_context(|| format!("use the encryption configuration {}", path.display()))
}

async fn read(text: String) -> anyhow::Result<Rules> {
    let mut rules = Vec::new();
    for of in config::parse(&text)?.resources {
        let mut ways = Vec::new();
        for provider in &of.providers {
            add(provider, &mut ways).await?;
        }
        rules.push(Rule { of, ways });
    }
    Ok(Rules { text, rules })
}

async fn add(provider: &config::Provider, ways: &mut Vec<Way>) -> anyhow::Result<()> {
    type Make = fn(&config::Key) -> anyhow::Result<Cipher>;
    let local: [(&str, &Option<config::Keys>, Make); 3] = [
        ("aesgcm", &provider.aesgcm, Cipher::gcm),
        ("aescbc", &provider.aescbc, Cipher::cbc),
        ("secretbox", &provider.secretbox, Cipher::secretbox),
    ];
    for (name, keys, make) in local {
        for key in keys.iter().flat_map(|keys| &keys.keys) {
            let prefix = format!("k8s:enc:{name}:v1:{}:", key.name);
            ways.push(Way { prefix, how: How::Local(make(key)?) });
        }
    }
    if provider.identity.is_some() {
        ways.push(Way { prefix: String::new(), how: How::Identity });
    }
    if let Some(kms) = &provider.kms {
        let prefix = format!("k8s:enc:kms:v2:{}:", kms.name);
        ways.push(Way { prefix, how: How::Kms(Kms::connect(kms).await?) });
    }
    Ok(())
}
