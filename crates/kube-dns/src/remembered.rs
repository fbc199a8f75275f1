//! Answers of other name servers, for as long as they may be kept.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use parking_lot::Mutex;

/// How many answers are kept at most.
const CAPACITY: usize = 10_000;
/// How long an answer is kept at most.
const LONGEST: u32 = 3600;

/// What was asked: the name in lower case, the type, and whether signatures are wanted.
pub type Asked = (Name, RecordType, bool);

struct Kept {
    message: Message,
    since: Instant,
    until: Instant,
}

/// The answers.
#[derive(Default)]
pub struct Remembered(Mutex<HashMap<Asked, Kept>>);

impl Remembered {
    /// An answer that may still be given, with its times counted down.
    #[must_use]
    pub fn get(&self, asked: &Asked, now: Instant) -> Option<Message> {
        let kept = self.0.lock();
        let found = kept.get(asked).filter(|kept| kept.until > now)?;
        let mut message = found.message.clone();
        let age = u32::try_from(now.duration_since(found.since).as_secs()).unwrap_or(u32::MAX);
        let sections = [&mut message.answers, &mut message.authorities, &mut message.additionals];
        for record in sections.into_iter().flatten() {
            record.ttl = record.ttl.saturating_sub(age);
        }
        Some(message)
    }

    /// Keeps an answer for as long as it says.
    pub fn keep(&self, asked: Asked, message: &Message, now: Instant) {
        let seconds = lifetime(message);
        if seconds == 0 {
            return;
        }
        let mut kept = self.0.lock();
        if kept.len() >= CAPACITY {
            kept.retain(|_, kept| kept.until > now);
        }
        if kept.len() >= CAPACITY {
            kept.clear();
        }
        let until = now + Duration::from_secs(u64::from(seconds));
        kept.insert(asked, Kept { message: message.clone(), since: now, until });
    }
}

/// How long an answer may be kept, seconds; RFC 2308 for that there is nothing.
fn lifetime(message: &Message) -> u32 {
    let code = message.metadata.response_code;
    if message.metadata.truncation || !matches!(code, ResponseCode::NoError | ResponseCode::NXDomain) {
        return 0;
    }
    let shortest = if message.answers.is_empty() {
        message.authorities.iter().find_map(|record| match &record.data {
            RData::SOA(soa) => Some(soa.minimum.min(record.ttl)),
            _ => None,
        })
    } else {
        message.answers.iter().map(|record| record.ttl).min()
    };
    shortest.unwrap_or(0).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use daemon::{Clock as _, SystemClock};
    use hickory_proto::op::{MessageType, OpCode};
    use hickory_proto::rr::Record;
    use hickory_proto::rr::rdata::A;

    use super::*;

    #[test]
    fn answers_age_and_end() {
        let (remembered, now) = (Remembered::default(), SystemClock.monotonic());
        let name = Name::from_ascii("a.example.").expect("a name");
        let asked = (name.clone(), RecordType::A, false);
        let mut message = Message::new(1, MessageType::Response, OpCode::Query);
        remembered.keep(asked.clone(), &message, now);
        assert!(remembered.get(&asked, now).is_none(), "nothing without an authority is not kept");
        message.add_answer(Record::from_rdata(name, 30, RData::A(A::new(1, 2, 3, 4))));
        remembered.keep(asked.clone(), &message, now);
        let later = remembered.get(&asked, now + Duration::from_secs(10)).expect("kept");
        assert_eq!(later.answers[0].ttl, 20);
        assert!(remembered.get(&asked, now + Duration::from_secs(30)).is_none());
        message.metadata.response_code = ResponseCode::ServFail;
        assert_eq!(lifetime(&message), 0);
    }
}
