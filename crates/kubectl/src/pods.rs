//! From what a command line names to one pod, and to one of its containers.

use std::time::Duration;

use api::Object;
use serde_json::Value;
use wire::node::PodRef;

use crate::error::Error;
use crate::kube::Kube;
use crate::resource_builder;

/// The pod that `POD` or `TYPE/NAME` means. Of a workload or service it is the
/// pod that is most alive; where there is none yet it is waited for.
pub(crate) async fn of_word(kube: &Kube, word: &str, limit: Duration) -> Result<Object, Error> {
    let discovery = kube.discovery().await?;
    let pods = discovery.of_kind("v1", "Pod")?;
    let namespace = kube.namespace()?;
    if !word.contains('/') {
        return kube.get(pods.target(&namespace, word)).await;
    }
    let wanted = resource_builder::read_words(discovery, std::slice::from_ref(&word.to_owned()))?.remove(0);
    let object = kube.get(wanted.resource.target(&namespace, &wanted.name.unwrap_or_default())).await?;
    if wanted.resource == pods { Ok(object) } else { of_object(kube, &object, limit).await }
}

/// The pod of a workload or service that is most alive.
pub(crate) async fn of_object(kube: &Kube, object: &Object, limit: Duration) -> Result<Object, Error> {
    if object.kind() == "Pod" {
        return Ok(object.clone());
    }
    let pods = kube.discovery().await?.of_kind("v1", "Pod")?;
    let selector = selector_of(object)
        .ok_or_else(|| Error::said(format!("cannot attach to *{}: selector not found", object.kind())))?;
    let until = crate::clock::deadline(limit);
    loop {
        let found = kube.list(pods.target(object.namespace(), ""), &selector, "").await?;
        if let Some(first) = found.into_iter().max_by(|left, right| liveliness(left).cmp(&liveliness(right)))
        {
            return Ok(first);
        }
        if until.is_some_and(|until| tokio::time::Instant::now() >= until) {
            return Err(Error::said("timed out waiting for the condition"));
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

/// Orders pods: on a node, running, ready, few restarts, old.
fn liveliness(pod: &Object) -> (bool, u8, bool, std::cmp::Reverse<i64>, std::cmp::Reverse<String>) {
    let phase = match pod.text(&["status", "phase"]) {
        "Running" => 2,
        "Unknown" => 1,
        _ => 0,
    };
    let statuses = pod.at(&["status", "containerStatuses"]).and_then(Value::as_array);
    let restarts = statuses.into_iter().flatten().filter_map(|one| one["restartCount"].as_i64()).max();
    (
        !pod.text(&["spec", "nodeName"]).is_empty(),
        phase,
        is_ready(pod),
        std::cmp::Reverse(restarts.unwrap_or_default()),
        std::cmp::Reverse(pod.text(&["metadata", "creationTimestamp"]).to_owned()),
    )
}

/// Whether the pod's condition `Ready` is true.
pub(crate) fn is_ready(pod: &Object) -> bool {
    let conditions = pod.at(&["status", "conditions"]).and_then(Value::as_array);
    conditions.into_iter().flatten().any(|one| one["type"] == "Ready" && one["status"] == "True")
}

/// A workload's or service's selector in query syntax; `None` where it has none.
pub(crate) fn selector_of(object: &Object) -> Option<String> {
    let selector = object.at(&["spec", "selector"])?;
    let text = if selector.get("matchLabels").is_some() || selector.get("matchExpressions").is_some() {
        selector_text(selector)
    } else {
        labels_text(selector)
    };
    (!text.is_empty()).then_some(text)
}

/// `a=1,b=2` of a map of labels.
pub(crate) fn labels_text(labels: &Value) -> String {
    let pairs: Vec<String> = labels
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?)))
        .collect();
    pairs.join(",")
}

/// A `LabelSelector` in query syntax, ordered by key.
pub(crate) fn selector_text(selector: &Value) -> String {
    let mut terms: Vec<(String, String)> = selector["matchLabels"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.clone(), format!("{key}={}", value.as_str().unwrap_or_default())))
        .collect();
    for one in selector["matchExpressions"].as_array().into_iter().flatten() {
        let key = one["key"].as_str().unwrap_or_default();
        let mut values: Vec<&str> =
            one["values"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        values.sort_unstable();
        let values = values.join(",");
        let term = match one["operator"].as_str().unwrap_or_default() {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "DoesNotExist" => format!("!{key}"),
            _ => key.to_owned(),
        };
        terms.push((key.to_owned(), term));
    }
    terms.sort();
    let terms: Vec<String> = terms.into_iter().map(|(_, term)| term).collect();
    terms.join(",")
}

/// The pod specification inside a pod or a workload.
pub(crate) fn spec_of(object: &mut Value) -> Option<&mut Value> {
    let path = match object["kind"].as_str()? {
        "Pod" => "/spec",
        "CronJob" => "/spec/jobTemplate/spec/template/spec",
        _ => "/spec/template/spec",
    };
    object.pointer_mut(path)
}

/// `key=value` pairs between commas.
pub(crate) fn pairs(text: &str) -> Result<serde_json::Map<String, Value>, Error> {
    let mut found = serde_json::Map::new();
    for pair in text.split(',').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some((key, value)) if !key.is_empty() && !value.contains('=') => {
                found.insert(key.to_owned(), value.into());
            }
            _ => return Err(Error::said(format!("unexpected label spec: {pair}"))),
        }
    }
    Ok(found)
}

/// A pod and one of its containers, in requests to its node.
pub(crate) fn reference(pod: &Object, container: String) -> PodRef {
    PodRef {
        namespace: pod.namespace().to_owned(),
        name: pod.name().to_owned(),
        container,
        ..PodRef::default()
    }
}

fn names<'a>(pod: &'a Object, field: &str) -> Vec<&'a str> {
    let list = pod.at(&["spec", field]).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(|one| one["name"].as_str()).collect()
}

/// All containers of a pod, in the order in which they start.
pub(crate) fn all_containers(pod: &Object) -> Vec<String> {
    let fields = ["initContainers", "containers", "ephemeralContainers"];
    fields.into_iter().flat_map(|field| names(pod, field)).map(str::to_owned).collect()
}

/// The container that is wanted, which must be there, or the default one: the
/// annotated, or the first with a word about it.
pub(crate) fn container(pod: &Object, wanted: Option<&str>, quiet: bool) -> Result<String, Error> {
    let plain = names(pod, "containers");
    let (init, ephemeral) = (names(pod, "initContainers"), names(pod, "ephemeralContainers"));
    if let Some(wanted) = wanted.filter(|wanted| !wanted.is_empty()) {
        return if plain.iter().chain(&init).chain(&ephemeral).any(|name| *name == wanted) {
            Ok(wanted.to_owned())
        } else {
            Err(Error::said(format!("container {wanted} not found in pod {}", pod.name())))
        };
    }
    if let Some(name) = pod.annotation("kubectl.kubernetes.io/default-container") {
        if plain.contains(&name) {
            return Ok(name.to_owned());
        }
        if !quiet {
            eprintln!("Default container name {name:?} not found in pod {}", pod.name());
        }
    }
    let Some(first) = plain.first() else {
        return Err(Error::said(format!("pod {} has no containers", pod.name())));
    };
    let mut all: Vec<String> = plain.iter().map(|name| (*name).to_owned()).collect();
    all.extend(ephemeral.iter().map(|name| format!("{name} (ephem)")));
    all.extend(init.iter().map(|name| format!("{name} (init)")));
    if all.len() > 1 && !quiet {
        eprintln!("Defaulted container {first:?} out of: {}", all.join(", "));
    }
    Ok((*first).to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Object {
        Object::from_value(value).expect("object")
    }

    #[test]
    fn selectors_are_written() {
        let web = object(json!({"spec": {"selector": {"matchLabels": {"a": "1", "c": "2"},
            "matchExpressions": [{"key": "b", "operator": "In", "values": ["y", "x"]},
                                 {"key": "d", "operator": "DoesNotExist"}]}}}));
        assert_eq!(selector_of(&web).as_deref(), Some("a=1,b in (x,y),c=2,!d"));
        assert_eq!(
            selector_of(&object(json!({"spec": {"selector": {"app": "w"}}}))).as_deref(),
            Some("app=w")
        );
        assert_eq!(selector_of(&Object::default()), None);
    }

    #[test]
    fn containers_are_chosen() {
        let mut pod = object(json!({"metadata": {"name": "p"}, "spec": {
            "containers": [{"name": "x"}, {"name": "y"}], "initContainers": [{"name": "i"}]}}));
        assert_eq!(container(&pod, None, true).expect("first"), "x");
        assert_eq!(container(&pod, Some("i"), true).expect("named"), "i");
        assert_eq!(
            container(&pod, Some("z"), true).expect_err("absent").to_string(),
            "error: container z not found in pod p"
        );
        pod.set_at(&["metadata", "annotations", "kubectl.kubernetes.io/default-container"], "y");
        assert_eq!(container(&pod, None, true).expect("annotated"), "y");
        assert!(container(&Object::default(), None, true).is_err());
    }

    #[test]
    fn the_pod_most_alive_is_the_greatest() {
        let pod = |phase: &str, ready: &str, restarts: i64| {
            object(json!({"spec": {"nodeName": "n"}, "status": {"phase": phase,
                "conditions": [{"type": "Ready", "status": ready}],
                "containerStatuses": [{"restartCount": restarts}]}}))
        };
        let order = [
            Object::default(),
            pod("Pending", "False", 0),
            pod("Running", "False", 0),
            pod("Running", "True", 3),
            pod("Running", "True", 0),
        ];
        assert!(order.windows(2).all(|pair| liveliness(&pair[0]) < liveliness(&pair[1])));
    }
}
