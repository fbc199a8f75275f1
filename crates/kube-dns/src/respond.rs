//! Bytes in, bytes out: what a client gets for what it sent. Never panics,
//! whatever comes.

use std::sync::Arc;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Record};

use crate::answer::{Question, answer};
use crate::forward::Forwarder;
use crate::metrics::{Metrics, Outcome};
use crate::zone::Zone;

/// The largest answer to a client that does not say how large it may be.
const CLASSIC: usize = 512;
/// The largest answer over UDP at all: larger ones would be cut into fragments.
const LARGEST_UDP: u16 = 1232;
/// How many names in a row may stand for another.
const LONGEST_CHAIN: usize = 8;

/// Who answers. Clones share everything.
#[derive(Clone)]
pub struct Responder {
    /// The cluster.
    pub zone: Arc<Zone>,
    /// The rest of the world.
    pub forwarder: Arc<Forwarder>,
    /// Counters.
    pub metrics: Metrics,
}

/// How a question came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// One packet, with a limit.
    Udp,
    /// A stream.
    Tcp,
}

impl Responder {
    /// The answer to a message; `None`: it deserves none.
    pub async fn respond(&self, bytes: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let Ok(request) = Message::from_vec(bytes) else { return malformed(bytes) };
        if request.metadata.message_type != MessageType::Query {
            return None;
        }
        let mut response = Message::response(request.metadata.id, request.metadata.op_code);
        response.metadata.recursion_desired = request.metadata.recursion_desired;
        response.metadata.recursion_available = true;
        response.add_queries(request.queries.iter().cloned());
        response.metadata.response_code = match (request.metadata.op_code, request.queries.as_slice()) {
            (OpCode::Query, [query]) if matches!(query.query_class(), DNSClass::IN | DNSClass::ANY) => {
                let signed = request.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok);
                self.fill(&mut response, query, signed).await
            }
            (OpCode::Query, [_]) => ResponseCode::Refused,
            (OpCode::Query, _) => ResponseCode::FormErr,
            _ => ResponseCode::NotImp,
        };
        let source = if response.metadata.authoritative { "cluster" } else { "forwarded" };
        let rcode = u16::from(response.metadata.response_code);
        self.metrics.responses.get_or_create(&Outcome { rcode, source }).inc();
        let limit = match (transport, &request.edns) {
            (Transport::Tcp, _) => usize::from(u16::MAX),
            (Transport::Udp, None) => CLASSIC,
            (Transport::Udp, Some(edns)) => usize::from(edns.max_payload().min(LARGEST_UDP)).max(CLASSIC),
        };
        if request.edns.is_some() {
            let mut edns = Edns::new();
            edns.set_max_payload(LARGEST_UDP);
            response.set_edns(edns);
        }
        fit(response, limit)
    }

    async fn fill(&self, response: &mut Message, query: &Query, signed: bool) -> ResponseCode {
        let mut question = Question { name: query.name().clone(), kind: query.query_type() };
        for _ in 0..LONGEST_CHAIN {
            let Some(mut found) = answer(&question, &self.zone) else {
                return self.forward(response, &question, signed).await;
            };
            if !self.zone.is_filled() {
                // Better no answer than a wrong one.
                return ResponseCode::ServFail;
            }
            response.metadata.authoritative = true;
            rotate(&mut found.answers);
            response.answers.extend(found.answers);
            response.authorities.extend(found.authorities);
            response.additionals.extend(found.additionals);
            match found.chase {
                Some(name) => question.name = name,
                None => return found.code,
            }
        }
        ResponseCode::ServFail
    }

    async fn forward(&self, response: &mut Message, question: &Question, signed: bool) -> ResponseCode {
        match self.forwarder.ask(&question.name, question.kind, signed).await {
            Ok(found) => {
                response.answers.extend(found.answers);
                response.authorities.extend(found.authorities);
                response.additionals.extend(found.additionals);
                response.metadata.authentic_data =
                    found.metadata.authentic_data && !response.metadata.authoritative;
                found.metadata.response_code
            }
            Err(error) => {
                tracing::debug!(name = %question.name, %error, "not answered");
                ResponseCode::ServFail
            }
        }
    }
}

/// Many clients take the first address: let it be another each time.
fn rotate(records: &mut [Record]) {
    if records.len() > 1 {
        records.rotate_left(rand::random_range(0..records.len()));
    }
}

/// A message that cannot be read, but has an id and is a question.
fn malformed(bytes: &[u8]) -> Option<Vec<u8>> {
    let header = bytes.get(..12)?;
    if header[2] & 0x80 != 0 {
        return None;
    }
    let id = u16::from_be_bytes([header[0], header[1]]);
    let mut response = Message::response(id, OpCode::Query);
    response.metadata.response_code = ResponseCode::FormErr;
    response.to_vec().ok()
}

/// The bytes of a message that must not be longer than a limit. What is nice to
/// have goes first; if answers must go, the client is told.
fn fit(mut message: Message, limit: usize) -> Option<Vec<u8>> {
    loop {
        let bytes = message.to_vec().ok()?;
        if bytes.len() <= limit {
            return Some(bytes);
        }
        if !message.additionals.is_empty() {
            message.additionals.clear();
        } else if !message.answers.is_empty() {
            message.metadata.truncation = true;
            let half = message.answers.len() / 2;
            message.answers.truncate(half);
        } else if !message.authorities.is_empty() {
            message.metadata.truncation = true;
            message.authorities.clear();
        } else {
            return Some(bytes);
        }
    }
}
