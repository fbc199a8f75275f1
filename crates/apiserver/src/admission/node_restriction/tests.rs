use base64::Engine as _;
use rcgen::{CertificateParams, DnType, KeyPair};
use resources::Catalogue;
use serde_json::json;

use super::*;
use crate::admission::Late;
use crate::authn::User;
use crate::registry::Caller;

type Rule = fn(&str, &Request<'_>) -> Judged;

/// What a rule says to node `n` about a request for an object called `name`.
fn told(
    rule: Rule,
    (group, version, resource, subresource): (&str, &str, &str, &str),
    operation: Operation,
    name: &str,
    [new, old]: [Value; 2],
) -> String {
    let kinds = Catalogue::built_in();
    let caller = Caller { user: Arc::new(User::default()), field_manager: String::new() };
    let object = |value: Value| Object::from_value(value).ok();
    let request = Request {
        kind: kinds.find(group, version, resource).expect("a kind"),
        requested: None,
        subresource,
        operation,
        namespace: "",
        name,
        caller: &caller,
        object: object(new),
        old: object(old),
        dry_run: false,
        warnings: Vec::new(),
        late: Late::default(),
    };
    rule("n", &request).err().unwrap_or_default()
}

#[test]
fn a_node_changes_little_of_itself() {
    let kind = ("", "v1", "nodes", "");
    let update = |new: Value, old: Value| told(node_itself, kind, Operation::Update, "n", [new, old]);
    let owners = json!({"metadata": {"ownerReferences": [{"name": "x"}]}});
    let config = json!({"spec": {"configSource": {"configMap": {}}}});
    assert_eq!(update(json!({"spec": {"taints": []}}), json!({"spec": {}})), "");
    assert_eq!(update(json!({}), owners), "node \"n\" is not allowed to modify ownerReferences");
    assert_eq!(
        update(config.clone(), json!({})),
        "node \"n\" is not allowed to update configSource to a new non-nil configSource"
    );
    assert_eq!(update(config.clone(), config), "");
    assert_eq!(
        told(node_itself, kind, Operation::Delete, "m", [Value::Null, json!({})]),
        "node \"n\" is not allowed to modify node \"m\""
    );
}

#[test]
fn pods_keep_what_is_not_the_nodes() {
    let pod = |node: &str, status: Value| json!({"spec": {"nodeName": node}, "status": status});
    let kind = ("", "v1", "pods", "status");
    let update = |new: Value, old: Value| told(status, kind, Operation::Update, "p", [new, old]);
    assert_eq!(update(pod("n", json!({"phase": "Running"})), pod("n", json!({}))), "");
    let other = "node \"n\" can only update pod status for pods with spec.nodeName set to itself";
    assert_eq!(update(pod("n", json!({})), pod("m", json!({}))), other);
    let claims = pod("n", json!({"resourceClaimStatuses": [{"name": "a"}]}));
    assert_eq!(update(claims, pod("n", json!({}))), "node \"n\" cannot update resource claim statues");
    let mut labelled = pod("n", json!({}));
    labelled["metadata"] = json!({"labels": {"a": "b"}});
    assert_eq!(update(labelled, pod("n", json!({}))), "node \"n\" cannot update labels through pod status");
}

#[test]
fn other_objects_carry_the_nodes_name() {
    let csi = ("storage.k8s.io", "v1", "csinodes", "");
    let own = |_: &str, request: &Request<'_>| own_name("n", request, "CSINode");
    assert_eq!(told(own, csi, Operation::Create, "n", [json!({}), Value::Null]), "");
    assert_eq!(
        told(own, csi, Operation::Update, "m", [json!({}), json!({})]),
        "can only access CSINode with the same name as the requesting node"
    );
    let slices = ("resource.k8s.io", "v1", "resourceslices", "");
    let of = |node: &str| json!({"spec": {"nodeName": node}});
    assert_eq!(told(slice, slices, Operation::Create, "s", [of("n"), Value::Null]), "");
    let why =
        |verb: &str| format!("can only {verb} ResourceSlice with the same NodeName as the requesting node");
    assert_eq!(told(slice, slices, Operation::Create, "s", [of("m"), Value::Null]), why("create"));
    assert_eq!(told(slice, slices, Operation::Delete, "s", [Value::Null, of("m")]), why("delete"));
    let claims = ("", "v1", "persistentvolumeclaims", "");
    assert_eq!(
        told(claim, claims, Operation::Update, "c", [json!({}), json!({})]),
        "may only update PVC status"
    );
}

#[test]
fn certificates_are_asked_for_the_node_itself() {
    let ask = |signer: &str, name: &str| {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("key");
        let pem = params.serialize_request(&key).expect("request").pem().expect("PEM");
        let request = base64::engine::general_purpose::STANDARD.encode(pem);
        let asked = json!({"spec": {"signerName": signer, "request": request}});
        let kind = ("certificates.k8s.io", "v1", "certificatesigningrequests", "");
        told(signing, kind, Operation::Create, "c", [asked, Value::Null])
    };
    let refused = "can only create a node CSR with CN=system:node:n";
    for signer in KUBELET_SIGNERS {
        assert_eq!(ask(signer, "system:node:n"), "");
        assert_eq!(ask(signer, "system:node:m"), refused);
    }
    assert_eq!(ask("example.com/other", "anybody"), "");
}
