//! An audit event, `audit.k8s.io/v1`, as it is written.

use std::collections::BTreeMap;

use api::Status;
use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::policy::{Level, Stage};
use crate::authn::User;
use crate::authz::Attributes;

/// The longest user agent that is recorded.
const LONGEST_AGENT: usize = 1024;
const SHORTENED: &str = "...TRUNCATED";
/// Says that the bodies were left out because the event would have been too large.
const TRUNCATED: &str = "audit.k8s.io/truncated";

/// What is known of a request by the time of an event.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Event {
    kind: &'static str,
    api_version: &'static str,
    level: &'static str,
    #[serde(rename = "auditID")]
    pub(super) id: String,
    pub(super) stage: &'static str,
    #[serde(rename = "requestURI")]
    pub(super) uri: String,
    verb: String,
    user: UserInfo,
    #[serde(skip_serializing_if = "Option::is_none")]
    impersonated_user: Option<UserInfo>,
    #[serde(skip_serializing_if = "Option::is_none")]
    authentication_metadata: Option<Value>,
    #[serde(rename = "sourceIPs", skip_serializing_if = "Vec::is_empty")]
    sources: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    user_agent: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    object_ref: Option<ObjectRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) response_status: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) request_object: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) response_object: Option<Box<RawValue>>,
    request_received_timestamp: String,
    stage_timestamp: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) annotations: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Serialize)]
struct UserInfo {
    #[serde(skip_serializing_if = "String::is_empty")]
    username: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    uid: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    groups: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    extra: BTreeMap<String, Vec<String>>,
}

impl From<&User> for UserInfo {
    fn from(user: &User) -> Self {
        Self {
            username: user.name.clone(),
            uid: user.uid.clone(),
            groups: user.groups.clone(),
            extra: user.extra.clone(),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ObjectRef {
    #[serde(skip_serializing_if = "String::is_empty")]
    resource: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) namespace: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) uid: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    api_group: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    api_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) resource_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    subresource: String,
}

/// How a request came.
#[derive(Clone, Debug)]
pub(super) struct Arrival {
    pub(super) id: String,
    /// Empty where there is none of HTTP's.
    pub(super) uri: String,
    pub(super) agent: String,
    pub(super) sources: Vec<String>,
    pub(super) at: Timestamp,
}

impl Event {
    pub(super) fn new(level: Level, arrival: &Arrival, user: Option<&User>, ask: &Attributes) -> Self {
        let received = api::time::format_micro(arrival.at);
        Self {
            kind: "Event",
            api_version: "audit.k8s.io/v1",
            level: level.name(),
            id: arrival.id.clone(),
            stage: Stage::RequestReceived.name(),
            uri: if arrival.uri.is_empty() { uri_of(ask) } else { arrival.uri.clone() },
            verb: ask.verb.clone(),
            user: user.map(UserInfo::from).unwrap_or_default(),
            impersonated_user: None,
            authentication_metadata: None,
            sources: arrival.sources.clone(),
            user_agent: shortened(&arrival.agent),
            object_ref: (!ask.resource.is_empty()).then(|| ObjectRef {
                resource: ask.resource.clone(),
                namespace: ask.namespace.clone(),
                name: ask.name.clone(),
                api_group: ask.group.clone(),
                api_version: ask.version.clone(),
                subresource: ask.subresource.clone(),
                ..ObjectRef::default()
            }),
            response_status: None,
            request_object: None,
            response_object: None,
            stage_timestamp: received.clone(),
            request_received_timestamp: received,
            annotations: BTreeMap::new(),
        }
    }

    pub(super) fn impersonates(&mut self, user: &User, constraint: &str) {
        self.impersonated_user = Some(user.into());
        if !constraint.is_empty() {
            self.authentication_metadata = Some(json!({"impersonationConstraint": constraint}));
        }
    }

    pub(super) fn object_ref(&mut self) -> &mut ObjectRef {
        self.object_ref.get_or_insert_default()
    }

    pub(super) fn at(&mut self, stage: Stage, now: Timestamp) {
        self.stage = stage.name();
        if stage != Stage::RequestReceived {
            self.stage_timestamp = api::time::format_micro(now);
        }
    }

    /// Says how it went; what was said before stays.
    pub(super) fn answered(&mut self, code: u16) {
        self.response_status.get_or_insert_with(|| json!({"metadata": {}}))["code"] = code.into();
    }

    pub(super) fn failed(&mut self, status: &Status) {
        let mut told = status.to_json();
        if let Some(map) = told.as_object_mut() {
            map.remove("kind");
            map.remove("apiVersion");
        }
        self.response_status = Some(told);
    }

    /// The event as bytes, without bodies if it is larger than `largest`; `None` if
    /// that is still too large.
    pub(super) fn encode(&self, largest: Option<usize>) -> Option<Bytes> {
        let encoded = |event: &Self| serde_json::to_vec(event).ok();
        let bytes = encoded(self)?;
        match largest {
            Some(largest) if bytes.len() > largest => {
                let mut small = self.clone();
                (small.request_object, small.response_object) = (None, None);
                small.annotations.insert(TRUNCATED.to_owned(), "true".to_owned());
                encoded(&small).filter(|bytes| bytes.len() <= largest).map(Into::into)
            }
            _ => Some(bytes.into()),
        }
    }

    /// The old format: one line of text.
    pub(super) fn line(&self) -> String {
        let or = |text: &str, none: &str| if text.is_empty() { none.to_owned() } else { text.to_owned() };
        let list =
            |groups: &[String]| groups.iter().map(|group| format!("{group:?}")).collect::<Vec<_>>().join(",");
        let groups = if self.user.username.is_empty() { String::new() } else { list(&self.user.groups) };
        let (as_user, as_groups) = match &self.impersonated_user {
            None => ("<self>".to_owned(), "<lookup>".to_owned()),
            Some(user) => (user.username.clone(), list(&user.groups)),
        };
        let namespace = self.object_ref.as_ref().map_or("", |of| of.namespace.as_str());
        let code = self.response_status.as_ref().map_or(Value::Null, |status| status["code"].clone());
        let response = if code.is_null() { "<deferred>".to_owned() } else { code.to_string() };
        format!(
            "{} AUDIT: id={:?} stage={:?} ip={:?} method={:?} user={:?} groups={:?} as={as_user:?} asgroups={as_groups:?} user-agent={:?} namespace={:?} uri={:?} response=\"{response}\"\n",
            self.request_received_timestamp,
            self.id,
            self.stage,
            self.sources.first().map_or("<unknown>", String::as_str),
            self.verb,
            or(&self.user.username, "<none>"),
            or(&groups, "<none>"),
            self.user_agent,
            or(namespace, "<none>"),
            self.uri,
        )
    }
}

fn shortened(agent: &str) -> String {
    if agent.len() <= LONGEST_AGENT {
        return agent.to_owned();
    }
    let end = (0..=LONGEST_AGENT).rev().find(|at| agent.is_char_boundary(*at)).unwrap_or(0);
    format!("{}{SHORTENED}", &agent[..end])
}

/// The path of REST for a request that came by gRPC.
fn uri_of(ask: &Attributes) -> String {
    if ask.resource.is_empty() {
        return ask.path.clone();
    }
    let root = if ask.group.is_empty() { "/api".to_owned() } else { format!("/apis/{}", ask.group) };
    let mut path = format!("{root}/{}", ask.version);
    if !ask.namespace.is_empty() && ask.resource != "namespaces" {
        path = format!("{path}/namespaces/{}", ask.namespace);
    }
    for part in [&ask.resource, &ask.name, &ask.subresource] {
        if !part.is_empty() {
            path = format!("{path}/{part}");
        }
    }
    path
}

/// A body as JSON for an event; `omits` leaves its managed fields out.
pub(super) fn body(json: &[u8], omits: bool) -> Option<Box<RawValue>> {
    if !omits {
        return serde_json::from_slice(json).ok();
    }
    let mut value: Value = serde_json::from_slice(json).ok()?;
    let forget = |object: &mut Value| {
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
    };
    forget(&mut value);
    value.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten().for_each(forget);
    serde_json::value::to_raw_value(&value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Event {
        let ask = Attributes {
            verb: "create".into(),
            version: "v1".into(),
            resource: "pods".into(),
            namespace: "n".into(),
            ..Attributes::default()
        };
        let arrival = Arrival {
            id: "id".into(),
            uri: String::new(),
            agent: "a".into(),
            sources: vec!["192.0.2.1".into()],
            at: "2026-01-02T03:04:05.000006Z".parse().expect("a time"),
        };
        let user = User { name: "jane".into(), groups: vec!["g".into()], ..User::default() };
        Event::new(Level::Request, &arrival, Some(&user), &ask)
    }

    #[test]
    fn the_form() {
        let mut event = event();
        event.answered(201);
        event.request_object = body(
            br#"{"metadata":{"name":"p","managedFields":[1]},"items":[{"metadata":{"managedFields":[]}}]}"#,
            true,
        );
        event.at(Stage::ResponseComplete, "2026-01-02T03:04:06Z".parse().expect("a time"));
        let json: Value = serde_json::from_slice(&event.encode(None).expect("encodes")).expect("JSON");
        let expected = json!({
            "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Request", "auditID": "id",
            "stage": "ResponseComplete", "requestURI": "/api/v1/namespaces/n/pods", "verb": "create",
            "user": {"username": "jane", "groups": ["g"]}, "sourceIPs": ["192.0.2.1"], "userAgent": "a",
            "objectRef": {"resource": "pods", "namespace": "n", "apiVersion": "v1"},
            "responseStatus": {"metadata": {}, "code": 201},
            "requestObject": {"metadata": {"name": "p"}, "items": [{"metadata": {}}]},
            "requestReceivedTimestamp": "2026-01-02T03:04:05.000006Z",
            "stageTimestamp": "2026-01-02T03:04:06.000000Z",
        });
        assert_eq!(json, expected);
        let line = "2026-01-02T03:04:05.000006Z AUDIT: id=\"id\" stage=\"ResponseComplete\" ip=\"192.0.2.1\" method=\"create\" user=\"jane\" groups=\"\\\"g\\\"\" as=\"<self>\" asgroups=\"<lookup>\" user-agent=\"a\" namespace=\"n\" uri=\"/api/v1/namespaces/n/pods\" response=\"201\"\n";
        assert_eq!(event.line(), line);
    }

    #[test]
    fn what_is_too_large_loses_its_bodies() {
        let mut event = event();
        let large = format!("\"{}\"", "x".repeat(2000));
        event.request_object = body(large.as_bytes(), false);
        let bytes = event.encode(Some(1000)).expect("fits without");
        let json: Value = serde_json::from_slice(&bytes).expect("JSON");
        assert_eq!((json.get("requestObject"), &json["annotations"][TRUNCATED]), (None, &json!("true")));
        assert_eq!(event.encode(Some(100)), None);
        assert!(event.encode(None).expect("whole").len() > 2000);
    }

    #[test]
    fn long_agents_are_cut() {
        assert_eq!(shortened("short"), "short");
        assert_eq!(shortened(&"é".repeat(600)).len(), LONGEST_AGENT + SHORTENED.len());
    }
}
