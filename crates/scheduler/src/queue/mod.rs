//! The pods that wait for a node.
//!
//! A pod is *gated* (it says itself that it is not ready), *active* (to be tried
//! next, by priority, then by age), *backing off* (tried, and to be tried again
//! at a time, or earlier if nothing else is to be done), *unschedulable*
//! (refused, and to be tried when something happens that may help, or after five
//! minutes), or *in flight* (being tried or bound).
//!
//! A decision takes the picture as it is and ends before the next event is
//! taken, so no event falls between two stools.

mod backoff;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use self::backoff::Backoff;
use crate::events::{Event, Kinds};
use crate::pod::PodInfo;
use crate::profile::{PluginSet, Profile};

const FLUSH_AFTER: Duration = Duration::from_secs(300);

/// Priority, then age, then order of arrival.
type Rank = (Reverse<i32>, Instant, u64);

#[derive(Debug)]
enum Place {
    Gated,
    Active,
    BackingOff { until: Instant },
    Unschedulable { since: Instant, refused_by: PluginSet, heeds: Kinds },
    InFlight,
}

#[derive(Debug)]
struct Waiting {
    pod: Arc<PodInfo>,
    /// The place of its profile.
    profile: usize,
    rank: Rank,
    /// How often it was refused.
    refusals: u32,
    /// How often, without a refusal between, something else went wrong.
    failures: u32,
    /// When it was last put back.
    back: Instant,
    place: Place,
    /// Whether it says itself that it is not ready; no gate can be added later.
    is_gated: bool,
    /// Whether room is being made for it; it is not tried meanwhile.
    is_held: bool,
    /// Whether it is to be tried as soon as it is held no more.
    is_wanted: bool,
}

/// How many pods wait in each way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Depths {
    /// To be tried next.
    pub active: usize,
    /// To be tried at a time.
    pub backoff: usize,
    /// To be tried when something happens.
    pub unschedulable: usize,
    /// Not ready.
    pub gated: usize,
}

/// The queue. Pods are known by uid.
#[derive(Debug, Default)]
pub struct Queue {
    pods: HashMap<String, Waiting>,
    active: BTreeSet<(Rank, String)>,
    /// Pods that back off after a refusal, or after a failure.
    backing_off: BTreeSet<(Instant, Rank, String)>,
    backing_off_failed: BTreeSet<(Instant, Rank, String)>,
    unschedulable: BTreeSet<(Instant, String)>,
    gated: usize,
    arrivals: u64,
    backoff: Backoff,
}

impl Queue {
    /// A queue whose pods back off for these times.
    #[must_use]
    pub fn new(backoff: Backoff) -> Self {
        Self { backoff, ..Self::default() }
    }

    /// Takes a pod that waits for a node, new or changed.
    pub fn add(&mut self, pod: &Arc<PodInfo>, profile: usize, profiles: &[Profile], now: Instant) {
        let Some(waiting) = self.pods.get_mut(&pod.uid) else {
            self.arrive(pod, profile, profiles[profile].keeps_gates && has_gates(pod), now);
            return;
        };
        let old = std::mem::replace(&mut waiting.pod, Arc::clone(pod));
        match waiting.place {
            Place::Gated if !has_gates(pod) => {
                waiting.is_gated = false;
                self.activate(&pod.uid);
            }
            Place::Unschedulable { refused_by, heeds, .. } if heeds.has(Kinds::WAITING) => {
                let event = Event::Waiting { old: &old, new: pod };
                if profiles[waiting.profile].is_helped_by(refused_by, pod, &event) {
                    self.retry(&pod.uid, now);
                }
            }
            _ => {}
        }
    }

    /// Forgets a pod: it has a node, or is gone. Returns it.
    pub fn remove(&mut self, uid: &str) -> Option<Arc<PodInfo>> {
        self.leave_place(uid);
        self.pods.remove(uid).map(|waiting| waiting.pod)
    }

    /// A waiting pod.
    #[must_use]
    pub fn get(&self, uid: &str) -> Option<&Arc<PodInfo>> {
        self.pods.get(uid).map(|waiting| &waiting.pod)
    }

    /// Takes the next pod to try, with its profile; it is in flight then. Where
    /// none is active, one that backs off after a refusal has its turn early.
    pub fn pop(&mut self) -> Option<(Arc<PodInfo>, usize)> {
        let uid = match self.active.first() {
            Some((_, uid)) => uid.clone(),
            None => self.backing_off.first()?.2.clone(),
        };
        self.leave_place(&uid);
        let waiting = self.pods.get(&uid)?;
        Some((Arc::clone(&waiting.pod), waiting.profile))
    }

    /// A pod in flight fits nowhere, because of these plugins.
    pub fn refused(&mut self, uid: &str, refused_by: PluginSet, profiles: &[Profile], now: Instant) {
        if refused_by.is_empty() {
            self.failed(uid, now);
            return;
        }
        self.leave_place(uid);
        let Some(waiting) = self.pods.get_mut(uid) else { return };
        waiting.put_back(now);
        waiting.refusals += 1;
        waiting.failures = 0;
        let heeds = profiles[waiting.profile].heeds(refused_by);
        waiting.place = Place::Unschedulable { since: now, refused_by, heeds };
        self.unschedulable.insert((now, uid.to_owned()));
    }

    /// A pod in flight could not be bound, for no fault of its own.
    pub fn failed(&mut self, uid: &str, now: Instant) {
        self.leave_place(uid);
        let Some(waiting) = self.pods.get_mut(uid) else { return };
        waiting.put_back(now);
        waiting.failures += 1;
        let until = now + self.backoff.of(waiting.failures);
        waiting.place = Place::BackingOff { until };
        self.backing_off_failed.insert((until, waiting.rank, uid.to_owned()));
    }

    /// Keeps a pod from being tried while room is made for it.
    pub fn hold(&mut self, uid: &str) {
        if let Some(waiting) = self.pods.get_mut(uid) {
            waiting.is_held = true;
        }
    }

    /// Room was made for a pod, or could not be made, and then it is to be tried
    /// at once.
    pub fn release(&mut self, uid: &str, was_made: bool, now: Instant) {
        let Some(waiting) = self.pods.get_mut(uid) else { return };
        waiting.is_held = false;
        let is_wanted = std::mem::take(&mut waiting.is_wanted);
        if !was_made {
            self.activate(uid);
        } else if is_wanted {
            self.retry(uid, now);
        }
    }

    /// Something happened in the cluster. `may` says for which pods.
    pub fn happened(
        &mut self,
        event: &Event<'_>,
        profiles: &[Profile],
        now: Instant,
        may: impl Fn(&PodInfo) -> bool,
    ) {
        let kind = event.kind();
        let is_helped = |uid: &String| {
            let waiting = &self.pods[uid];
            let Place::Unschedulable { refused_by, heeds, .. } = waiting.place else { return false };
            heeds.has(kind)
                && may(&waiting.pod)
                && profiles[waiting.profile].is_helped_by(refused_by, &waiting.pod, event)
        };
        let waiting = self.unschedulable.iter().map(|(_, uid)| uid);
        let helped: Vec<String> = waiting.filter(|uid| is_helped(uid)).cloned().collect();
        for uid in helped {
            self.retry(&uid, now);
        }
    }

    /// Moves pods whose time has come.
    pub fn advance(&mut self, now: Instant) {
        let parts = [&self.backing_off, &self.backing_off_failed];
        let due = parts.into_iter().flat_map(|part| part.iter().take_while(|(until, ..)| *until <= now));
        let due: Vec<String> = due.map(|(_, _, uid)| uid.clone()).collect();
        for uid in due {
            self.activate(&uid);
        }
        let old = self.unschedulable.iter().take_while(|(since, _)| *since + FLUSH_AFTER <= now);
        let old: Vec<String> = old.map(|(_, uid)| uid.clone()).collect();
        for uid in old {
            self.retry(&uid, now);
        }
    }

    /// When [`Queue::advance`] has something to do.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        let backoff = [&self.backing_off, &self.backing_off_failed].into_iter().filter_map(BTreeSet::first);
        let flush = self.unschedulable.first().map(|(since, _)| *since + FLUSH_AFTER);
        backoff.map(|(until, ..)| *until).chain(flush).min()
    }

    /// How many pods wait.
    #[must_use]
    pub fn depths(&self) -> Depths {
        Depths {
            active: self.active.len(),
            backoff: self.backing_off.len() + self.backing_off_failed.len(),
            unschedulable: self.unschedulable.len(),
            gated: self.gated,
        }
    }

    fn arrive(&mut self, pod: &Arc<PodInfo>, profile: usize, is_gated: bool, now: Instant) {
        self.arrivals += 1;
        let waiting = Waiting {
            pod: Arc::clone(pod),
            profile,
            rank: (Reverse(pod.priority), now, self.arrivals),
            refusals: 0,
            failures: 0,
            back: now,
            place: Place::InFlight,
            is_gated,
            is_held: false,
            is_wanted: false,
        };
        self.pods.insert(pod.uid.clone(), waiting);
        self.activate(&pod.uid);
    }

    /// Wants a pod tried, not before its backoff is over.
    fn retry(&mut self, uid: &str, now: Instant) {
        let Some(waiting) = self.pods.get_mut(uid) else { return };
        if waiting.is_held {
            waiting.is_wanted = true;
            return;
        }
        let until = waiting.back + self.backoff.of(waiting.refusals);
        if until <= now {
            self.activate(uid);
            return;
        }
        self.leave_place(uid);
        if let Some(waiting) = self.pods.get_mut(uid) {
            waiting.place = Place::BackingOff { until };
            self.backing_off.insert((until, waiting.rank, uid.to_owned()));
        }
    }

    fn activate(&mut self, uid: &str) {
        self.leave_place(uid);
        let Some(waiting) = self.pods.get_mut(uid) else { return };
        if waiting.is_gated {
            waiting.place = Place::Gated;
            self.gated += 1;
        } else {
            waiting.place = Place::Active;
            self.active.insert((waiting.rank, uid.to_owned()));
        }
    }

    /// Takes a pod out of where it waits; it is in flight then.
    fn leave_place(&mut self, uid: &str) {
        let Some(waiting) = self.pods.get_mut(uid) else { return };
        let (rank, uid) = (waiting.rank, uid.to_owned());
        match std::mem::replace(&mut waiting.place, Place::InFlight) {
            Place::Gated => self.gated -= 1,
            Place::Active => {
                self.active.remove(&(rank, uid));
            }
            Place::BackingOff { until } => {
                let entry = (until, rank, uid);
                if !self.backing_off.remove(&entry) {
                    self.backing_off_failed.remove(&entry);
                }
            }
            Place::Unschedulable { since, .. } => {
                self.unschedulable.remove(&(since, uid));
            }
            Place::InFlight => {}
        }
    }
}

impl Waiting {
    fn put_back(&mut self, now: Instant) {
        self.back = now;
        self.rank.1 = now;
    }
}

/// Whether a pod says itself that it is not ready to be scheduled.
fn has_gates(pod: &PodInfo) -> bool {
    let gates = pod.pod.spec.as_ref().and_then(|spec| spec.scheduling_gates.as_ref());
    gates.is_some_and(|gates| !gates.is_empty())
}
