//! The queues of one priority level: who runs, who waits, who is refused.
//!
//! Fair queuing by virtual time, following upstream's `fairqueuing/queueset`: each
//! queue would get an equal part of the level's seats if all were served at once,
//! and the request goes next that would have finished first then. Pure: the time
//! comes with each call, and what may run is told to the caller.

use std::collections::{BTreeSet, VecDeque};

use super::Nanos;
use super::dealer::Dealer;
use super::demand::Demand;

/// What a request is guessed to take before it has run.
const GUESSED: i128 = 3_000_000;
/// Virtual time has this many binary digits behind the point: a queue's part of the
/// seats is seldom a whole number.
const FRACTION: u32 = 16;

/// Names a request to its caller.
pub(super) type Ticket = u64;

/// How a level queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Queuing {
    /// Everything runs at once.
    Exempt,
    /// What does not fit is refused.
    Reject,
    /// What does not fit waits.
    Queues {
        /// How many queues.
        count: usize,
        /// How many of them a flow may use.
        hand: usize,
        /// How many requests wait in one.
        length: usize,
    },
}

/// Why a request is refused, in upstream's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    QueueFull,
    ConcurrencyLimit,
    TimeOut,
}

impl Refusal {
    pub(super) const ALL: [Self; 3] = [Self::QueueFull, Self::ConcurrencyLimit, Self::TimeOut];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::QueueFull => "queue-full",
            Self::ConcurrencyLimit => "concurrency-limit",
            Self::TimeOut => "time-out",
        }
    }
}

/// A request that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Running {
    queue: Option<usize>,
    seats: u64,
    since: Nanos,
}

impl Running {
    pub(super) const fn seats(&self) -> u64 {
        self.seats
    }

    pub(super) const fn since(&self) -> Nanos {
        self.since
    }
}

/// What becomes of a request that arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// It runs now.
    Runs(Running),
    /// It waits in a queue, and will be told to run.
    Waits {
        /// The queue.
        queue: usize,
    },
    /// It is refused.
    Refused(Refusal),
}

struct Waiting {
    ticket: Ticket,
    seats: u64,
    arrived: i128,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    waiting_seats: u64,
    running: usize,
    running_seats: u64,
    /// The virtual time at which its next request would begin.
    next: i128,
}

impl Queue {
    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running == 0
    }

    /// A queue that was treated too well is not paid back what nobody waited for.
    fn bound(&mut self) {
        if let Some(oldest) = self.waiting.front() {
            self.next = self.next.max(oldest.arrived);
        }
    }
}

/// The virtual work of a request.
fn work(seats: u64) -> i128 {
    (i128::from(seats) * GUESSED) << FRACTION
}

/// The queues, and what runs.
pub(super) struct Queues {
    queuing: Queuing,
    dealer: Dealer,
    limit: u64,
    queues: Vec<Queue>,
    /// Those in which somebody waits.
    busy: BTreeSet<usize>,
    /// How many are not idle.
    active: usize,
    virtual_now: i128,
    last: Nanos,
    /// The queue that was served last.
    robin: usize,
    arrivals: usize,
    waiting: usize,
    waiting_seats: u64,
    running: usize,
    running_seats: u64,
    /// Seats used by requests that came through a queue.
    queued_seats: u64,
    demand: Demand,
}

impl Queues {
    pub(super) fn new(queuing: Queuing, limit: u64) -> Self {
        let mut queues = Self {
            queuing: Queuing::Exempt,
            dealer: Dealer::new(1, 1),
            limit,
            queues: Vec::new(),
            busy: BTreeSet::new(),
            active: 0,
            virtual_now: 0,
            last: 0,
            robin: 0,
            arrivals: 0,
            waiting: 0,
            waiting_seats: 0,
            running: 0,
            running_seats: 0,
            queued_seats: 0,
            demand: Demand::default(),
        };
        queues.shape(queuing);
        queues
    }

    fn shape(&mut self, queuing: Queuing) {
        if let Queuing::Queues { count, hand, .. } = queuing {
            self.dealer = Dealer::new(count, hand);
            if self.queues.len() < count {
                self.queues.resize_with(count, Queue::default);
            }
        }
        self.queuing = queuing;
    }

    /// Changes how the level queues and how many seats it has.
    pub(super) fn configure(
        &mut self,
        now: Nanos,
        queuing: Queuing,
        limit: u64,
        run: &mut dyn FnMut(Ticket, Running),
    ) {
        self.sync(now);
        self.shape(queuing);
        self.limit = limit;
        self.forget_idle();
        self.dispatch(now, run);
    }

    pub(super) const fn is_idle(&self) -> bool {
        self.waiting == 0 && self.running == 0
    }

    pub(super) fn demand(&mut self) -> &mut Demand {
        &mut self.demand
    }

    /// Takes a request in. Others may begin to run by it, too.
    pub(super) fn arrive(
        &mut self,
        now: Nanos,
        ticket: Ticket,
        hash: u64,
        seats: u64,
        run: &mut dyn FnMut(Ticket, Running),
    ) -> Arrival {
        self.sync(now);
        let Queuing::Queues { length, .. } = self.queuing else {
            if self.queuing == Queuing::Reject && !self.fits(seats) {
                return Arrival::Refused(Refusal::ConcurrencyLimit);
            }
            return Arrival::Runs(self.start(now, None, seats));
        };
        let index = self.choose(hash);
        if self.running_seats >= self.limit && self.queues[index].waiting.len() >= length {
            return Arrival::Refused(Refusal::QueueFull);
        }
        let queue = &mut self.queues[index];
        if queue.is_idle() {
            queue.next = self.virtual_now;
            self.active += 1;
        }
        // Nobody waits and there is room: it need not be put in and taken out.
        if self.waiting == 0 && self.running_seats < self.limit && self.fits(seats) {
            let queue = &mut self.queues[index];
            queue.next = queue.next.max(self.virtual_now) + work(seats);
            self.robin = index;
            return Arrival::Runs(self.start(now, Some(index), seats));
        }
        let queue = &mut self.queues[index];
        queue.waiting.push_back(Waiting { ticket, seats, arrived: self.virtual_now });
        queue.waiting_seats += seats;
        queue.bound();
        self.busy.insert(index);
        self.waiting += 1;
        self.waiting_seats += seats;
        self.note(now);
        let mut own = None;
        self.dispatch(now, &mut |other, running| {
            if other == ticket { own = Some(running) } else { run(other, running) }
        });
        own.map_or(Arrival::Waits { queue: index }, Arrival::Runs)
    }

    /// A request has run.
    pub(super) fn finish(&mut self, now: Nanos, ended: Running, run: &mut dyn FnMut(Ticket, Running)) {
        self.sync(now);
        self.running -= 1;
        self.running_seats -= ended.seats;
        if let Some(index) = ended.queue {
            self.queued_seats -= ended.seats;
            let queue = &mut self.queues[index];
            queue.running -= 1;
            queue.running_seats -= ended.seats;
            // The queue had been charged a guess; now it is known.
            let took = i128::from(now.saturating_sub(ended.since));
            queue.next -= (i128::from(ended.seats) * (GUESSED - took)) << FRACTION;
            queue.bound();
            self.leave(index);
        }
        self.note(now);
        self.dispatch(now, run);
    }

    /// A request does not wait any longer.
    pub(super) fn cancel(&mut self, now: Nanos, ticket: Ticket, queue: usize) {
        self.sync(now);
        let Some(of) = self.queues.get_mut(queue) else { return };
        let Some(at) = of.waiting.iter().position(|one| one.ticket == ticket) else { return };
        let Some(gone) = of.waiting.remove(at) else { return };
        of.waiting_seats -= gone.seats;
        of.bound();
        if of.waiting.is_empty() {
            self.busy.remove(&queue);
        }
        self.waiting -= 1;
        self.waiting_seats -= gone.seats;
        self.leave(queue);
        self.note(now);
    }

    /// The queue of the flow's hand with the least work waiting.
    fn choose(&mut self, hash: u64) -> usize {
        let hand = self.dealer.deal(hash);
        let offset = self.arrivals;
        self.arrivals = self.arrivals.wrapping_add(1);
        let least = hand.from(offset).min_by_key(|index| self.queues[*index].waiting_seats);
        // A hand has at least one queue.
        least.unwrap_or(0)
    }

    const fn fits(&self, seats: u64) -> bool {
        if seats > self.limit {
            // It would never fit; alone it may run.
            return self.running == 0;
        }
        self.running_seats + seats <= self.limit
    }

    fn start(&mut self, now: Nanos, queue: Option<usize>, seats: u64) -> Running {
        self.running += 1;
        self.running_seats += seats;
        if let Some(index) = queue {
            self.queues[index].running += 1;
            self.queues[index].running_seats += seats;
            self.queued_seats += seats;
        }
        self.note(now);
        Running { queue, seats, since: now }
    }

    /// Lets requests run while there are seats.
    fn dispatch(&mut self, now: Nanos, run: &mut dyn FnMut(Ticket, Running)) {
        while self.waiting > 0 && self.running_seats < self.limit {
            let Some(index) = self.next_queue() else { return };
            let Some(seats) = self.queues[index].waiting.front().map(|one| one.seats) else { return };
            // The one whose turn it is waits for room; those behind it do not pass.
            if !self.fits(seats) {
                return;
            }
            let queue = &mut self.queues[index];
            let Some(first) = queue.waiting.pop_front() else { return };
            queue.waiting_seats -= seats;
            queue.next += work(seats);
            queue.bound();
            if queue.waiting.is_empty() {
                self.busy.remove(&index);
            }
            self.waiting -= 1;
            self.waiting_seats -= seats;
            self.robin = index;
            let running = self.start(now, Some(index), seats);
            run(first.ticket, running);
        }
    }

    /// The queue whose first request would end first, round robin among equals.
    fn next_queue(&self) -> Option<usize> {
        let behind = self.busy.range(self.robin + 1..);
        let order = behind.chain(self.busy.range(..=self.robin));
        order
            .filter_map(|index| {
                let queue = &self.queues[*index];
                queue.waiting.front().map(|first| (queue.next + work(first.seats), *index))
            })
            .min_by_key(|(ends, _)| *ends)
            .map(|(_, index)| index)
    }

    /// Moves the virtual time on: by the seats in use, divided among the queues.
    fn sync(&mut self, now: Nanos) {
        let past = now.saturating_sub(self.last);
        self.last = self.last.max(now);
        if self.active > 0 {
            let wanted = (self.queued_seats + self.waiting_seats).min(self.limit);
            let moved = (i128::from(past) * i128::from(wanted)) << FRACTION;
            // Queues are few.
            self.virtual_now += moved / self.active as i128;
        }
    }

    fn leave(&mut self, index: usize) {
        if self.queues[index].is_idle() {
            self.active -= 1;
            self.forget_idle();
        }
    }

    /// Queues that a smaller configuration does not want go when they are idle.
    fn forget_idle(&mut self) {
        let wanted = match self.queuing {
            Queuing::Queues { count, .. } => count,
            Queuing::Exempt | Queuing::Reject => 0,
        };
        while self.queues.len() > wanted && self.queues.last().is_some_and(Queue::is_idle) {
            self.queues.pop();
        }
    }

    fn note(&mut self, now: Nanos) {
        self.demand.set(now, self.running_seats + self.waiting_seats);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const QUEUES: Queuing = Queuing::Queues { count: 8, hand: 2, length: 5 };
    const MS: Nanos = 1_000_000;

    fn nobody(ticket: Ticket, _: Running) {
        panic!("{ticket} runs");
    }

    fn runs(arrival: Arrival) -> Running {
        match arrival {
            Arrival::Runs(running) => running,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn seats_are_used_then_queues_then_nobody_gets_in() {
        let mut queues = Queues::new(Queuing::Queues { count: 1, hand: 1, length: 2 }, 2);
        let first = runs(queues.arrive(0, 1, 0, 1, &mut nobody));
        runs(queues.arrive(0, 2, 0, 1, &mut nobody));
        for ticket in [3, 4] {
            assert_eq!(queues.arrive(0, ticket, 0, 1, &mut nobody), Arrival::Waits { queue: 0 });
        }
        assert_eq!(queues.arrive(0, 5, 0, 1, &mut nobody), Arrival::Refused(Refusal::QueueFull));
        queues.cancel(MS, 3, 0);
        let mut started = Vec::new();
        queues.finish(MS, first, &mut |ticket, _| started.push(ticket));
        assert_eq!(started, [4]);
    }

    #[test]
    fn without_queues_what_does_not_fit_is_refused() {
        let mut queues = Queues::new(Queuing::Reject, 1);
        let only = runs(queues.arrive(0, 1, 0, 1, &mut nobody));
        assert_eq!(queues.arrive(0, 2, 0, 1, &mut nobody), Arrival::Refused(Refusal::ConcurrencyLimit));
        queues.finish(MS, only, &mut nobody);
        runs(queues.arrive(0, 3, 0, 5, &mut nobody));
        let mut exempt = Queues::new(Queuing::Exempt, 0);
        for ticket in 0..100 {
            runs(exempt.arrive(0, ticket, 0, 3, &mut nobody));
        }
    }

    #[test]
    fn a_greedy_flow_does_not_starve_a_modest_one() {
        let mut queues = Queues::new(Queuing::Queues { count: 2, hand: 1, length: 1000 }, 1);
        let mut running = runs(queues.arrive(0, 0, 0, 1, &mut nobody));
        for ticket in 1..100 {
            queues.arrive(0, ticket, 0, 1, &mut nobody);
        }
        // The modest flow comes last.
        queues.arrive(0, 1000, 1, 1, &mut nobody);
        let mut order = Vec::new();
        for step in 1..=3 {
            let mut next = None;
            queues.finish(step * 10 * MS, running, &mut |ticket, one| next = Some((ticket, one)));
            let (ticket, one) = next.expect("somebody runs");
            order.push(ticket);
            running = one;
        }
        assert!(order.contains(&1000), "{order:?}");
    }

    #[test]
    fn a_wide_request_waits_for_room_and_is_not_passed() {
        let mut queues = Queues::new(Queuing::Queues { count: 1, hand: 1, length: 9 }, 4);
        let first = runs(queues.arrive(0, 1, 0, 2, &mut nobody));
        assert_eq!(queues.arrive(0, 2, 0, 4, &mut nobody), Arrival::Waits { queue: 0 });
        assert_eq!(queues.arrive(0, 3, 0, 1, &mut nobody), Arrival::Waits { queue: 0 });
        let mut started = Vec::new();
        queues.finish(MS, first, &mut |ticket, one| started.push((ticket, one)));
        assert_eq!(started.iter().map(|(ticket, _)| *ticket).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn a_smaller_configuration_keeps_who_waits() {
        let mut queues = Queues::new(QUEUES, 1);
        let first = runs(queues.arrive(0, 1, 7, 1, &mut nobody));
        for ticket in 2..8 {
            queues.arrive(0, ticket, ticket * 11, 1, &mut nobody);
        }
        let mut started = Vec::new();
        queues.configure(0, Queuing::Reject, 3, &mut |ticket, one| started.push((ticket, one)));
        assert_eq!(started.len(), 2);
        let mut running = vec![first];
        running.extend(started.into_iter().map(|(_, one)| one));
        let mut count = 3;
        while let Some(one) = running.pop() {
            queues.finish(MS, one, &mut |_, next| {
                count += 1;
                running.push(next);
            });
        }
        assert_eq!(count, 7);
        assert!(queues.is_idle() && queues.queues.is_empty());
    }

    #[derive(Clone, Debug)]
    enum Step {
        Arrive { hash: u64, seats: u64 },
        Finish { at: usize },
        Cancel { at: usize },
        Configure { count: usize, limit: u64 },
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (any::<u64>(), 1_u64..4).prop_map(|(hash, seats)| Step::Arrive { hash, seats }),
            3 => any::<usize>().prop_map(|at| Step::Finish { at }),
            1 => any::<usize>().prop_map(|at| Step::Cancel { at }),
            1 => (0_usize..10, 1_u64..6).prop_map(|(count, limit)| Step::Configure { count, limit }),
        ]
    }

    proptest! {
        #[test]
        fn nobody_is_lost_and_seats_are_kept(steps in proptest::collection::vec(step(), 1..200)) {
            let mut queues = Queues::new(QUEUES, 3);
            let (mut limit, mut now, mut ticket) = (3_u64, 0, 0);
            let mut running: Vec<Running> = Vec::new();
            let mut waiting: Vec<(Ticket, usize)> = Vec::new();
            for step in steps {
                now += MS;
                let mut started = Vec::new();
                let mut run = |ticket, one| started.push((ticket, one));
                match step {
                    Step::Arrive { hash, seats } => {
                        ticket += 1;
                        match queues.arrive(now, ticket, hash, seats, &mut run) {
                            Arrival::Runs(one) => running.push(one),
                            Arrival::Waits { queue } => waiting.push((ticket, queue)),
                            Arrival::Refused(_) => {}
                        }
                    }
                    Step::Finish { at } if !running.is_empty() => {
                        let one = running.swap_remove(at % running.len());
                        queues.finish(now, one, &mut run);
                    }
                    Step::Cancel { at } if !waiting.is_empty() => {
                        let (ticket, queue) = waiting.swap_remove(at % waiting.len());
                        queues.cancel(now, ticket, queue);
                    }
                    Step::Configure { count, limit: seats } => {
                        limit = seats;
                        let queuing = if count == 0 { Queuing::Reject } else { Queuing::Queues { count, hand: 2, length: 5 } };
                        queues.configure(now, queuing, limit, &mut run);
                    }
                    Step::Finish { .. } | Step::Cancel { .. } => {}
                }
                for (ticket, one) in started {
                    let at = waiting.iter().position(|(other, _)| *other == ticket).expect("it waited");
                    waiting.swap_remove(at);
                    running.push(one);
                }
                prop_assert_eq!(queues.running, running.len());
                prop_assert_eq!(queues.waiting, waiting.len());
                prop_assert_eq!(queues.running_seats, running.iter().map(Running::seats).sum::<u64>());
                prop_assert_eq!(queues.active, queues.queues.iter().filter(|queue| !queue.is_idle()).count());
                prop_assert!(waiting.is_empty() || !running.is_empty(), "somebody waits for nobody");
                let _ = limit;
            }
        }
    }
}
