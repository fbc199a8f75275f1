//! A queue into one thread, drained whole: what waits together is worked on together.

use parking_lot::{Condvar, Mutex};
use std::time::Duration;

/// A queue with many writers and one reader.
#[derive(Debug)]
pub(crate) struct Inbox<T> {
    state: Mutex<Queue<T>>,
    arrived: Condvar,
    taken: Condvar,
}

#[derive(Debug)]
struct Queue<T> {
    items: Vec<T>,
    /// The weight of what waits and of what the reader has not finished.
    weight: usize,
    reader_waits: bool,
    /// The reader gathers: it is woken only when the weight has reached this.
    gathers_to: usize,
    closed: bool,
}

impl<T> Inbox<T> {
    pub(crate) fn new() -> Self {
        let queue = Queue { items: Vec::new(), weight: 0, reader_waits: false, gathers_to: 0, closed: false };
        Self { state: Mutex::new(queue), arrived: Condvar::new(), taken: Condvar::new() }
    }

    /// Adds an item; gives it back if the queue is closed.
    pub(crate) fn push(&self, item: T, weight: usize) -> Result<(), T> {
        let mut queue = self.state.lock();
        if queue.closed {
            return Err(item);
        }
        queue.items.push(item);
        queue.weight += weight;
        let is_enough = queue.weight >= queue.gathers_to;
        let wake = is_enough && std::mem::take(&mut queue.reader_waits);
        drop(queue);
        if wake {
            self.arrived.notify_one();
        }
        Ok(())
    }

    /// Waits until less than `limit` is waiting or being worked on.
    pub(crate) fn wait_below(&self, limit: usize) {
        let mut queue = self.state.lock();
        while queue.weight >= limit && !queue.closed {
            self.taken.wait(&mut queue);
        }
    }

    /// The weight of what waits and of what is being worked on.
    pub(crate) fn weight(&self) -> usize {
        self.state.lock().weight
    }

    /// Moves all that waits into `items`, waiting for something until `timeout`. False when the
    /// queue is closed and nothing is left.
    pub(crate) fn take(&self, items: &mut Vec<T>, timeout: Option<Duration>) -> bool {
        let mut queue = self.state.lock();
        if queue.items.is_empty() && !queue.closed {
            queue.reader_waits = true;
            match timeout {
                Some(timeout) => {
                    self.arrived.wait_for(&mut queue, timeout);
                }
                None => {
                    while queue.items.is_empty() && !queue.closed {
                        queue.reader_waits = true;
                        self.arrived.wait(&mut queue);
                    }
                }
            }
            queue.reader_waits = false;
        }
        std::mem::swap(&mut queue.items, items);
        !items.is_empty() || !queue.closed
    }

    /// Waits for a first item until `timeout`, then for more: until `pause` has passed or their
    /// weight has reached `enough`. For a reader that nobody waits for.
    pub(crate) fn gather(&self, timeout: Option<Duration>, pause: Duration, enough: usize) {
        let mut queue = self.state.lock();
        if queue.items.is_empty() && !queue.closed {
            queue.reader_waits = true;
            match timeout {
                Some(timeout) => {
                    self.arrived.wait_for(&mut queue, timeout);
                }
                None => self.arrived.wait(&mut queue),
            }
        }
        if !queue.items.is_empty() && queue.weight < enough && !queue.closed {
            queue.reader_waits = true;
            queue.gathers_to = enough;
            self.arrived.wait_for(&mut queue, pause);
            queue.gathers_to = 0;
        }
        queue.reader_waits = false;
    }

    /// Whether nothing waits and nothing is being worked on.
    pub(crate) fn is_idle(&self) -> bool {
        let queue = self.state.lock();
        queue.weight == 0 && queue.items.is_empty() && !queue.closed
    }

    /// The reader finished items of this weight.
    pub(crate) fn finished(&self, weight: usize) {
        self.state.lock().weight -= weight;
        self.taken.notify_all();
    }

    /// Takes no more items; what waits can still be taken.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.arrived.notify_all();
        self.taken.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn what_waits_is_taken_whole_and_in_order() {
        let inbox = Inbox::new();
        inbox.push(1, 10).unwrap();
        inbox.push(2, 10).unwrap();
        assert_eq!(inbox.weight(), 20);
        let mut items = Vec::new();
        assert!(inbox.take(&mut items, None));
        assert_eq!(items, [1, 2]);
        inbox.finished(20);
        assert_eq!(inbox.weight(), 0);
    }

    #[test]
    fn a_closed_queue_is_emptied_first() {
        let inbox = Inbox::new();
        inbox.push(1, 1).unwrap();
        inbox.close();
        assert_eq!(inbox.push(2, 1), Err(2));
        let mut items = Vec::new();
        assert!(inbox.take(&mut items, None));
        items.clear();
        assert!(!inbox.take(&mut items, None));
    }

    #[test]
    fn a_writer_waits_for_room() {
        let inbox = Arc::new(Inbox::new());
        inbox.push((), 100).unwrap();
        let writer = {
            let inbox = inbox.clone();
            std::thread::spawn(move || inbox.wait_below(50))
        };
        inbox.finished(100);
        writer.join().unwrap();
    }
}
