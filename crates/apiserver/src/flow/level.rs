//! One priority level at run time: its queues behind a lock that is held for
//! a decision, never over a wait.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::Nanos;
use super::demand::Smoothed;
use super::drops::Drops;
use super::queues::{Arrival, Queues, Running, Ticket};
use super::schema::{LevelSpec, Limits};

/// A priority level.
pub(super) struct Level {
    pub(super) name: String,
    /// Whether flows matter: there are several queues.
    has_flows: AtomicBool,
    /// The widest request.
    widest: AtomicU64,
    state: Mutex<State>,
}

struct State {
    spec: LevelSpec,
    queues: Queues,
    limits: Limits,
    current: u64,
    demand: Smoothed,
    drops: Drops,
    waiters: HashMap<Ticket, oneshot::Sender<Running>>,
    next: Ticket,
}

/// What becomes of a request, and how it hears of it.
pub(super) enum Asked {
    Settled(Arrival),
    Waits { ticket: Ticket, queue: usize, turn: oneshot::Receiver<Running> },
}

/// What limits of levels follow from.
pub(super) struct Wants {
    pub(super) is_exempt: bool,
    pub(super) limits: Limits,
    pub(super) demand: Smoothed,
}

impl Level {
    pub(super) fn new(name: &str, spec: LevelSpec) -> Self {
        let state = State {
            queues: Queues::new(spec.queuing(), 0),
            spec,
            limits: Limits::default(),
            current: 0,
            demand: Smoothed::default(),
            drops: Drops::default(),
            waiters: HashMap::new(),
            next: 0,
        };
        let (has_flows, widest) = (AtomicBool::new(false), AtomicU64::new(1));
        Self { name: name.to_owned(), has_flows, widest, state: Mutex::new(state) }
    }

    pub(super) fn has_flows(&self) -> bool {
        self.has_flows.load(Ordering::Relaxed)
    }

    pub(super) fn widest(&self) -> u64 {
        self.widest.load(Ordering::Relaxed)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.state.lock().queues.is_idle()
    }

    pub(super) fn shares(&self) -> u64 {
        self.state.lock().spec.shares()
    }

    pub(super) fn set_spec(&self, spec: LevelSpec) {
        self.state.lock().spec = spec;
    }

    /// Takes over what the configuration says, with `shares` of all levels together.
    pub(super) fn configure(&self, now: Nanos, server: u64, shares: u64) -> Limits {
        let mut state = self.state.lock();
        let limits = state.spec.limits(server, shares);
        let queuing = state.spec.queuing();
        self.widest.store(limits.widest, Ordering::Relaxed);
        let has_flows = matches!(queuing, super::queues::Queuing::Queues { count, .. } if count > 1);
        self.has_flows.store(has_flows, Ordering::Relaxed);
        if state.limits == Limits::default() {
            state.current = limits.nominal - (limits.nominal - limits.lower) / 2;
        }
        state.current = state.current.clamp(limits.lower, limits.upper);
        state.limits = limits;
        let current = state.current;
        state.change(|queues, run| queues.configure(now, queuing, current, run));
        limits
    }

    /// Looks at the demand since the last look.
    pub(super) fn look(&self, now: Nanos) -> Wants {
        let mut state = self.state.lock();
        let seen = state.queues.demand().take(now);
        state.demand.update(seen);
        Wants { is_exempt: state.spec.is_exempt(), limits: state.limits, demand: state.demand }
    }

    /// Changes the seats that the level has.
    pub(super) fn set_current(&self, now: Nanos, seats: u64) {
        let mut state = self.state.lock();
        state.current = seats;
        let queuing = state.spec.queuing();
        state.change(|queues, run| queues.configure(now, queuing, seats, run));
    }

    pub(super) fn ask(&self, now: Nanos, hash: u64, seats: u64) -> Asked {
        let mut state = self.state.lock();
        let ticket = state.next;
        state.next += 1;
        let arrival = state.change(|queues, run| queues.arrive(now, ticket, hash, seats, run));
        match arrival {
            Arrival::Waits { queue } => {
                let (sender, turn) = oneshot::channel();
                state.waiters.insert(ticket, sender);
                Asked::Waits { ticket, queue, turn }
            }
            settled => Asked::Settled(settled),
        }
    }

    pub(super) fn finish(&self, now: Nanos, running: Running) {
        self.state.lock().change(|queues, run| queues.finish(now, running, run));
    }

    /// Gives a wait up; returns what runs where it was told to a moment ago.
    pub(super) fn give_up(
        &self,
        now: Nanos,
        (ticket, queue): (Ticket, usize),
        turn: &mut oneshot::Receiver<Running>,
    ) -> Option<Running> {
        let mut state = self.state.lock();
        if state.waiters.remove(&ticket).is_none() {
            // Whoever is no longer among those who wait was sent their turn, under this lock.
            return turn.try_recv().ok();
        }
        state.queues.cancel(now, ticket, queue);
        None
    }

    /// Notes a refusal; returns the seconds that the client shall wait.
    pub(super) fn refuse(&self, second: u64) -> u64 {
        self.state.lock().drops.note(second)
    }
}

impl State {
    /// Does something to the queues, and tells those who may run by it.
    fn change<T>(&mut self, what: impl FnOnce(&mut Queues, &mut dyn FnMut(Ticket, Running)) -> T) -> T {
        let waiters = &mut self.waiters;
        what(&mut self.queues, &mut |ticket, running| {
            if let Some(waiter) = waiters.remove(&ticket) {
                // Whoever gives up holds the lock and looks first, so that it is received.
                let _ = waiter.send(running);
            }
        })
    }
}
