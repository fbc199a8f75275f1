//! How long a request may take, so that none holds its room for ever: what the
//! client says in `timeout`, at most what the server gives everybody. Requests that
//! go on for as long as the client likes have no end but theirs.

use std::time::Duration;

use api::{Reason, Status};

use crate::authz::Attributes;
use crate::config::duration;

/// How long requests may take.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    most: Duration,
}

impl Deadline {
    /// At most so long.
    #[must_use]
    pub const fn new(most: Duration) -> Self {
        Self { most }
    }

    /// How long a request may take whose client says `timeout`; `None`: for as long as it likes.
    ///
    /// # Errors
    /// What the client says is no duration.
    pub fn of(self, ask: &Attributes, timeout: Option<&str>) -> Result<Option<Duration>, Status> {
        if ask.verb == "watch" || is_long_running(ask) {
            return Ok(None);
        }
        let Some(text) = timeout.filter(|text| !text.is_empty()) else { return Ok(Some(self.most)) };
        // A time that is over before it began is the server's, as upstream has it.
        let said = match text.strip_prefix('-').map(duration) {
            Some(negative) => negative.map(|_| Duration::ZERO),
            None => duration(text.strip_prefix('+').unwrap_or(text)),
        };
        let said = said.map_err(|error| {
            Status::bad_request(format!("invalid timeout specified in the request URL - {error}"))
        })?;
        Ok(Some(if said.is_zero() { self.most } else { said.min(self.most) }))
    }

    /// The longest that any may take.
    #[must_use]
    pub const fn longest(self) -> Duration {
        self.most
    }
}

/// Requests that go on for as long as the client likes.
#[must_use]
pub fn is_long_running(ask: &Attributes) -> bool {
    matches!(ask.subresource.as_str(), "attach" | "exec" | "proxy" | "log" | "portforward")
}

/// An answer, if it is there in time.
///
/// # Errors
/// The answer's own, or that it was not there.
pub async fn within<T>(
    limit: Option<Duration>,
    answer: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    let Some(limit) = limit else { return answer.await };
    tokio::time::timeout(limit, answer).await.unwrap_or_else(|_| Err(late()))
}

/// What a client reads whose answer was not there in time.
#[must_use]
pub fn late() -> Status {
    Status::new(Reason::Timeout, "Timeout: request did not complete within the allotted timeout")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_client_says_counts_up_to_the_servers_limit() {
        let deadline = Deadline::new(Duration::from_secs(60));
        let list = Attributes { verb: "list".to_owned(), ..Attributes::default() };
        for (said, seconds) in [
            (None, 60),
            (Some(""), 60),
            (Some("0"), 60),
            (Some("-5s"), 60),
            (Some("5s"), 5),
            (Some("5m"), 60),
        ] {
            assert_eq!(
                deadline.of(&list, said).ok().flatten(),
                Some(Duration::from_secs(seconds)),
                "{said:?}"
            );
        }
        let refused = deadline.of(&list, Some("soon")).expect_err("no duration");
        assert!(
            refused.message.starts_with("invalid timeout specified in the request URL - "),
            "{refused:?}"
        );
        for (verb, subresource) in [("watch", ""), ("create", "exec"), ("get", "log"), ("get", "proxy")] {
            let ask = Attributes {
                verb: verb.to_owned(),
                subresource: subresource.to_owned(),
                ..Attributes::default()
            };
            assert_eq!(deadline.of(&ask, Some("soon")).ok(), Some(None), "{verb} {subresource}");
        }
    }
}
