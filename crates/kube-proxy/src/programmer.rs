//! Keeps the kernel's table equal to the rules of all services, by differences.

use std::collections::{BTreeMap, HashMap};

use api::ObjectKey;

use crate::kernel::{KernelError, Nft};
use crate::rules::{Rules, Slot, difference, rebuild};

/// The rules of all services, and what of them is in the kernel.
#[derive(Debug)]
pub struct Programmer {
    nft: Nft,
    services: BTreeMap<ObjectKey, Rules>,
    /// Who holds an address and port: the first service that asks.
    owners: HashMap<Slot, ObjectKey>,
    /// Whether the kernel is known to hold `services`.
    in_step: bool,
}

impl Programmer {
    /// One that knows nothing of the kernel yet.
    #[must_use]
    pub fn new(nft: Nft) -> Self {
        Self { nft, services: BTreeMap::new(), owners: HashMap::new(), in_step: false }
    }

    /// Takes the rules of services that changed and sends the difference.
    /// Returns what was sent.
    ///
    /// # Errors
    /// The kernel refuses; the next call then makes everything anew.
    pub async fn update(&mut self, changed: BTreeMap<ObjectKey, Rules>) -> Result<String, KernelError> {
        let (mut old, mut new) = (Rules::default(), Rules::default());
        for key in changed.keys() {
            if let Some(rules) = self.services.remove(key) {
                for slot in rules.elements.keys() {
                    self.owners.remove(slot);
                }
                old.extend(rules);
            }
        }
        for (key, mut rules) in changed {
            self.claim(&key, &mut rules);
            new.extend(rules.clone());
            if !rules.is_empty() {
                self.services.insert(key, rules);
            }
        }
        if !self.in_step {
            return self.verify().await.map(Option::unwrap_or_default);
        }
        let script = difference(&old, &new);
        if !script.is_empty() {
            self.in_step = false;
            self.nft.send(&script).await?;
            self.in_step = true;
        }
        Ok(script)
    }

    /// Compares the kernel with what should be there, and makes the table anew
    /// in one transaction where it differs. Returns what was sent.
    ///
    /// # Errors
    /// The kernel cannot be read or changed.
    pub async fn verify(&mut self) -> Result<Option<String>, KernelError> {
        let all = self.all();
        self.in_step = false;
        let programmed = self.nft.read().await?;
        if programmed.is_some_and(|programmed| programmed.is(&all)) {
            self.in_step = true;
            return Ok(None);
        }
        let script = rebuild(&all);
        self.nft.send(&script).await?;
        self.in_step = true;
        Ok(Some(script))
    }

    /// The rules of all services.
    #[must_use]
    pub fn all(&self) -> Rules {
        let mut all = Rules::default();
        for rules in self.services.values() {
            all.extend(rules.clone());
        }
        all
    }

    /// The services that have rules.
    pub fn services(&self) -> impl Iterator<Item = &ObjectKey> {
        self.services.keys()
    }

    fn claim(&mut self, key: &ObjectKey, rules: &mut Rules) {
        let taken: Vec<Slot> =
            rules.elements.keys().filter(|slot| self.owners.contains_key(*slot)).cloned().collect();
        for slot in taken {
            tracing::warn!(kind = "Service", namespace = %key.namespace, name = %key.name, address = %slot.1,
                "another service has this address and port");
            rules.elements.remove(&slot);
        }
        for slot in rules.elements.keys() {
            self.owners.insert(slot.clone(), key.clone());
        }
    }
}
