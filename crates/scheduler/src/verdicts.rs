//! What every node said about the pods that last fitted nowhere, for whoever asks.

use std::collections::VecDeque;
use std::sync::Arc;

use api::ObjectKey;
use parking_lot::Mutex;

use crate::diagnosis::Diagnosis;

const KEPT: usize = 256;

/// The latest diagnoses, one for each pod. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Verdicts(Arc<Mutex<VecDeque<(ObjectKey, Arc<Diagnosis>)>>>);

impl Verdicts {
    /// Keeps a diagnosis; the oldest goes when there are too many.
    pub fn keep(&self, pod: ObjectKey, diagnosis: Diagnosis) {
        let mut kept = self.0.lock();
        kept.retain(|(key, _)| *key != pod);
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back((pod, Arc::new(diagnosis)));
    }

    /// Forgets a pod that fits now, or is gone.
    pub fn forget(&self, pod: &ObjectKey) {
        self.0.lock().retain(|(key, _)| key != pod);
    }

    /// What the nodes said about a pod.
    #[must_use]
    pub fn of(&self, pod: &ObjectKey) -> Option<Arc<Diagnosis>> {
        self.0.lock().iter().find(|(key, _)| key == pod).map(|(_, diagnosis)| Arc::clone(diagnosis))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_first() {
        let verdicts = Verdicts::default();
        let key = |number: usize| ObjectKey::new("n", number.to_string());
        for number in 0..=KEPT {
            verdicts.keep(key(number), Diagnosis::default());
        }
        assert!(verdicts.of(&key(0)).is_none() && verdicts.of(&key(1)).is_some());
        verdicts.forget(&key(1));
        assert!(verdicts.of(&key(1)).is_none());
    }
}
