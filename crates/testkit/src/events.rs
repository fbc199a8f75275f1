//! A watch through the REST front, as a client reads it.

use http::Method;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::Value;

use crate::Rest;

/// How long the next event may take.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);

/// The events of a watch as they come.
#[derive(Debug)]
pub struct Events {
    body: Incoming,
    buffer: Vec<u8>,
}

impl Events {
    /// Begins a watch.
    ///
    /// # Panics
    /// The server does not answer, or refuses.
    pub async fn open(rest: &Rest, path: &str) -> Self {
        let response = rest.open(Method::GET, path, &[], "").await.expect("answers");
        assert_eq!(response.status(), 200);
        Self { body: response.into_body(), buffer: Vec::new() }
    }

    /// The next event: its type and its object; `None` at the watch's end.
    ///
    /// # Panics
    /// Nothing comes in ten seconds, or what comes is no event.
    pub async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                let event: Value = serde_json::from_slice(&line).expect("an event");
                return Some((event["type"].as_str().expect("type").to_owned(), event["object"].clone()));
            }
            let frame = tokio::time::timeout(PATIENCE, self.body.frame()).await.expect("an event in time")?;
            if let Ok(data) = frame.expect("no transport error").into_data() {
                self.buffer.extend_from_slice(&data);
            }
        }
    }

    /// The object of the next event, which has to be of a type and about a name.
    ///
    /// # Panics
    /// It is another event.
    pub async fn expect(&mut self, kind: &str, name: &str) -> Value {
        let (found, object) = self.next().await.expect("the watch goes on");
        assert_eq!((found.as_str(), object["metadata"]["name"].as_str()), (kind, Some(name)), "{object}");
        object
    }
}
