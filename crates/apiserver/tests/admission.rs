//! The built-in admission plugins, through REST.

use serde_json::{Value, json};
use testkit::{ControlPlane, Rest};

const PODS: &str = "/api/v1/namespaces/default/pods";

async fn plane() -> (ControlPlane, Rest) {
    let plane = ControlPlane::start().await.expect("control plane");
    let rest = plane.rest().expect("client");
    create(&rest, "/api/v1/namespaces/default/serviceaccounts", json!({"metadata": {"name": "default"}}))
        .await;
    (plane, rest)
}

/// Creates an object and waits until the server's cache has it.
async fn create(rest: &Rest, at: &str, object: Value) -> Value {
    let made = rest.post(at, &object).await.expect("answers");
    assert_eq!(made.code, 201, "{}", made.json());
    let name = made.json()["metadata"]["name"].as_str().expect("a name").to_owned();
    assert_eq!(rest.get(&format!("{at}/{name}")).await.expect("answers").code, 200);
    made.json()
}

/// The message of a refusal.
pub(crate) async fn refused(rest: &Rest, at: &str, object: Value, code: u16) -> String {
    let answer = rest.post(at, &object).await.expect("answers");
    assert_eq!(answer.code, code, "{}", answer.json());
    answer.json()["message"].as_str().expect("a message").to_owned()
}

fn pod(name: &str, spec: Value) -> Value {
    let mut pod = json!({
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    });
    for (field, value) in spec.as_object().into_iter().flatten() {
        pod["spec"][field] = value.clone();
    }
    pod
}

#[tokio::test(flavor = "multi_thread")]
async fn classes_become_priorities() {
    let (mut plane, rest) = plane().await;
    let classes = "/apis/scheduling.k8s.io/v1/priorityclasses";
    let made = create(&rest, PODS, pod("none", json!({}))).await;
    assert_eq!(
        (&made["spec"]["priority"], &made["spec"]["preemptionPolicy"]),
        (&json!(0), &json!("PreemptLowerPriority"))
    );
    let made = create(&rest, PODS, pod("node", json!({"priorityClassName": "system-node-critical"}))).await;
    assert_eq!(made["spec"]["priority"], 2_000_001_000);
    let class = json!({"metadata": {"name": "usual"}, "value": 7, "globalDefault": true, "preemptionPolicy": "Never"});
    create(&rest, classes, class).await;
    let made = create(&rest, PODS, pod("usual", json!({}))).await;
    assert_eq!(
        (&made["spec"]["priorityClassName"], &made["spec"]["priority"], &made["spec"]["preemptionPolicy"]),
        (&json!("usual"), &json!(7), &json!("Never"))
    );
    let cases = [
        (
            classes,
            json!({"metadata": {"name": "b"}, "value": 1, "globalDefault": true}),
            403,
            "priorityclasses.scheduling.k8s.io \"b\" is forbidden: PriorityClass usual is already marked as default. Only one default can exist",
        ),
        (
            classes,
            json!({"metadata": {"name": "b"}, "value": 1_000_000_001}),
            422,
            "PriorityClass.scheduling.k8s.io \"b\" is invalid: value: Forbidden: maximum allowed value of a user defined priority is 1000000000",
        ),
        (
            PODS,
            pod("p", json!({"priorityClassName": "x"})),
            403,
            "pods \"p\" is forbidden: no PriorityClass with name x was found",
        ),
    ];
    for (at, object, code, expected) in cases {
        assert_eq!(refused(&rest, at, object, code).await, expected);
    }
    plane.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn limit_ranges_fill_in_and_refuse() {
    let (mut plane, rest) = plane().await;
    let limits = json!([
        {"type": "Container", "default": {"cpu": "500m"}, "defaultRequest": {"cpu": "100m"}, "max": {"cpu": "1"}},
        {"type": "PersistentVolumeClaim", "max": {"storage": "1Gi"}},
    ]);
    let range = json!({"metadata": {"name": "limits"}, "spec": {"limits": limits}});
    create(&rest, "/api/v1/namespaces/default/limitranges", range).await;
    let made = create(&rest, PODS, pod("small", json!({}))).await;
    assert_eq!(
        made["spec"]["containers"][0]["resources"],
        json!({"limits": {"cpu": "500m"}, "requests": {"cpu": "100m"}})
    );
    assert_eq!(made["status"]["qosClass"], "Burstable", "it follows from what was filled in");
    let large = json!([{"name": "c", "image": "i", "resources": {"limits": {"cpu": "2"}}}]);
    assert_eq!(
        refused(&rest, PODS, pod("large", json!({"containers": large})), 403).await,
        "pods \"large\" is forbidden: maximum cpu usage per Container is 1, but limit is 2"
    );
    let claim = json!({"metadata": {"name": "c"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "2Gi"}},
    }});
    assert_eq!(
        refused(&rest, "/api/v1/namespaces/default/persistentvolumeclaims", claim, 403).await,
        "persistentvolumeclaims \"c\" is forbidden: maximum storage usage per PersistentVolumeClaim is 1Gi, \
         but request is 2Gi"
    );
    plane.stop().await.expect("stops");
}

const QUOTAS: &str = "/api/v1/namespaces/default/resourcequotas";

/// A quota as it is after the controller has seen it.
async fn quota(rest: &Rest, name: &str, spec: Value) {
    create(rest, QUOTAS, json!({"metadata": {"name": name}, "spec": spec})).await;
    let used: serde_json::Map<_, _> =
        spec["hard"].as_object().expect("limits").keys().map(|name| (name.clone(), "0".into())).collect();
    let at = format!("{QUOTAS}/{name}/status");
    let seen = rest.merge(&at, &json!({"status": {"hard": spec["hard"], "used": used}})).await;
    assert_eq!(seen.expect("answers").code, 200);
}

async fn used(rest: &Rest, name: &str) -> Value {
    rest.get(&format!("{QUOTAS}/{name}")).await.expect("answers").json()["status"]["used"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_is_never_exceeded() {
    let (mut plane, rest) = plane().await;
    quota(&rest, "q", json!({"hard": {"count/configmaps": "7", "pods": "5"}})).await;
    let rest = std::sync::Arc::new(rest);
    let creates = (0..40).map(|number| {
        let rest = std::sync::Arc::clone(&rest);
        async move {
            let maps = "/api/v1/namespaces/default/configmaps";
            let map = json!({"metadata": {"name": format!("m{number}")}});
            let map = rest.post(maps, &map).await.expect("answers").code;
            let pod = rest.post(PODS, &pod(&format!("p{number}"), json!({}))).await.expect("answers").code;
            (map, pod)
        }
    });
    let codes = futures::future::join_all(creates).await;
    let count = |code: u16, of: fn(&(u16, u16)) -> u16| codes.iter().filter(|both| of(both) == code).count();
    assert_eq!((count(201, |both| both.0), count(403, |both| both.0)), (7, 33));
    assert_eq!((count(201, |both| both.1), count(403, |both| both.1)), (5, 35));
    assert_eq!(used(&rest, "q").await, json!({"count/configmaps": "7", "pods": "5"}));
    // What is refused for another reason, or only tried, is not charged.
    quota(&rest, "s", json!({"hard": {"secrets": "1"}})).await;
    let secrets = "/api/v1/namespaces/default/secrets";
    let tried = rest.post(&format!("{secrets}?dryRun=All"), &json!({"metadata": {"name": "s"}})).await;
    assert_eq!(tried.expect("answers").code, 201);
    refused(&rest, secrets, json!({"metadata": {"name": "S!"}}), 422).await;
    assert_eq!(used(&rest, "s").await, json!({"secrets": "0"}));
    create(&rest, secrets, json!({"metadata": {"name": "s"}})).await;
    assert_eq!(
        refused(&rest, secrets, json!({"metadata": {"name": "t"}}), 403).await,
        "secrets \"t\" is forbidden: exceeded quota: s, requested: secrets=1, used: secrets=1, limited: secrets=1"
    );
    plane.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn quotas_have_scopes_and_updates_are_charged() {
    let (mut plane, rest) = plane().await;
    quota(&rest, "best", json!({"hard": {"pods": "1"}, "scopes": ["BestEffort"]})).await;
    quota(&rest, "ports", json!({"hard": {"services.nodeports": "1"}})).await;
    create(&rest, PODS, pod("a", json!({}))).await;
    let why = refused(&rest, PODS, pod("b", json!({})), 403).await;
    assert!(why.ends_with("exceeded quota: best, requested: pods=1, used: pods=1, limited: pods=1"), "{why}");
    let asking = json!([{"name": "c", "image": "i", "resources": {"requests": {"cpu": "1"}}}]);
    create(&rest, PODS, pod("b", json!({"containers": asking}))).await;

    let services = "/api/v1/namespaces/default/services";
    let service = |name: &str, kind: &str| json!({"metadata": {"name": name}, "spec": {"type": kind, "ports": [{"port": 80}]}});
    create(&rest, services, service("one", "ClusterIP")).await;
    create(&rest, services, service("two", "NodePort")).await;
    assert_eq!(used(&rest, "ports").await, json!({"services.nodeports": "1"}));
    let changed = rest.merge(&format!("{services}/one"), &json!({"spec": {"type": "NodePort"}})).await;
    let changed = changed.expect("answers");
    assert_eq!(changed.code, 403, "{}", changed.json());
    plane.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn classes_are_filled_in() {
    let (mut plane, rest) = plane().await;
    let default = |mark: &str| json!({"name": "usual", "annotations": {mark: "true"}});
    let storage = json!({
        "metadata": default("storageclass.kubernetes.io/is-default-class"), "provisioner": "x.io/p",
    });
    create(&rest, "/apis/storage.k8s.io/v1/storageclasses", storage).await;
    let ingress = json!({
        "metadata": default("ingressclass.kubernetes.io/is-default-class"), "spec": {"controller": "x.io/c"},
    });
    create(&rest, "/apis/networking.k8s.io/v1/ingressclasses", ingress).await;
    let claims = "/api/v1/namespaces/default/persistentvolumeclaims";
    let claim = |name: &str| {
        let resources = json!({"requests": {"storage": "1Gi"}});
        json!({"metadata": {"name": name}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": resources}})
    };
    assert_eq!(create(&rest, claims, claim("open")).await["spec"]["storageClassName"], "usual");
    let mut none = claim("none");
    none["spec"]["storageClassName"] = "".into();
    assert_eq!(create(&rest, claims, none).await["spec"]["storageClassName"], "");
    let backend = json!({"service": {"name": "s", "port": {"number": 80}}});
    let ingress = json!({"metadata": {"name": "i"}, "spec": {"defaultBackend": backend}});
    let made = create(&rest, "/apis/networking.k8s.io/v1/namespaces/default/ingresses", ingress).await;
    assert_eq!(made["spec"]["ingressClassName"], "usual");

    let runtime = json!({
        "metadata": {"name": "vm"}, "handler": "vm", "overhead": {"podFixed": {"cpu": "100m"}},
        "scheduling": {"nodeSelector": {"vm": "yes"}},
    });
    create(&rest, "/apis/node.k8s.io/v1/runtimeclasses", runtime).await;
    let made = create(&rest, PODS, pod("p", json!({"runtimeClassName": "vm"}))).await;
    assert_eq!(
        (&made["spec"]["overhead"], &made["spec"]["nodeSelector"]),
        (&json!({"cpu": "100m"}), &json!({"vm": "yes"}))
    );
    assert_eq!(
        refused(&rest, PODS, pod("q", json!({"runtimeClassName": "x"})), 403).await,
        "pods \"q\" is forbidden: pod rejected: RuntimeClass \"x\" not found"
    );
    plane.stop().await.expect("stops");
}

/// The warnings of an answer.
fn warned(answer: &testkit::Answer) -> Vec<String> {
    let all = answer.headers.get_all("warning").iter();
    all.map(|value| value.to_str().expect("text").to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_keep_to_the_standard_of_their_namespace() {
    let (mut plane, rest) = plane().await;
    let namespaces = "/api/v1/namespaces";
    let labelled = |name: &str, labels: Value| json!({"metadata": {"name": name, "labels": labels}});
    let why =
        refused(&rest, namespaces, labelled("bad", json!({"pod-security.kubernetes.io/enforce": "x"})), 422)
            .await;
    assert_eq!(
        why,
        "Namespace \"bad\" is invalid: metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"x\": must be one of privileged, baseline, restricted"
    );
    let strict = json!({
        "pod-security.kubernetes.io/enforce": "baseline", "pod-security.kubernetes.io/warn": "restricted",
        "pod-security.kubernetes.io/warn-version": "v1.22",
    });
    create(&rest, namespaces, labelled("strict", strict)).await;
    let accounts = "/api/v1/namespaces/strict/serviceaccounts";
    create(&rest, accounts, json!({"metadata": {"name": "default"}})).await;
    let pods = "/api/v1/namespaces/strict/pods";
    let why = refused(&rest, pods, pod("host", json!({"hostNetwork": true, "hostPID": true})), 403).await;
    assert_eq!(
        why,
        "pods \"host\" is forbidden: violates PodSecurity \"baseline:latest\": host namespaces (hostNetwork=true, hostPID=true)"
    );
    let made = rest.post(pods, &pod("plain", json!({}))).await.expect("answers");
    assert_eq!(made.code, 201, "{}", made.json());
    let warnings = warned(&made);
    assert!(
        warnings.len() == 1
            && warnings[0].contains(
                "would violate PodSecurity \\\"restricted:v1.22\\\": allowPrivilegeEscalation != false"
            ),
        "{warnings:?}"
    );
    let labels = json!({"app": "a"});
    let deployment = json!({"metadata": {"name": "d"}, "spec": {
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"hostPID": true, "containers": [{"name": "c", "image": "i"}]}},
    }});
    let made = rest.post("/apis/apps/v1/namespaces/strict/deployments", &deployment).await.expect("answers");
    assert_eq!(made.code, 201, "workloads are only warned of: {}", made.json());
    assert!(warned(&made)[0].contains("host namespaces (hostPID=true)"), "{:?}", warned(&made));
    let tighter = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    let changed = rest.merge(&format!("{namespaces}/strict"), &tighter).await.expect("answers");
    let warnings = warned(&changed);
    assert!(
        warnings.len() == 2 && warnings[0].contains("existing pods in namespace \\\"strict\\\" violate the new PodSecurity enforce level \\\"restricted:latest\\\""),
        "{warnings:?}"
    );
    assert!(
        warnings[1].contains("plain: allowPrivilegeEscalation != false, unrestricted capabilities"),
        "{warnings:?}"
    );
    plane.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_look_after_themselves_only() {
    let (mut plane, rest) = plane().await;
    let session = plane.session("system:node:n1", &["system:nodes"]).expect("a session");
    let node = Rest::new(&session).expect("client");
    let nodes = "/api/v1/nodes";
    let role = json!({"metadata": {"name": "n1", "labels": {"node-role.kubernetes.io/control-plane": ""}}});
    assert_eq!(
        refused(&node, nodes, role, 403).await,
        "nodes \"n1\" is forbidden: node \"n1\" is not allowed to set the following labels: node-role.kubernetes.io/control-plane"
    );
    assert_eq!(
        refused(&node, nodes, json!({"metadata": {"name": "n2"}}), 403).await,
        "nodes \"n2\" is forbidden: node \"n1\" is not allowed to modify node \"n2\""
    );
    let zone = json!({"topology.kubernetes.io/zone": "z1", "kubernetes.io/os": "linux"});
    let made = create(&node, nodes, json!({"metadata": {"name": "n1", "labels": zone}})).await;
    let not_ready = json!([{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]);
    assert_eq!(made["spec"]["taints"], not_ready);
    let at = format!("{nodes}/n1");
    let cases = [
        (json!({"spec": {"taints": null}}), "node \"n1\" is not allowed to modify taints"),
        (
            json!({"metadata": {"labels": {"x.node-restriction.kubernetes.io/a": "b"}}}),
            "is not allowed to modify labels: x.node-restriction.kubernetes.io/a",
        ),
    ];
    for (patch, expected) in cases {
        let answer = node.merge(&at, &patch).await.expect("answers");
        assert_eq!(answer.code, 403, "{patch}: {}", answer.json());
        assert_eq!(answer.json()["message"], format!("nodes \"n1\" is forbidden: {expected}"));
    }
    let lease = |name: &str| json!({"metadata": {"name": name}, "spec": {"holderIdentity": name}});
    let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    let why = refused(&node, leases, lease("n2"), 403).await;
    assert!(why.ends_with("can only access node lease with the same name as the requesting node"), "{why}");
    create(&node, leases, lease("n1")).await;

    // Its own pod, and one of another node.
    let own = create(&rest, PODS, pod("own", json!({"nodeName": "n1"}))).await;
    create(&rest, PODS, pod("other", json!({"nodeName": "n2"}))).await;
    assert_eq!(own["metadata"]["labels"]["topology.kubernetes.io/zone"], "z1");
    let token = "/api/v1/namespaces/default/serviceaccounts/default/token";
    let bound = |name: &str, uid: &str, audiences: Value| {
        json!({"spec": {"audiences": audiences, "boundObjectRef": {
            "apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid}}})
    };
    let uid = own["metadata"]["uid"].as_str().expect("a uid");
    let cases = [
        (json!({"spec": {}}), "node requested token not bound to a pod"),
        (bound("own", "", json!([])), "node requested token with a pod binding without a uid"),
        (bound("own", "x", json!([])), "does not match the UID in record"),
        (bound("own", uid, json!(["vault"])), "audience \"vault\" not found in pod spec volume"),
        (bound("own", uid, json!(["a", "b"])), "node may only request 0 or 1 audiences"),
    ];
    for (body, expected) in cases {
        let why = refused(&node, token, body, 403).await;
        assert!(why.contains(expected), "{why}");
    }
    let issued = node.post(token, &bound("own", uid, json!([]))).await.expect("answers");
    assert_eq!(issued.code, 201, "{}", issued.json());
    // Of a claim that its pod uses it reports the size, and nothing else.
    let claims = "/api/v1/namespaces/default/persistentvolumeclaims";
    let resources = json!({"requests": {"storage": "1Gi"}});
    let claim = json!({"metadata": {"name": "c"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": resources}});
    create(&rest, claims, claim).await;
    let volumes = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]);
    create(&rest, PODS, pod("mounting", json!({"nodeName": "n1", "volumes": volumes}))).await;
    let status = format!("{claims}/c/status");
    let sized = node.merge(&status, &json!({"status": {"capacity": {"storage": "2Gi"}}})).await;
    assert_eq!(sized.expect("answers").code, 200);
    let bound_by_node = node.merge(&status, &json!({"status": {"phase": "Bound"}})).await.expect("answers");
    assert_eq!(
        bound_by_node.json()["message"],
        "persistentvolumeclaims \"c\" is forbidden: node \"n1\" is not allowed to update fields other than status.quantity and status.conditions"
    );
    let evict = |name: &str| json!({"metadata": {"name": name}});
    let why = refused(&node, &format!("{PODS}/other/eviction"), evict("other"), 403).await;
    assert!(why.contains("node \"n1\""), "{why}");
    let evicted = node.post(&format!("{PODS}/own/eviction"), &evict("own")).await.expect("answers");
    assert_eq!(evicted.code, 201, "{}", evicted.json());
    plane.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn bound_pods_carry_the_labels_of_their_node() {
    let (mut plane, rest) = plane().await;
    let labels =
        json!({"topology.kubernetes.io/zone": "z1", "topology.kubernetes.io/region": "r1", "other": "x"});
    create(&rest, "/api/v1/nodes", json!({"metadata": {"name": "n1", "labels": labels}})).await;
    create(&rest, PODS, pod("p", json!({}))).await;
    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n1"}});
    let bound = rest.post(&format!("{PODS}/p/binding"), &binding).await.expect("answers");
    assert_eq!(bound.code, 201, "{}", bound.json());
    let pod = rest.get(&format!("{PODS}/p")).await.expect("answers").json();
    assert_eq!(
        (&pod["spec"]["nodeName"], &pod["metadata"]["labels"]),
        (&json!("n1"), &json!({"topology.kubernetes.io/zone": "z1", "topology.kubernetes.io/region": "r1"}))
    );
    plane.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn storage_is_protected_and_grows_when_it_can() {
    let (mut plane, rest) = plane().await;
    let class = |name: &str, grows: bool| json!({"metadata": {"name": name}, "provisioner": "x.io/p", "allowVolumeExpansion": grows});
    for (name, grows) in [("elastic", true), ("rigid", false)] {
        create(&rest, "/apis/storage.k8s.io/v1/storageclasses", class(name, grows)).await;
    }
    let claims = "/api/v1/namespaces/default/persistentvolumeclaims";
    let size = |size: &str| json!({"spec": {"resources": {"requests": {"storage": size}}}});
    for name in ["elastic", "rigid"] {
        let mut claim = json!({"metadata": {"name": name}, "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": name}});
        claim["spec"]["resources"] = size("1Gi")["spec"]["resources"].clone();
        let made = create(&rest, claims, claim).await;
        assert_eq!(made["metadata"]["finalizers"], json!(["kubernetes.io/pvc-protection"]));
        let unbound = rest.merge(&format!("{claims}/{name}"), &size("2Gi")).await.expect("answers");
        assert_eq!(unbound.code, 422, "only bound claims change: {}", unbound.json());
        let bound = json!({"status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}});
        assert_eq!(rest.merge(&format!("{claims}/{name}/status"), &bound).await.expect("answers").code, 200);
    }
    let grown = rest.merge(&format!("{claims}/elastic"), &size("2Gi")).await.expect("answers");
    assert_eq!(grown.code, 200, "{}", grown.json());
    let refused = rest.merge(&format!("{claims}/rigid"), &size("2Gi")).await.expect("answers");
    assert_eq!(
        refused.json()["message"],
        "persistentvolumeclaims \"rigid\" is forbidden: only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize"
    );
    let deleted = rest.delete(&format!("{claims}/rigid")).await.expect("answers");
    assert_eq!(deleted.code, 200);
    let held = rest.get(&format!("{claims}/rigid")).await.expect("answers").json();
    assert!(held["metadata"]["deletionTimestamp"].is_string(), "{held}");
    plane.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_read_their_own_pods_and_themselves() {
    let (mut plane, rest) = plane().await;
    for name in ["n1", "n2"] {
        create(&rest, "/api/v1/nodes", json!({"metadata": {"name": name}})).await;
        create(&rest, PODS, pod(&format!("on-{name}"), json!({"nodeName": name}))).await;
    }
    let session = plane.session("system:node:n1", &["system:nodes"]).expect("a session");
    let node = Rest::new(&session).expect("client");
    let by_node = |name: &str| format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{name}");
    let by_name = |name: &str| format!("{PODS}?fieldSelector=metadata.name%3D{name}");
    for (path, code) in [
        ("/api/v1/pods".to_owned(), 403),
        (by_node("n1"), 200),
        (by_node("n2"), 403),
        (by_name("on-n1"), 200),
        (by_name("on-n2"), 403),
        (by_name("not-yet"), 403),
        (format!("{PODS}/on-n1"), 200),
        (format!("{PODS}/on-n2"), 403),
        (format!("{PODS}/not-yet"), 404),
        ("/api/v1/nodes".to_owned(), 403),
        ("/api/v1/nodes?fieldSelector=metadata.name%3Dn1".to_owned(), 200),
        ("/api/v1/nodes/n1".to_owned(), 200),
        ("/api/v1/nodes/n2".to_owned(), 403),
    ] {
        let answer = node.get(&path).await.expect("answers");
        assert_eq!(answer.code, code, "{path}: {}", answer.json());
    }
    let told = node.get("/api/v1/pods").await.expect("answers").json();
    let why = "can only list/watch pods with spec.nodeName field selector";
    assert!(told["message"].as_str().is_some_and(|message| message.contains(why)), "{told}");

    // The same by a review.
    let reviews = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    let review = |selector: Value| {
        let attributes =
            json!({"verb": "list", "resource": "pods", "version": "v1", "fieldSelector": selector});
        let spec =
            json!({"user": "system:node:n1", "groups": ["system:nodes"], "resourceAttributes": attributes});
        json!({"spec": spec})
    };
    let requirement = json!({"key": "spec.nodeName", "operator": "In", "values": ["n1"]});
    for (selector, allowed) in [
        (json!({"rawSelector": "spec.nodeName=n1"}), true),
        (json!({"rawSelector": "spec.nodeName!=n1"}), false),
        (json!({"requirements": [requirement]}), true),
        (Value::Null, false),
    ] {
        let answer = rest.post(reviews, &review(selector.clone())).await.expect("answers");
        assert_eq!(answer.json()["status"]["allowed"], allowed, "{selector}: {}", answer.json());
    }
    let why = refused(&rest, reviews, review(json!({})), 422).await;
    assert!(why.contains("requirements or rawSelector is required"), "{why}");
    plane.stop().await.expect("stops");
}
