//! `AdmissionReview`: what a webhook is asked, and what it answers.

use base64::Engine as _;
use bytes::Bytes;
use serde::Deserialize as _;
use serde_json::{Value, json};

use crate::admission::Request;
use crate::admission::expressions::attributes;

/// The versions of the review that are spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Version {
    #[default]
    V1,
    V1Beta1,
}

impl Version {
    /// The first of a webhook's versions that is known here.
    pub(super) fn first_known(list: &Value) -> Option<Self> {
        list.as_array().into_iter().flatten().find_map(|one| match one.as_str() {
            Some("v1") => Some(Self::V1),
            Some("v1beta1") => Some(Self::V1Beta1),
            _ => None,
        })
    }

    const fn api_version(self) -> &'static str {
        match self {
            Self::V1 => "admission.k8s.io/v1",
            Self::V1Beta1 => "admission.k8s.io/v1beta1",
        }
    }
}

/// The body of a call, and the uid that its answer must have.
pub(super) fn request(of: &Request<'_>, version: Version) -> (String, Bytes) {
    let uid = uuid::Uuid::new_v4().to_string();
    let object =
        |object: &Option<api::Object>| object.as_ref().map_or(Value::Null, |one| one.clone().into_value());
    let mut asked = attributes(of);
    asked["uid"] = uid.as_str().into();
    asked["object"] = object(&of.object);
    asked["oldObject"] = object(&of.old);
    let review = json!({"kind": "AdmissionReview", "apiVersion": version.api_version(), "request": asked});
    (uid, review.to_string().into())
}

/// What a webhook says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// The status of a refusal.
    pub(super) denied: Option<Value>,
    /// A JSON patch.
    pub(super) patch: Option<Vec<u8>>,
    pub(super) warnings: Vec<String>,
    /// For the audit log, without the webhook's name.
    pub(super) annotations: Vec<(String, String)>,
    /// It failed, and that is let pass.
    pub(super) has_failed: bool,
}

/// Reads an answer.
pub(super) fn answer(body: &[u8], uid: &str, version: Version) -> Result<Answer, String> {
    let review: Value =
        serde_json::from_slice(body).map_err(|error| format!("the answer is no JSON: {error}"))?;
    let found =
        (review["kind"].as_str().unwrap_or_default(), review["apiVersion"].as_str().unwrap_or_default());
    if found != ("AdmissionReview", version.api_version()) {
        return Err(format!(
            "expected webhook response of {}, Kind=AdmissionReview, got {}, Kind={}",
            version.api_version(),
            found.1,
            found.0
        ));
    }
    let response = &review["response"];
    if !response.is_object() {
        return Err("webhook response was absent".to_owned());
    }
    if version == Version::V1 && response["uid"] != uid {
        return Err(format!("expected response.uid={uid:?}, got {}", response["uid"]));
    }
    let warnings = response["warnings"].as_array().into_iter().flatten();
    let warnings = warnings.filter_map(Value::as_str).map(str::to_owned).collect();
    let allowed = response["allowed"].as_bool().unwrap_or_default();
    let denied = (!allowed).then(|| match &response["status"] {
        Value::Null => json!({}),
        status => status.clone(),
    });
    let patch = bytes(&response["patch"]).map_err(|error| format!("response.patch: {error}"))?;
    let patch = Some(patch).filter(|patch| !patch.is_empty());
    if patch.is_some() && response["patchType"] != "JSONPatch" && version == Version::V1 {
        return Err(format!(
            "webhook returned response.patch but not response.patchType JSONPatch, got {}",
            response["patchType"]
        ));
    }
    let annotations = response["auditAnnotations"].as_object().into_iter().flatten();
    let annotations = annotations.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
    Ok(Answer { denied, patch, warnings, annotations: annotations.collect(), has_failed: false })
}

/// Bytes as Go reads them: base64, or a list of numbers, which is how kube-rs
/// writes a patch.
fn bytes(value: &Value) -> Result<Vec<u8>, String> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::String(text) => {
            base64::engine::general_purpose::STANDARD.decode(text).map_err(|error| error.to_string())
        }
        other => Vec::deserialize(other).map_err(|error| error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read() {
        let read = |response: Value| {
            let review =
                json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response});
            answer(review.to_string().as_bytes(), "u", Version::V1)
        };
        let response =
            json!({"uid": "u", "allowed": true, "warnings": ["w"], "auditAnnotations": {"k": "v"}});
        let allowed = read(response).expect("reads");
        let expected = Answer {
            warnings: vec!["w".to_owned()],
            annotations: vec![("k".to_owned(), "v".to_owned())],
            ..Answer::default()
        };
        assert_eq!(allowed, expected);
        let denied = read(json!({"uid": "u", "allowed": false, "status": {"message": "no"}})).expect("reads");
        assert_eq!(denied.denied, Some(json!({"message": "no"})));
        let patched = read(json!({"uid": "u", "allowed": true, "patchType": "JSONPatch", "patch": "W10="}));
        assert_eq!(patched.expect("reads").patch.as_deref(), Some(&b"[]"[..]));
        let numbers = json!({"uid": "u", "allowed": true, "patchType": "JSONPatch", "patch": [91, 93]});
        assert_eq!(read(numbers).expect("reads").patch.as_deref(), Some(&b"[]"[..]));
        for bad in [
            json!(null),
            json!({"uid": "u", "allowed": true, "patchType": "JSONPatch", "patch": [256]}),
            json!({"uid": "other", "allowed": true}),
            json!({"uid": "u", "allowed": true, "patch": "W10="}),
            json!({"uid": "u", "allowed": true, "patchType": "JSONPatch", "patch": "!"}),
        ] {
            assert!(read(bad.clone()).is_err(), "{bad}");
        }
        assert!(answer(b"{}", "u", Version::V1).is_err());
        assert!(answer(b"", "u", Version::V1).is_err());
    }
}
