//! `ConversionReview`: what a webhook is asked to convert, and what it made of it.
//! Messages are those of `k8s.io/apiextensions-apiserver/pkg/apiserver/conversion`.

use api::Object;
use bytes::Bytes;
use serde_json::{Map, Value, json};

/// The body of a call.
pub(super) fn request(uid: &str, version: &str, wanted: &str, objects: &[Object]) -> Bytes {
    let objects: Vec<&Map<String, Value>> = objects.iter().map(Object::as_map).collect();
    let review = json!({
        "kind": "ConversionReview", "apiVersion": format!("apiextensions.k8s.io/{version}"),
        "request": {"uid": uid, "desiredAPIVersion": wanted, "objects": objects},
    });
    review.to_string().into()
}

/// The converted objects of an answer, as many as were asked for and each the
/// same one as before.
pub(super) fn answer(
    body: &[u8],
    (uid, version): (&str, &str),
    wanted: &str,
    originals: &[Object],
) -> Result<Vec<Object>, String> {
    let mut review: Value =
        serde_json::from_slice(body).map_err(|error| format!("invalid response: {error}"))?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (kind, api_version) = (text(&review["kind"]), text(&review["apiVersion"]));
    if (kind.as_str(), api_version.as_str())
        != ("ConversionReview", &format!("apiextensions.k8s.io/{version}"))
    {
        return Err(format!(
            "expected webhook response of apiextensions.k8s.io/{version}, Kind=ConversionReview, got {api_version}, Kind={kind}"
        ));
    }
    let response = &mut review["response"];
    if !response.is_object() {
        return Err("no response provided".to_owned());
    }
    if version == "v1" && response["uid"] != uid {
        return Err(format!("expected response.uid={uid:?}, got {}", response["uid"]));
    }
    let result = &response["result"];
    if result["status"] != "Success" {
        return Err(match (text(&result["message"]), text(&result["reason"])) {
            (message, _) if !message.is_empty() => message,
            (_, reason) if !reason.is_empty() => reason,
            _ => "response.result.status was not 'Success'".to_owned(),
        });
    }
    let Value::Array(objects) = response["convertedObjects"].take() else {
        return Err(count(0, originals.len()));
    };
    if objects.len() != originals.len() {
        return Err(count(objects.len(), originals.len()));
    }
    let pairs = objects.into_iter().zip(originals).enumerate();
    pairs.map(|(index, (object, original))| taken(index, object, original, wanted)).collect()
}

fn count(given: usize, wanted: usize) -> String {
    format!("webhook returned {given} objects, expected {wanted}")
}

/// One converted object, if it is the one that was sent. Of its metadata a
/// webhook changes labels and annotations only.
fn taken(index: usize, object: Value, original: &Object, wanted: &str) -> Result<Object, String> {
    let invalid = |why: String| format!("invalid converted object at index {index}: {why}");
    let mut object = Object::from_value(object).map_err(|error| invalid(error.to_string()))?;
    if object.kind() != original.kind() {
        let (given, kind) = (object.kind(), original.kind());
        return Err(invalid(format!("invalid kind, expected: {kind}, got: {given}")));
    }
    if object.api_version() != wanted {
        return Err(invalid(format!(
            "invalid apiVersion, expected: {wanted}, got: {}",
            object.api_version()
        )));
    }
    for field in ["name", "namespace", "uid"] {
        let (given, kept) = (object.text(&["metadata", field]), original.text(&["metadata", field]));
        if given != kept {
            return Err(invalid(format!("invalid metadata.{field}, expected: {kept:?}, got: {given:?}")));
        }
    }
    let mut metadata = original.get("metadata").cloned().unwrap_or_default();
    for field in ["labels", "annotations"] {
        let Some(metadata) = metadata.as_object_mut() else { continue };
        match object.at(&["metadata", field]) {
            None | Some(Value::Null) => drop(metadata.remove(field)),
            Some(Value::Object(map)) if map.values().all(Value::is_string) => {
                metadata.insert(field.to_owned(), map.clone().into());
            }
            Some(_) => return Err(invalid(format!("invalid metadata.{field}: it is no map of texts"))),
        }
    }
    object.set("metadata", metadata);
    Ok(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(value: Value) -> Object {
        Object::from_value(value).expect("an object")
    }

    fn original() -> Object {
        object(json!({"apiVersion": "x.io/v1", "kind": "W", "metadata":
            {"name": "w", "namespace": "n", "uid": "1", "finalizers": ["f"], "labels": {"a": "b"}}}))
    }

    fn read(response: Value) -> Result<Vec<Object>, String> {
        let review = json!({"kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1", "response": response});
        answer(review.to_string().as_bytes(), ("u", "v1"), "x.io/v2", &[original()])
    }

    fn with(object: Value) -> Value {
        json!({"uid": "u", "result": {"status": "Success"}, "convertedObjects": [object]})
    }

    #[test]
    fn metadata_is_kept_but_for_labels_and_annotations() {
        let found = read(with(json!({"apiVersion": "x.io/v2", "kind": "W", "new": 1, "metadata":
            {"name": "w", "namespace": "n", "uid": "1", "labels": {"c": "d"}, "resourceVersion": "9"}})));
        let wanted = object(json!({"apiVersion": "x.io/v2", "kind": "W", "new": 1, "metadata":
            {"name": "w", "namespace": "n", "uid": "1", "finalizers": ["f"], "labels": {"c": "d"}}}));
        assert_eq!(found, Ok(vec![wanted]));
    }

    #[test]
    fn answers_that_are_none() {
        let metadata = json!({"name": "w", "namespace": "n", "uid": "1"});
        for (response, why) in [
            (Value::Null, "no response provided"),
            (json!({"uid": "x"}), "expected response.uid=\"u\", got \"x\""),
            (json!({"uid": "u", "result": {"status": "Failure", "message": "no"}}), "no"),
            (json!({"uid": "u", "result": {}}), "response.result.status was not 'Success'"),
            (
                json!({"uid": "u", "result": {"status": "Success"}, "convertedObjects": []}),
                "webhook returned 0 objects, expected 1",
            ),
            (
                with(json!({"apiVersion": "x.io/v1", "kind": "W", "metadata": metadata})),
                "invalid converted object at index 0: invalid apiVersion, expected: x.io/v2, got: x.io/v1",
            ),
            (
                with(json!({"apiVersion": "x.io/v2", "kind": "V", "metadata": metadata})),
                "invalid converted object at index 0: invalid kind, expected: W, got: V",
            ),
            (
                with(json!({"apiVersion": "x.io/v2", "kind": "W", "metadata": {"name": "other"}})),
                "invalid converted object at index 0: invalid metadata.name, expected: \"w\", got: \"other\"",
            ),
            (with(json!(1)), "invalid converted object at index 0: not a JSON object"),
        ] {
            let told = read(response.clone()).expect_err(why);
            assert!(told.starts_with(why.split(": not").next().unwrap_or_default()), "{response}: {told}");
        }
        assert!(answer(b"{", ("u", "v1"), "x.io/v2", &[original()]).is_err());
    }
}
