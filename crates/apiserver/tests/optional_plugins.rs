//! Admission plugins that are off unless they are asked for, and what the file of
//! `--admission-control-config-file` tells them.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use testkit::{ControlPlane, Remote, Rest};

use crate::admission::refused;

const PODS: &str = "/api/v1/namespaces/default/pods";
const CONFIGURATION: &str = r"
apiVersion: apiserver.config.k8s.io/v1
kind: AdmissionConfiguration
plugins:
- name: PodSecurity
  configuration:
    apiVersion: pod-security.admission.config.k8s.io/v1
    kind: PodSecurityConfiguration
    defaults: {enforce: baseline}
    exemptions: {namespaces: [exempt], usernames: [trusted], runtimeClasses: [sealed]}
- name: PodNodeSelector
  configuration:
    podNodeSelectorPluginConfig: {clusterDefaultNodeSelector: zone=a, exempt: 'zone=a,disk=ssd'}
- name: EventRateLimit
  configuration:
    apiVersion: eventratelimit.admission.k8s.io/v1alpha1
    kind: Configuration
    limits: [{type: Namespace, qps: 1, burst: 3}]
- name: PodTolerationRestriction
  configuration:
    apiVersion: podtolerationrestriction.admission.k8s.io/v1alpha1
    kind: Configuration
    default: [{key: rack, operator: Exists}]
";

async fn plane(plugins: &[&str]) -> (ControlPlane, Rest) {
    plane_told(CONFIGURATION, plugins).await
}

async fn plane_told(configuration: &str, plugins: &[&str]) -> (ControlPlane, Rest) {
    let flags = |folder: &Path| {
        let path = folder.join("admission.yaml");
        std::fs::write(&path, configuration).expect("write");
        let enabled = plugins.iter().map(|plugin| format!("--enable-admission-plugins={plugin}"));
        let others = [
            format!("--admission-control-config-file={}", path.display()),
            "--disable-admission-plugins=ServiceAccount,Priority,DefaultTolerationSeconds".to_owned(),
        ];
        enabled.chain(others).collect()
    };
    let plane = ControlPlane::start_with(flags).await.expect("control plane");
    let rest = plane.rest().expect("client");
    (plane, rest)
}

fn pod(name: &str, spec: &Value) -> Value {
    let mut pod = json!({
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "i", "imagePullPolicy": "Never"}]},
    });
    api::patch::merge_patch(&mut pod["spec"], spec.clone());
    pod
}

async fn made(rest: &Rest, at: &str, object: &Value) -> Value {
    let answer = rest.post(at, object).await.expect("answers");
    assert_eq!(answer.code, 201, "{}", answer.json());
    answer.json()
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_are_changed_and_refused() {
    let plugins = [
        "AlwaysPullImages",
        "LimitPodHardAntiAffinityTopology",
        "PodNodeSelector",
        "PodTolerationRestriction",
    ];
    let (mut plane, rest) = plane(&plugins).await;
    let first = made(&rest, PODS, &pod("p", &json!({"nodeSelector": {"disk": "ssd"}}))).await;
    assert_eq!(first["spec"]["containers"][0]["imagePullPolicy"], "Always");
    assert_eq!(first["spec"]["nodeSelector"], json!({"disk": "ssd", "zone": "a"}));
    assert_eq!(first["spec"]["tolerations"], json!([{"key": "rack", "operator": "Exists"}]));

    let annotations = json!({
        "scheduler.alpha.kubernetes.io/node-selector": "zone=b",
        "scheduler.alpha.kubernetes.io/defaultTolerations": "",
        "scheduler.alpha.kubernetes.io/tolerationsWhitelist": r#"[{"key": "gpu", "operator": "Exists"}]"#,
    });
    made(&rest, "/api/v1/namespaces", &json!({"metadata": {"name": "own", "annotations": annotations}}))
        .await;
    made(&rest, "/api/v1/namespaces", &json!({"metadata": {"name": "exempt"}})).await;
    let own = "/api/v1/namespaces/own/pods";
    let second = made(&rest, own, &pod("p", &json!({}))).await;
    assert_eq!(second["spec"]["nodeSelector"], json!({"zone": "b"}));
    assert_eq!(second["spec"].get("tolerations"), None);

    let anti = json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": "topology.kubernetes.io/zone", "labelSelector": {}},
    ]}}});
    let exempt = "/api/v1/namespaces/exempt/pods";
    for (at, spec, code, expected) in [
        (
            PODS,
            anti,
            403,
            "pods \"q\" is forbidden: affinity.PodAntiAffinity.RequiredDuringScheduling has TopologyKey \
             topology.kubernetes.io/zone but only key kubernetes.io/hostname is allowed",
        ),
        (
            own,
            json!({"nodeSelector": {"zone": "c"}}),
            403,
            "pods \"q\" is forbidden: pod node label selector conflicts with its namespace node label selector",
        ),
        (
            exempt,
            json!({"nodeSelector": {"rack": "7"}}),
            403,
            "pods \"q\" is forbidden: pod node label selector labels conflict with its namespace whitelist",
        ),
        (
            own,
            json!({"tolerations": [{"key": "other", "operator": "Exists"}]}),
            500,
            "pod tolerations (possibly merged with namespace default tolerations) conflict with its namespace whitelist",
        ),
    ] {
        let message = refused(&rest, at, pod("q", &spec), code).await;
        assert!(message.ends_with(expected), "{message}");
    }
    plane.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn defaults_and_exemptions_of_the_standards() {
    let (mut plane, rest) = plane(&[]).await;
    for (name, labels) in
        [("usual", json!({})), ("loose", json!({"pod-security.kubernetes.io/enforce": "privileged"}))]
    {
        made(&rest, "/api/v1/namespaces", &json!({"metadata": {"name": name, "labels": labels}})).await;
    }
    let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
    let answer = rest
        .post("/api/v1/namespaces", &json!({"metadata": {"name": "exempt", "labels": labels}}))
        .await
        .expect("answers");
    let warnings: Vec<_> = answer.headers.get_all("warning").iter().collect();
    let warned = format!("{warnings:?}");
    assert!(
        warned.contains(
            "is exempt from Pod Security, and the policy (enforce=restricted:latest) will be ignored"
        ),
        "{warned}"
    );
    let host = json!({"hostNetwork": true});
    let at = |namespace: &str| format!("/api/v1/namespaces/{namespace}/pods");
    let message = refused(&rest, &at("usual"), pod("p", &host), 403).await;
    assert!(message.contains("violates PodSecurity \"baseline:latest\": host namespaces"), "{message}");
    made(&rest, &at("loose"), &pod("p", &host)).await;
    made(&rest, &at("exempt"), &pod("p", &host)).await;
    let trusted =
        Rest::new(&plane.session("trusted", &["system:masters"]).expect("a session")).expect("client");
    made(&trusted, &at("usual"), &pod("p", &host)).await;
    plane.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn namespaces_events_services_and_owners() {
    let plugins = [
        "NamespaceExists",
        "EventRateLimit",
        "DenyServiceExternalIPs",
        "OwnerReferencesPermissionEnforcement",
    ];
    let (mut plane, rest) = plane(&plugins).await;
    // An update and a delete, too, look for the namespace first.
    let answer = rest.delete("/api/v1/namespaces/absent/configmaps/c").await.expect("answers");
    assert_eq!(answer.code, 404, "{}", answer.json());

    let event = |number: usize| {
        json!({
            "metadata": {"name": format!("e{number}")}, "reason": "Test", "type": "Normal",
            "involvedObject": {"kind": "Pod", "namespace": "default", "name": "p"},
        })
    };
    let events = "/api/v1/namespaces/default/events";
    let mut codes = Vec::new();
    for number in 0..6 {
        codes.push(rest.post(events, &event(number)).await.expect("answers").code);
    }
    assert_eq!(codes[..3], [201; 3], "{codes:?}");
    assert!(codes[3..].contains(&429), "{codes:?}");

    let services = "/api/v1/namespaces/default/services";
    let service = |name: &str, spec: Value| {
        let mut service = json!({"metadata": {"name": name}, "spec": {"ports": [{"port": 80}]}});
        api::patch::merge_patch(&mut service["spec"], spec);
        service
    };
    let message = refused(&rest, services, service("s", json!({"externalIPs": ["192.0.2.7"]})), 403).await;
    assert_eq!(message, "services \"s\" is forbidden: Use of external IPs is denied by admission control.");
    made(&rest, services, &service("s", json!({}))).await;

    let role = json!({
        "metadata": {"name": "writer"},
        "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "create", "update", "patch"]}],
    });
    made(&rest, "/apis/rbac.authorization.k8s.io/v1/clusterroles", &role).await;
    let binding = json!({
        "metadata": {"name": "writer"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "writer"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "writer"}],
    });
    made(&rest, "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", &binding).await;
    let writer = Rest::new(&plane.session("writer", &[]).expect("a session")).expect("client");
    testkit::eventually("the role counts", async || {
        writer.get("/api/v1/namespaces/default/configmaps/none").await.expect("answers").code == 404
    })
    .await
    .expect("the role counts");
    let maps = "/api/v1/namespaces/default/configmaps";
    let map = |name: &str, blocks: bool| {
        let owner = json!({
            "apiVersion": "v1", "kind": "Service", "name": "s", "uid": "u", "blockOwnerDeletion": blocks,
        });
        json!({"metadata": {"name": name, "ownerReferences": [owner]}})
    };
    made(&writer, maps, &map("depends", false)).await;
    let message = refused(&writer, maps, map("blocks", true), 403).await;
    assert!(
        message.starts_with(
            "configmaps \"blocks\" is forbidden: cannot set blockOwnerDeletion if an ownerReference refers to a \
             resource you can't set finalizers on: "
        ),
        "{message}"
    );
    made(&writer, maps, &json!({"metadata": {"name": "free"}})).await;
    let patch = json!({"metadata": {"ownerReferences": map("free", false)["metadata"]["ownerReferences"]}});
    let answer = writer.merge(&format!("{maps}/free"), &patch).await.expect("answers");
    let message = answer.json()["message"].as_str().unwrap_or_default().to_owned();
    assert!(message.contains("cannot set an ownerRef on a resource you can't delete: "), "{message}");
    made(&rest, maps, &map("blocks", true)).await;
    plane.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_judges_images() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let remote = Remote::start(move |path, review| {
        counted.fetch_add(1, Ordering::SeqCst);
        let told = (path, &review["kind"], &review["apiVersion"], &review["spec"]["namespace"]);
        let (kind, version) = (json!("ImageReview"), json!("imagepolicy.k8s.io/v1alpha1"));
        assert_eq!(told, ("/images", &kind, &version, &json!("default")));
        let status = match review["spec"]["containers"][0]["image"].as_str() {
            Some("good") => json!({"allowed": true}),
            Some("broken") => return (500, json!({})),
            Some("old") => json!({"allowed": false, "reason": "it is too old"}),
            _ => json!({"allowed": false}),
        };
        (200, json!({"kind": kind, "apiVersion": version, "status": status}))
    })
    .await
    .expect("starts");
    let kubeconfig = remote.kubeconfig("/images").expect("writes");
    let told = |is_open: bool| {
        format!(
            "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins:\n\
             - name: ImagePolicyWebhook\n  configuration:\n    imagePolicy:\n\
             \x20     {{kubeConfigFile: {}, retryBackoff: 1, defaultAllow: {is_open}}}\n",
            kubeconfig.display()
        )
    };
    let pod = |name: &str, image: &str| pod(name, &json!({"containers": [{"name": "c", "image": image}]}));
    let (mut plane, rest) = plane_told(&told(false), &["ImagePolicyWebhook"]).await;
    made(&rest, PODS, &pod("a", "good")).await;
    made(&rest, PODS, &pod("b", "good")).await;
    assert_eq!(asked.load(Ordering::SeqCst), 1, "a yes is remembered");
    let denied = "image policy webhook backend denied one or more images: it is too old";
    let rejected = "one or more images rejected by webhook backend";
    for (image, why) in [("old", denied), ("other", rejected), ("broken", "answers 500")] {
        let message = refused(&rest, PODS, pod("c", image), 403).await;
        assert!(message.starts_with("pods \"c\" is forbidden: ") && message.ends_with(why), "{message}");
    }
    plane.stop().await.expect("stops");

    let (mut plane, rest) = plane_told(&told(true), &["ImagePolicyWebhook"]).await;
    made(&rest, PODS, &pod("c", "broken")).await;
    plane.stop().await.expect("stops");
}
