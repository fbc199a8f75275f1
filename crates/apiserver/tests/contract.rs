//! Rules that hold for every kind of the catalogue, tested for every kind: one
//! loop, no list of kinds to forget one in.

use anyhow::Context as _;
use http::Method;
use resources::{Catalogue, Descriptor};
use serde_json::{Value, json};
use testkit::{ControlPlane, Events, Rest};

/// The smallest valid body of kinds that need more than a name.
fn body_of(kind: &Descriptor) -> Value {
    let pod = json!({"containers": [{"name": "c", "image": "i"}]});
    let labels = json!({"app": "x"});
    let selector = json!({"matchLabels": labels});
    let template = json!({"metadata": {"labels": labels}, "spec": pod});
    let mut never = template.clone();
    never["spec"]["restartPolicy"] = "Never".into();
    match kind.kind.as_str() {
        "Pod" => json!({"spec": pod}),
        "PodTemplate" => json!({"template": template}),
        "ReplicationController" => json!({"spec": {"selector": labels, "template": template}}),
        "Deployment" | "ReplicaSet" | "DaemonSet" => {
            json!({"spec": {"selector": selector, "template": template}})
        }
        "StatefulSet" => json!({"spec": {"selector": selector, "template": template, "serviceName": "s"}}),
        "Job" => json!({"spec": {"template": never}}),
        "CronJob" => json!({"spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": never}}}}),
        "Service" => json!({"spec": {"ports": [{"port": 80}]}}),
        "EndpointSlice" => json!({"addressType": "IPv4", "endpoints": []}),
        "Event" if kind.group.is_empty() => {
            json!({"involvedObject": {"namespace": "contract", "kind": "Pod", "name": "p"}})
        }
        "Event" => json!({
            "eventTime": "2026-01-01T00:00:00.000000Z", "action": "a", "reason": "r", "type": "Normal",
            "reportingController": "k8s.io/c", "reportingInstance": "i",
            "regarding": {"namespace": "contract", "kind": "Pod", "name": "p"},
        }),
        "RoleBinding" | "ClusterRoleBinding" => {
            json!({"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}})
        }
        "PersistentVolumeClaim" => {
            json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}})
        }
        "PersistentVolume" => {
            json!({"spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/x"}}})
        }
        "CertificateSigningRequest" => {
            json!({"spec": {"request": csr(), "signerName": "example.com/s", "usages": ["client auth"]}})
        }
        "HorizontalPodAutoscaler" => {
            json!({"spec": {"maxReplicas": 2, "scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}}})
        }
        "IPAddress" => {
            json!({"spec": {"parentRef": {"resource": "services", "namespace": "n", "name": "s"}}})
        }
        "ServiceCIDR" => json!({"spec": {"cidrs": ["10.97.0.0/24"]}}),
        _ => rarer_body_of(kind),
    }
}

/// The same for kinds that administrators and drivers make.
fn rarer_body_of(kind: &Descriptor) -> Value {
    match kind.kind.as_str() {
        "ValidatingAdmissionPolicy" => json!({"spec": {
            "matchConstraints": constraints(),
            "validations": [{"expression": "true"}],
        }}),
        "MutatingAdmissionPolicy" => json!({"spec": {
            "matchConstraints": constraints(),
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": "[]"}}],
            "reinvocationPolicy": "Never",
        }}),
        "ValidatingAdmissionPolicyBinding" => {
            json!({"spec": {"policyName": "p", "validationActions": ["Deny"]}})
        }
        "MutatingAdmissionPolicyBinding" => json!({"spec": {"policyName": "p"}}),
        "ResourceSlice" => json!({"spec": {
            "driver": "example.com", "nodeName": "n", "pool": {"name": "n", "resourceSliceCount": 1},
        }}),
        "StorageClass" => json!({"provisioner": "example.com/p"}),
        "RuntimeClass" => json!({"handler": "h"}),
        "PriorityClass" => json!({"value": 1}),
        "FlowSchema" => json!({"spec": {"priorityLevelConfiguration": {"name": "l"}}}),
        "PriorityLevelConfiguration" => {
            json!({"spec": {"type": "Limited", "limited": {"limitResponse": {"type": "Reject"}}}})
        }
        "CSIDriver" | "CSINode" => json!({"spec": {"drivers": []}}),
        "CSIStorageCapacity" => json!({"storageClassName": "c"}),
        "VolumeAttachment" => {
            json!({"spec": {"attacher": "example.com", "nodeName": "n", "source": {"persistentVolumeName": "v"}}})
        }
        "VolumeAttributesClass" => json!({"driverName": "example.com", "parameters": {"a": "b"}}),
        "ControllerRevision" => json!({"data": {"spec": {}}, "revision": 1}),
        "Ingress" => {
            json!({"spec": {"defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}}})
        }
        "IngressClass" => json!({"spec": {"controller": "example.com/c"}}),
        "CustomResourceDefinition" => json!({"spec": {
            "group": "example.com", "scope": "Namespaced", "names": {"plural": "xs", "kind": "X"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}],
        }}),
        "APIService" => {
            json!({"spec": {"group": "example.com", "version": "v1", "groupPriorityMinimum": 1, "versionPriority": 1}})
        }
        _ => json!({}),
    }
}

/// What a policy sees: nothing that there is.
fn constraints() -> Value {
    json!({"resourceRules": [{
        "apiGroups": ["example.com"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["xs"],
    }]})
}

fn csr() -> String {
    use base64::Engine as _;
    let params = rcgen::CertificateParams::default();
    let key = rcgen::KeyPair::generate().expect("key");
    let request = params.serialize_request(&key).expect("request").pem().expect("pem");
    base64::engine::general_purpose::STANDARD.encode(request)
}

fn name_of(kind: &Descriptor) -> &'static str {
    match kind.kind.as_str() {
        "CustomResourceDefinition" => "xs.example.com",
        "APIService" => "v1.example.com",
        "IPAddress" => "10.9.8.7",
        _ => "contract-x",
    }
}

fn collection(kind: &Descriptor) -> String {
    let root = if kind.group.is_empty() {
        format!("/api/{}", kind.version)
    } else {
        format!("/apis/{}/{}", kind.group, kind.version)
    };
    if kind.namespaced {
        format!("{root}/namespaces/contract/{}", kind.resource)
    } else {
        format!("{root}/{}", kind.resource)
    }
}

async fn check(rest: &Rest, kind: &Descriptor) -> anyhow::Result<()> {
    let path = collection(kind);
    let mut body = body_of(kind);
    body["metadata"] = json!({"name": name_of(kind), "labels": {"contract": "yes"}});
    let created = rest.post(&path, &body).await?;
    anyhow::ensure!(created.code == 201, "create: {}", created.json());
    let object = created.json();
    anyhow::ensure!(
        object["kind"] == kind.kind && object["apiVersion"] == kind.api_version(),
        "type: {object}"
    );
    for field in ["uid", "creationTimestamp", "resourceVersion", "name"] {
        anyhow::ensure!(object["metadata"][field].is_string(), "metadata.{field}: {object}");
    }
    let again = rest.post(&path, &body).await?;
    anyhow::ensure!(
        again.code == 409 && again.json()["reason"] == "AlreadyExists",
        "twice: {}",
        again.json()
    );

    let one = format!("{path}/{}", name_of(kind));
    let got = rest.get(&one).await?.json();
    // The server itself reports on some kinds, and may have done so by now.
    let is_reported = got["metadata"]["resourceVersion"] != object["metadata"]["resourceVersion"];
    let shown = |object: &Value| {
        if is_reported { json!([object["metadata"]["uid"], object["spec"]]) } else { object.clone() }
    };
    anyhow::ensure!(shown(&got) == shown(&object), "get is what create said: {got} {object}");
    let list = rest.get(&format!("{path}?labelSelector=contract%3Dyes")).await?.json();
    anyhow::ensure!(list["items"].as_array().map(Vec::len) == Some(1), "list by label: {list}");
    anyhow::ensure!(list["kind"] == format!("{}List", kind.kind), "list kind: {list}");
    let none = rest.get(&format!("{path}?fieldSelector=metadata.name%3Dother")).await?.json();
    anyhow::ensure!(none["items"].as_array().map(Vec::len) == Some(0), "list by name: {none}");
    check_table(rest, kind, &one).await?;
    check_protobuf(rest, kind, &one).await?;

    let patched = rest.merge(&one, &json!({"metadata": {"annotations": {"a": "b"}}})).await?;
    anyhow::ensure!(patched.code == 200, "patch: {}", patched.json());
    anyhow::ensure!(patched.json()["metadata"]["annotations"]["a"] == "b", "patch: {}", patched.json());
    let stale = rest.put(&one, &object).await?;
    anyhow::ensure!(
        stale.code == 409 && stale.json()["reason"] == "Conflict",
        "stale update: {}",
        stale.json()
    );
    let newest = rest.get(&one).await?.json();
    let same = rest.put(&one, &newest).await?;
    anyhow::ensure!(same.code == 200, "update: {}", same.json());
    anyhow::ensure!(same.json() == newest, "an update without a change writes nothing");

    check_patches(rest, kind, &one).await?;
    check_strictness(rest, &one).await?;
    check_owners(rest, kind, &one).await?;
    check_dry_run(rest, &path, (&one, &body)).await?;
    check_end(rest, kind, (&path, &one)).await
}

/// A patch of each sort says the same.
async fn check_patches(rest: &Rest, kind: &Descriptor, one: &str) -> anyhow::Result<()> {
    let json = json!([{"op": "add", "path": "/metadata/annotations/sort", "value": "json-patch"}]);
    let strategic = kind.strategy.merges_strategically().then_some("strategic-merge-patch");
    for sort in ["json-patch", "merge-patch"].into_iter().chain(strategic) {
        let merge = json!({"metadata": {"annotations": {"sort": sort}}});
        let body = if sort == "json-patch" { json.to_string() } else { merge.to_string() };
        let media = format!("application/{sort}+json");
        let patched = rest.send(Method::PATCH, one, &[("content-type", media.as_str())], body).await?;
        anyhow::ensure!(patched.code == 200, "{sort}: {}", patched.json());
        let found = patched.json();
        anyhow::ensure!(found["metadata"]["annotations"]["sort"] == sort, "{sort}: {found}");
    }
    Ok(())
}

/// A field that there is not is refused, told of, or passed over, as the client likes.
async fn check_strictness(rest: &Rest, one: &str) -> anyhow::Result<()> {
    for (validation, code, warns) in [("Strict", 400, false), ("Warn", 200, true), ("Ignore", 200, false)] {
        let path = format!("{one}?dryRun=All&fieldValidation={validation}");
        let answer = loop {
            let mut body = rest.get(one).await?.json();
            body["nonsense"] = true.into();
            let answer = rest.put(&path, &body).await?;
            // The server itself writes some kinds too.
            if answer.code != 409 {
                break answer;
            }
        };
        anyhow::ensure!(answer.code == code, "{validation}: {}", answer.json());
        let warning = answer.headers.get("warning").and_then(|text| text.to_str().ok()).unwrap_or_default();
        anyhow::ensure!(warning.contains("nonsense") == warns, "{validation}: {warning}");
    }
    Ok(())
}

/// Two managers apply: they conflict, one forces, and what nobody wants any more goes.
async fn check_owners(rest: &Rest, kind: &Descriptor, one: &str) -> anyhow::Result<()> {
    let apply = async |manager: &str, labels: Value, force: bool| {
        let body =
            json!({"apiVersion": kind.api_version(), "kind": kind.kind, "metadata": {"labels": labels}});
        let path = format!("{one}?fieldManager={manager}&force={force}");
        let media = [("content-type", "application/apply-patch+yaml")];
        rest.send(Method::PATCH, &path, &media, body.to_string()).await
    };
    let first = apply("first", json!({"shared": "1", "own": "x"}), false).await?;
    anyhow::ensure!(first.code == 200, "apply: {}", first.json());
    let again = apply("first", json!({"shared": "1", "own": "x"}), false).await?;
    let version = |answer: &testkit::Answer| answer.json()["metadata"]["resourceVersion"].clone();
    anyhow::ensure!(version(&again) == version(&first), "an apply without a change writes nothing");
    let refused = apply("second", json!({"shared": "2"}), false).await?;
    let message = refused.json()["message"].to_string();
    anyhow::ensure!(refused.code == 409 && message.contains("first"), "conflict: {}", refused.json());
    let forced = apply("second", json!({"shared": "2"}), true).await?;
    anyhow::ensure!(forced.json()["metadata"]["labels"]["shared"] == "2", "forced: {}", forced.json());
    let less = apply("first", json!({}), false).await?.json();
    let labels = &less["metadata"]["labels"];
    anyhow::ensure!(labels["own"].is_null() && labels["shared"] == "2", "given up: {less}");
    Ok(())
}

/// Nothing of a dry run stays.
async fn check_dry_run(rest: &Rest, path: &str, (one, body): (&str, &Value)) -> anyhow::Result<()> {
    let mut other = body.clone();
    other["metadata"]["name"] = "10.9.8.8".into();
    // Names of some kinds follow rules of their own: those are refused, but never stored.
    rest.post(&format!("{path}?dryRun=All"), &other).await?;
    anyhow::ensure!(rest.get(&format!("{path}/10.9.8.8")).await?.code == 404, "a dry create stays");
    let patched =
        rest.merge(&format!("{one}?dryRun=All"), &json!({"metadata": {"labels": {"dry": "x"}}})).await?;
    anyhow::ensure!(patched.json()["metadata"]["labels"]["dry"] == "x", "dry patch: {}", patched.json());
    let deleted = rest.delete(&format!("{one}?dryRun=All&gracePeriodSeconds=0")).await?;
    anyhow::ensure!(deleted.code == 200, "dry delete: {}", deleted.json());
    let found = rest.get(one).await?.json();
    let metadata = &found["metadata"];
    let is_as_it_was = metadata["labels"]["dry"].is_null() && metadata["deletionTimestamp"].is_null();
    anyhow::ensure!(is_as_it_was, "a dry change stays: {found}");
    Ok(())
}

/// An object with a finalizer waits for it, and a watch tells of all that, in order.
async fn check_end(rest: &Rest, kind: &Descriptor, (path, one): (&str, &str)) -> anyhow::Result<()> {
    let list = rest.get(&format!("{path}?labelSelector=contract%3Dyes")).await?.json();
    let from = list["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
    let held = rest.merge(one, &json!({"metadata": {"finalizers": ["example.com/hold"]}})).await?;
    anyhow::ensure!(held.code == 200, "finalizer: {}", held.json());
    let deleted = rest.delete(&format!("{one}?gracePeriodSeconds=0")).await?;
    anyhow::ensure!(deleted.code == 200, "delete: {}", deleted.json());
    let waits = rest.get(one).await?.json();
    anyhow::ensure!(waits["metadata"]["deletionTimestamp"].is_string(), "it waits: {waits}");
    let freed = rest.merge(one, &json!({"metadata": {"finalizers": null}})).await?;
    anyhow::ensure!(freed.code == 200, "freed: {}", freed.json());
    // A namespace has a finalizer besides, which a controller takes away.
    let is_gone = kind.kind != "Namespace";
    anyhow::ensure!((rest.get(one).await?.code == 404) == is_gone, "it is gone");
    let query = format!("watch=true&resourceVersion={from}&labelSelector=contract%3Dyes");
    let mut events = Events::open(rest, &format!("{path}?{query}")).await;
    let (mut count, mut before) = (0, 0);
    loop {
        let (event, object) = events.next().await.context("the watch goes on")?;
        let metadata = &object["metadata"];
        let revision = metadata["resourceVersion"].as_str().unwrap_or_default().parse()?;
        anyhow::ensure!(before < revision, "{revision} comes after {before}");
        (count, before) = (count + 1, revision);
        let has_ended = if is_gone {
            event == "DELETED"
        } else {
            metadata["deletionTimestamp"].is_string() && metadata["finalizers"].is_null()
        };
        if has_ended {
            break;
        }
    }
    anyhow::ensure!(count >= 3, "held, deleted, freed: {count} events");
    Ok(())
}

async fn check_table(rest: &Rest, kind: &Descriptor, one: &str) -> anyhow::Result<()> {
    let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let table = rest.send(Method::GET, one, &accept, "").await?.json();
    let cells = table["rows"][0]["cells"].as_array().map(Vec::len);
    anyhow::ensure!(table["kind"] == "Table" && cells == Some(kind.columns.len()), "table: {table}");
    Ok(())
}

/// The object is the same in protobuf, but for what that has no word for.
async fn check_protobuf(rest: &Rest, kind: &Descriptor, one: &str) -> anyhow::Result<()> {
    let accept = [("accept", "application/vnd.kubernetes.protobuf")];
    let mut read: [Value; 2] = Default::default();
    // The server itself reports on some kinds.
    for _ in 0..3 {
        let shown = rest.get(one).await?.json();
        let answer = rest.send(Method::GET, one, &accept, "").await?;
        anyhow::ensure!(answer.headers["content-type"] == accept[0].1, "protobuf: {:?}", answer.headers);
        let envelope = api::protobuf::open(&answer.body)?;
        let mut object = api::protobuf::decode(&kind.shape.0, kind.shape.1, envelope.raw)?;
        object.insert("apiVersion".to_owned(), envelope.api_version.into());
        object.insert("kind".to_owned(), envelope.kind.into());
        read = [without_nothing(shown), without_nothing(object.into())];
        if read[0] == read[1] {
            return Ok(());
        }
    }
    anyhow::bail!("in JSON {} in protobuf {}", read[0], read[1])
}

/// Without empty lists and maps, and nulls.
fn without_nothing(value: Value) -> Value {
    let is_something = |value: &Value| {
        !(value.is_null()
            || value.as_array().is_some_and(Vec::is_empty)
            || value.as_object().is_some_and(serde_json::Map::is_empty))
    };
    match value {
        Value::Object(map) => {
            let map = map.into_iter().map(|(key, value)| (key, without_nothing(value)));
            Value::Object(map.filter(|(_, value)| is_something(value)).collect())
        }
        Value::Array(list) => list.into_iter().map(without_nothing).collect(),
        other => other,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_the_catalogue() {
    let plane = ControlPlane::start().await.expect("starts");
    let rest = plane.rest().expect("client");
    let namespace = json!({"metadata": {"name": "contract"}});
    assert_eq!(rest.post("/api/v1/namespaces", &namespace).await.expect("answers").code, 201);
    let account = json!({"metadata": {"name": "default"}});
    let accounts = "/api/v1/namespaces/contract/serviceaccounts";
    assert_eq!(rest.post(accounts, &account).await.expect("answers").code, 201);
    let mut failures = Vec::new();
    for kind in Catalogue::built_in().iter().filter(|kind| kind.is_stored()) {
        if let Err(error) = check(&rest, kind).await {
            failures.push(format!("{kind:?}: {error:#}"));
        }
    }
    assert!(failures.is_empty(), "{} kinds break the contract:\n{}", failures.len(), failures.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_makes_is_whole() {
    let plane = ControlPlane::start().await.expect("starts");
    let rest = plane.rest().expect("client");
    let schemas = "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas/exempt";
    testkit::eventually("the server has made its own", || async {
        rest.get(schemas).await.is_ok_and(|answer| answer.code == 200)
    })
    .await
    .expect("in time");
    for kind in Catalogue::built_in().iter().filter(|kind| kind.is_stored()) {
        let root = if kind.group.is_empty() {
            "/api/v1".to_owned()
        } else {
            format!("/apis/{}", kind.api_version())
        };
        let path = format!("{root}/{}", kind.resource);
        let list = rest.get(&path).await.expect("answers").json();
        for one in list["items"].as_array().expect("items") {
            assert_eq!(
                (&one["apiVersion"], &one["kind"]),
                (&json!(kind.api_version()), &json!(kind.kind)),
                "{one}"
            );
        }
        let accept = [("accept", "application/vnd.kubernetes.protobuf")];
        let answer = rest.send(Method::GET, &path, &accept, "").await.expect("answers");
        assert_eq!(answer.code, 200, "{path}: {}", answer.json());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_is_discovered() {
    let plane = ControlPlane::start().await.expect("starts");
    let rest = plane.rest().expect("client");
    for kind in Catalogue::built_in().iter() {
        let root = if kind.group.is_empty() {
            "/api/v1".to_owned()
        } else {
            format!("/apis/{}/{}", kind.group, kind.version)
        };
        let list = rest.get(&root).await.expect("answers").json();
        let names: Vec<&str> = list["resources"]
            .as_array()
            .expect("resources")
            .iter()
            .filter_map(|one| one["name"].as_str())
            .collect();
        assert!(names.contains(&kind.resource.as_str()), "{kind:?} in {root}");
        for sub in &kind.subresources {
            assert!(
                names.contains(&format!("{}/{}", kind.resource, sub.name).as_str()),
                "{kind:?}/{}",
                sub.name
            );
        }
    }
}
