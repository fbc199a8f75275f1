//! Runs loops against an in-memory server, in an order that a seed decides:
//! changes arrive late, watches are lost, processes crash between two writes of
//! a plan and another replica takes over. What must hold is checked at the end.

mod world;

use std::sync::Arc;
use std::time::Duration;

use api::ObjectKey;
use client::Cache;
use client::cached::Cached;
use jiff::SignedDuration;
use serde_json::Value;

use crate::wiring::ResourceName;
use crate::{Loop, Moment};

pub use world::{Change, World};

/// A small generator of repeatable numbers (splitmix64).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// A generator that a seed decides.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below a limit; 0 for a limit of 0.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        usize::try_from(mixed % limit.max(1) as u64).unwrap_or_default()
    }

    /// Whether an event of this many in a hundred happens.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

/// A cache that the simulation fills.
pub struct Feed {
    name: ResourceName,
    position: usize,
    cache: Box<dyn Fed>,
}

trait Fed {
    fn take(&self, change: &Change);
    fn list(&self, objects: Vec<Value>, revision: u64);
    fn revision(&self) -> u64;
}

impl<K: Cached> Fed for Arc<Cache<K>> {
    fn take(&self, change: &Change) {
        match &change.object {
            Some(object) => self.insert(read(object)),
            None => self.remove(&change.key),
        }
        self.advance(change.revision);
    }

    fn list(&self, objects: Vec<Value>, revision: u64) {
        self.replace(objects.iter().map(read).collect(), revision);
    }

    fn revision(&self) -> u64 {
        Cache::revision(self)
    }
}

fn read<K: Cached>(object: &Value) -> K {
    serde_json::from_value(object.clone()).expect("the world holds objects of their kind")
}

impl Feed {
    /// Fills this cache with the world's objects of its kind.
    #[must_use]
    pub fn of<K: Cached>(cache: &Arc<Cache<K>>) -> Self {
        let name = (K::GROUP.to_owned(), K::URL_PATH_SEGMENT.to_owned());
        Self { name, position: 0, cache: Box::new(Arc::clone(cache)) }
    }
}

/// One process: its loops and its caches.
pub struct Replica {
    /// The loops.
    pub loops: Vec<Loop>,
    /// Their caches.
    pub feeds: Vec<Feed>,
}

/// What happens beside the loops: kubelets, users. Returns whether it did something.
pub type Surroundings = Box<dyn FnMut(&mut World, &mut Dice) -> bool>;

/// A world, a replica that acts in it, and what happens beside.
pub struct Simulation {
    /// The server.
    pub world: World,
    dice: Dice,
    build: Box<dyn Fn() -> Replica>,
    surroundings: Surroundings,
    replica: Replica,
    /// Keys that ran, and the revision that their caches must reach first.
    waiting: Vec<(usize, ObjectKey, Vec<(ResourceName, u64)>)>,
    elapsed: Duration,
}

impl Simulation {
    /// A simulation that a seed decides; `build` makes a replica with empty caches.
    pub fn new(
        seed: u64,
        world: World,
        build: impl Fn() -> Replica + 'static,
        surroundings: Surroundings,
    ) -> Self {
        let replica = build();
        let mut simulation = Self {
            world,
            dice: Dice::new(seed),
            build: Box::new(build),
            surroundings,
            replica,
            waiting: Vec::new(),
            elapsed: Duration::ZERO,
        };
        simulation.list_all();
        simulation
    }

    /// Another replica takes over: what was queued and cached is lost.
    pub fn take_over(&mut self) {
        self.replica = (self.build)();
        self.waiting.clear();
        self.list_all();
    }

    fn list_all(&mut self) {
        for feed in &mut self.replica.feeds {
            relist(&self.world, feed);
        }
    }

    /// Some steps in an order that the seed decides, with faults.
    pub fn disturb(&mut self, steps: usize) {
        for _ in 0..steps {
            match self.dice.below(100) {
                0..40 => drop(self.deliver_one()),
                40..75 => drop(self.run_one(true)),
                75..90 => drop((self.surroundings)(&mut self.world, &mut self.dice)),
                90..95 => self.pass(Duration::from_millis(200)),
                95..98 => {
                    // A watch was lost: the list skips what happened between.
                    let index = self.dice.below(self.replica.feeds.len());
                    relist(&self.world, &mut self.replica.feeds[index]);
                }
                _ => self.take_over(),
            }
        }
    }

    /// Goes on without faults until nothing is left to do for `calm` of the
    /// world's time. Panics when that never comes.
    pub fn settle(&mut self, calm: Duration) {
        let mut quiet = Duration::ZERO;
        let tick = Duration::from_secs(1);
        for _ in 0..200_000 {
            let moved = self.deliver_one()
                || self.run_one(false)
                || (self.surroundings)(&mut self.world, &mut self.dice);
            if moved {
                quiet = Duration::ZERO;
                continue;
            }
            if quiet >= calm {
                return;
            }
            self.pass(tick);
            quiet += tick;
        }
        panic!("the loops never come to rest");
    }

    fn pass(&mut self, time: Duration) {
        self.elapsed += time;
        self.world.now += SignedDuration::try_from(time).expect("a simulation is short");
        for one in &self.replica.loops {
            one.shared.queue.lock().take_due(self.elapsed);
        }
    }

    fn deliver_one(&mut self) -> bool {
        let behind: Vec<usize> = (0..self.replica.feeds.len())
            .filter(|index| {
                self.world
                    .after(&self.replica.feeds[*index].name, self.replica.feeds[*index].position)
                    .is_some()
            })
            .collect();
        if behind.is_empty() {
            return self.release();
        }
        let feed = &mut self.replica.feeds[behind[self.dice.below(behind.len())]];
        if let Some((position, change)) = self.world.after(&feed.name, feed.position) {
            feed.cache.take(change);
            feed.position = position + 1;
        }
        self.release();
        true
    }

    /// Ends the runs whose writes the caches show.
    fn release(&mut self) -> bool {
        let feeds = &self.replica.feeds;
        let shown = |written: &[(ResourceName, u64)]| {
            written.iter().all(|(name, revision)| {
                feeds
                    .iter()
                    .find(|feed| feed.name == *name)
                    .is_none_or(|feed| feed.cache.revision() >= *revision)
            })
        };
        let before = self.waiting.len();
        let loops = &self.replica.loops;
        self.waiting.retain(|(index, key, written)| {
            if shown(written) {
                loops[*index].shared.queue.lock().done(key);
                return false;
            }
            true
        });
        self.waiting.len() < before
    }

    fn run_one(&mut self, may_crash: bool) -> bool {
        let ready: Vec<usize> = (0..self.replica.loops.len())
            .filter(|index| !self.replica.loops[*index].shared.queue.lock().is_empty())
            .collect();
        if ready.is_empty() {
            return false;
        }
        let index = ready[self.dice.below(ready.len())];
        let (key, decide) = {
            let one = &self.replica.loops[index];
            let mut queue = one.shared.queue.lock();
            let turn = self.dice.below(queue.len());
            (queue.pop_at(turn).expect("the queue was not empty"), Arc::clone(&one.decide))
        };
        let plan = decide.decide(&key, &Moment::at(self.world.now)).unwrap_or_default();
        let crash_after = (may_crash && self.dice.chance(3)).then(|| self.dice.below(plan.actions.len() + 1));
        let mut written = Vec::new();
        let mut refused = false;
        for (done, action) in plan.actions.iter().enumerate() {
            if crash_after == Some(done) {
                self.take_over();
                return true;
            }
            match self.world.act(action) {
                Ok(Some(write)) => written.push(write),
                Ok(None) => {}
                Err(_) => {
                    refused = true;
                    break;
                }
            }
        }
        let mut queue = self.replica.loops[index].shared.queue.lock();
        if refused {
            let delay = queue.backoff(&key);
            queue.wake_at(key.clone(), self.elapsed + delay);
        } else {
            queue.forget_failures(&key);
            match plan.wake_after {
                Some(after) => queue.wake_at(key.clone(), self.elapsed + after),
                None => queue.forget_wake(&key),
            }
        }
        drop(queue);
        self.waiting.push((index, key, written));
        self.release();
        true
    }
}

fn relist(world: &World, feed: &mut Feed) {
    feed.cache.list(world.objects(&feed.name), world.revision());
    feed.position = world.log_length();
}
