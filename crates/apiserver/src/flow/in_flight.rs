//! The plain limits, for a server without priority and fairness: so many requests
//! that read and so many that write at once, whoever sends them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::authn::{MASTERS, User};
use crate::authz::Attributes;
use crate::deadline::is_long_running;

/// The plain limits; 0 is none.
#[derive(Debug)]
pub struct InFlight {
    reading: Arc<Count>,
    writing: Arc<Count>,
}

#[derive(Debug)]
struct Count {
    most: usize,
    now: AtomicUsize,
}

/// A place among the requests at once; dropped, it is free.
#[derive(Debug)]
pub struct Place(Arc<Count>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::AcqRel);
    }
}

impl InFlight {
    /// Limits for requests that read, and that write.
    #[must_use]
    pub fn new(reading: usize, writing: usize) -> Self {
        let count = |most| Arc::new(Count { most, now: AtomicUsize::new(0) });
        Self { reading: count(reading), writing: count(writing) }
    }

    /// A place for a request; `Ok(None)` for what is not counted.
    ///
    /// # Errors
    /// There is none.
    #[expect(clippy::result_unit_err, reason = "there is nothing to say but that it is full")]
    pub fn enter(&self, user: &User, ask: &Attributes) -> Result<Option<Place>, ()> {
        let count = if matches!(ask.verb.as_str(), "get" | "list") { &self.reading } else { &self.writing };
        if ask.verb == "watch" || is_long_running(ask) || count.most == 0 {
            return Ok(None);
        }
        let before = count.now.fetch_add(1, Ordering::AcqRel);
        let place = Place(Arc::clone(count));
        // Administrators get in, or nobody could help a server that is full.
        if before >= count.most && !user.is_in(MASTERS) { Err(()) } else { Ok(Some(place)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_are_counted_apart() {
        let limits = InFlight::new(1, 2);
        let ask =
            |verb: &str| Attributes { verb: verb.into(), resource: "pods".into(), ..Attributes::default() };
        let (user, admin) = (User::anonymous(), User { groups: vec![MASTERS.into()], ..User::default() });
        let first = limits.enter(&user, &ask("get")).expect("there is room");
        assert!(limits.enter(&user, &ask("list")).is_err());
        assert!(limits.enter(&user, &ask("watch")).expect("not counted").is_none());
        assert!(limits.enter(&admin, &ask("get")).is_ok());
        let _writes = [limits.enter(&user, &ask("create")), limits.enter(&user, &ask("patch"))];
        assert!(limits.enter(&user, &ask("delete")).is_err());
        drop(first);
        assert!(limits.enter(&user, &ask("get")).is_ok());
    }
}
