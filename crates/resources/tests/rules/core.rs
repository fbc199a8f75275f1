//! Namespaces, nodes, services and their endpoints, configuration, RBAC, events.

use resources::Part;
use resources::kinds::service;
use serde_json::{Value, json};

use super::{check, kind, made, row, update, updated};

#[test]
fn namespaces() {
    let mut made = made("namespaces", &json!({}), json!({}));
    assert_eq!(made.at(&["metadata", "labels", "kubernetes.io/metadata.name"]), Some(&json!("a")));
    assert_eq!(made.at(&["spec", "finalizers"]), Some(&json!(["kubernetes"])));
    assert_eq!(made.text(&["status", "phase"]), "Active");
    check(
        "namespaces",
        &json!({}),
        &[
            (
                json!({"metadata": {"name": "a.b"}}),
                &["metadata.name: Invalid value: \"a.b\": must not contain dots"],
            ),
            (
                json!({"spec": {"finalizers": ["x"]}}),
                &[
                    "spec.finalizers: Invalid value: \"x\": name is neither a standard finalizer name nor is it fully qualified",
                ],
            ),
        ],
    );
    assert_eq!(
        update("namespaces", Part::Status, &json!({}), json!({"status": {"phase": "Terminating"}})),
        [
            "status.Phase: Invalid value: \"Terminating\": may only be 'Active' if `deletionTimestamp` is empty"
        ]
    );
    let strategy = &kind("namespaces").strategy;
    assert!(strategy.is_held(&made));
    made.set_at(&["metadata", "deletionTimestamp"], "2026-01-01T00:00:00Z");
    strategy.prepare_delete(&mut made);
    assert_eq!(made.text(&["status", "phase"]), "Terminating");
    let (kept, _) = updated("namespaces", Part::Main, &made, json!({"spec": {"finalizers": []}}));
    assert!(strategy.is_held(&kept));
    let (freed, errors) =
        updated("namespaces", Part::Other("finalize"), &made, json!({"spec": {"finalizers": []}}));
    assert!(errors.is_empty() && !strategy.is_held(&freed), "{errors:?}");
}

#[test]
fn nodes() {
    let taint = json!({"key": "a", "effect": "NoSchedule"});
    check(
        "nodes",
        &json!({}),
        &[
            (json!({"spec": {"taints": [{"key": "a"}]}}), &["metadata.taints[0].effect: Required value"]),
            (
                json!({"spec": {"taints": [taint, taint]}}),
                &[
                    "metadata.taints[1]: Duplicate value: {\"Key\":\"a\",\"Value\":\"\",\"Effect\":\"NoSchedule\",\"TimeAdded\":null}: taints must be unique by key and effect pair",
                ],
            ),
            (
                json!({"spec": {"podCIDR": "10.0.0.1/24"}}),
                &[
                    "spec.podCIDRs[0]: Invalid value: \"10.0.0.1/24\": must not have bits set beyond the prefix length",
                ],
            ),
        ],
    );
    let base = json!({"spec": {"podCIDR": "10.0.0.0/24", "podCIDRs": ["10.0.0.0/24"]}});
    assert_eq!(
        update(
            "nodes",
            Part::Main,
            &base,
            json!({"spec": {"podCIDR": "10.1.0.0/24", "podCIDRs": ["10.1.0.0/24"]}})
        ),
        ["spec.podCIDRs: Forbidden: node updates may not change podCIDR except from \"\" to valid"]
    );
    let node = json!({"metadata": {"name": "a", "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {"node-role.kubernetes.io/control-plane": ""}},
        "spec": {"unschedulable": true},
        "status": {"conditions": [{"type": "Ready", "status": "True"}],
            "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
            "nodeInfo": {"kubeletVersion": "v1.36.0", "kernelVersion": "6.1", "architecture": "amd64"}}});
    assert_eq!(
        row("nodes", node),
        [
            "a",
            "Ready,SchedulingDisabled",
            "control-plane",
            "60m",
            "v1.36.0",
            "10.0.0.1",
            "<none>",
            "<unknown>",
            "6.1 (amd64)",
            "<unknown>"
        ]
    );
}

fn web() -> Value {
    json!({"spec": {"ports": [{"port": 80}], "selector": {"app": "web"}}})
}

#[test]
fn services() {
    let made = made("services", &web(), json!({}));
    assert_eq!(
        made.at(&["spec", "ports"]),
        Some(&json!([{"port": 80, "protocol": "TCP", "targetPort": 80}]))
    );
    assert_eq!(made.text(&["spec", "type"]), "ClusterIP");
    assert_eq!(made.text(&["spec", "internalTrafficPolicy"]), "Cluster");
    assert!(service::needs_cluster_ip(&made) && !service::needs_node_port(&made));
    check(
        "services",
        &web(),
        &[
            (json!({"spec": {"ports": null}}), &["spec.ports: Required value"]),
            (
                json!({"spec": {"ports": [{"port": 0}]}}),
                &[
                    "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
                    "spec.ports[0].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive",
                ],
            ),
            (
                json!({"spec": {"ports": [{"port": 80}, {"port": 81}]}}),
                &["spec.ports[0].name: Required value", "spec.ports[1].name: Required value"],
            ),
            (
                json!({"spec": {"type": "X"}}),
                &[
                    "spec.type: Unsupported value: \"X\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\"",
                ],
            ),
            (
                json!({"spec": {"ports": [{"port": 80, "nodePort": 30000}]}}),
                &["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"],
            ),
            (
                json!({"spec": {"ports": [{"name": "a", "port": 80}, {"name": "b", "port": 80}]}}),
                &[
                    "spec.ports[1]: Duplicate value: {\"Name\":\"\",\"Protocol\":\"TCP\",\"AppProtocol\":null,\"Port\":80,\"TargetPort\":0,\"NodePort\":0}",
                ],
            ),
            (json!({"spec": {"type": "ExternalName"}}), &["spec.externalName: Required value"]),
            (
                json!({"spec": {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 0}}}}),
                &[
                    "spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 0: must be greater than 0 and less than 86400",
                ],
            ),
            (
                json!({"spec": {"externalIPs": ["127.0.0.1"]}}),
                &[
                    "spec.externalIPs[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
                ],
            ),
        ],
    );
    let headless = json!({"spec": {"clusterIP": "None"}});
    assert!(super::create("services", &web(), headless).is_empty());
}

#[test]
fn services_keep_what_was_allocated() {
    let base = json!({"spec": {"type": "NodePort", "clusterIP": "10.96.0.7", "ports": [{"port": 80, "nodePort": 30080}]}});
    let old = made("services", &base, json!({}));
    assert_eq!(old.at(&["spec", "clusterIPs"]), Some(&json!(["10.96.0.7"])));
    assert_eq!(service::requested_node_ports(&old), [(30080, "TCP".to_owned())]);
    let left_out = json!({"spec": {"clusterIP": null, "clusterIPs": null, "ports": [{"port": 80}]}});
    let (new, errors) = updated("services", Part::Main, &old, left_out);
    assert_eq!(errors, Vec::<String>::new());
    assert_eq!(new.text(&["spec", "clusterIP"]), "10.96.0.7");
    assert_eq!(service::requested_node_ports(&new), [(30080, "TCP".to_owned())]);
    let (_, errors) = updated("services", Part::Main, &old, json!({"spec": {"clusterIP": "10.96.0.8"}}));
    assert_eq!(errors, ["spec.clusterIPs[0]: Invalid value: [\"10.96.0.8\"]: may not change once set"]);
    let (new, errors) = updated("services", Part::Main, &old, json!({"spec": {"type": "ClusterIP"}}));
    assert_eq!(errors, Vec::<String>::new());
    assert!(service::requested_node_ports(&new).is_empty());
    let external = json!({"spec": {"type": "ExternalName", "externalName": "example.com"}});
    let (new, errors) = updated("services", Part::Main, &old, external);
    assert_eq!((errors, new.at(&["spec", "clusterIP"])), (Vec::new(), None));
}

#[test]
fn service_rows() {
    let object = json!({"metadata": {"name": "web", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"type": "LoadBalancer", "clusterIPs": ["10.96.0.7"], "selector": {"b": "2", "a": "1"},
            "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]}});
    assert_eq!(
        row("services", object),
        ["web", "LoadBalancer", "10.96.0.7", "<pending>", "80:30080/TCP,53/UDP", "60m", "a=1,b=2"]
    );
}

#[test]
fn endpoints_and_slices() {
    let slice =
        json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"port": 80}]});
    check(
        "discovery.k8s.io/endpointslices",
        &slice,
        &[
            (json!({"addressType": null}), &["addressType: Required value"]),
            (
                json!({"endpoints": [{"addresses": []}]}),
                &["endpoints[0].addresses: Required value: must contain at least 1 address"],
            ),
            (
                json!({"endpoints": [{"addresses": ["fd00::1"]}]}),
                &["endpoints[0].addresses: Invalid value: \"fd00::1\": must be an IPv4 address"],
            ),
            (json!({"ports": [{"port": 1}, {"port": 2}]}), &["ports[1].name: Duplicate value: \"\""]),
        ],
    );
    assert_eq!(
        update(
            "discovery.k8s.io/endpointslices",
            Part::Main,
            &slice,
            json!({"addressType": "FQDN", "endpoints": [{"addresses": ["a.b"]}]})
        ),
        ["addressType: Invalid value: \"FQDN\": field is immutable"]
    );
    let endpoints = json!({"subsets": [{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}]}]});
    check(
        "endpoints",
        &endpoints,
        &[
            (
                json!({"subsets": [{"ports": [{"port": 80}]}]}),
                &["subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`"],
            ),
            (
                json!({"subsets": [{"addresses": [{"ip": "169.254.0.1"}]}]}),
                &[
                    "subsets[0].addresses[0].ip: Invalid value: \"169.254.0.1\": may not be in the link-local range (169.254.0.0/16, fe80::/10)",
                ],
            ),
        ],
    );
    let object = json!({"metadata": {"name": "e"}, "subsets": [
        {"addresses": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}], "ports": [{"port": 80}, {"port": 81}]}]});
    assert_eq!(
        row("endpoints", object),
        ["e", "10.0.0.1:80,10.0.0.2:80,10.0.0.1:81 + 1 more...", "<unknown>"]
    );
}

#[test]
fn configuration() {
    check(
        "configmaps",
        &json!({"data": {"a": "b"}}),
        &[
            (
                json!({"binaryData": {"a": "Yg=="}}),
                &["data[a]: Invalid value: \"a\": duplicate of key present in binaryData"],
            ),
            (
                json!({"data": {"x": "y".repeat(1_048_577)}}),
                &[": Too long: may not be more than 1048576 bytes"],
            ),
            (
                json!({"data": {"a/b": ""}}),
                &[
                    "data[a/b]: Invalid value: \"a/b\": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')",
                ],
            ),
        ],
    );
    let frozen = json!({"immutable": true, "data": {"a": "b"}});
    assert_eq!(
        update("configmaps", Part::Main, &frozen, json!({"immutable": null, "data": {"a": "c"}})),
        [
            "immutable: Forbidden: field is immutable when `immutable` is set",
            "data: Forbidden: field is immutable when `immutable` is set"
        ]
    );
    let secret = made("secrets", &json!({"stringData": {"a": "b"}}), json!({}));
    assert_eq!(
        (secret.text(&["type"]), secret.text(&["data", "a"]), secret.get("stringData")),
        ("Opaque", "Yg==", None)
    );
    check(
        "secrets",
        &json!({}),
        &[
            (
                json!({"type": "kubernetes.io/tls"}),
                &["data[tls.crt]: Required value", "data[tls.key]: Required value"],
            ),
            (
                json!({"type": "kubernetes.io/service-account-token"}),
                &["metadata.annotations[kubernetes.io/service-account.name]: Required value"],
            ),
        ],
    );
    assert_eq!(
        update("secrets", Part::Main, &json!({}), json!({"type": "x"})),
        ["type: Invalid value: \"x\": field is immutable"]
    );
    check("serviceaccounts", &json!({}), &[]);
    check(
        "coordination.k8s.io/leases",
        &json!({"spec": {"holderIdentity": "me", "leaseDurationSeconds": 10}}),
        &[(
            json!({"spec": {"leaseDurationSeconds": 0}}),
            &["spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0"],
        )],
    );
}

#[test]
fn roles_and_bindings() {
    let role = json!({"rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]});
    check(
        "rbac.authorization.k8s.io/roles",
        &role,
        &[
            (
                json!({"rules": [{"verbs": ["get"], "nonResourceURLs": ["/x"]}]}),
                &[
                    "rules[0].nonResourceURLs: Invalid value: [\"/x\"]: namespaced rules cannot apply to non-resource URLs",
                ],
            ),
            (
                json!({"rules": [{"verbs": [], "apiGroups": [""], "resources": ["pods"]}]}),
                &["rules[0].verbs: Required value: verbs must contain at least one value"],
            ),
            (
                json!({"metadata": {"name": "a/b"}}),
                &["metadata.name: Invalid value: \"a/b\": may not contain '/'"],
            ),
        ],
    );
    check(
        "rbac.authorization.k8s.io/clusterroles",
        &json!({"metadata": {"name": "system:x"}, "rules": [{"verbs": ["get"], "nonResourceURLs": ["/x"]}]}),
        &[(
            json!({"aggregationRule": {}}),
            &[
                "aggregationRule.clusterRoleSelectors: Required value: at least one clusterRoleSelector required if aggregationRule is non-nil",
            ],
        )],
    );
    let binding = json!({"roleRef": {"kind": "ClusterRole", "name": "view"}, "subjects": [{"kind": "User", "name": "me"}]});
    check(
        "rbac.authorization.k8s.io/rolebindings",
        &binding,
        &[(
            json!({"subjects": [{"kind": "Robot", "name": "r"}]}),
            &[
                "subjects[0].kind: Unsupported value: \"Robot\": supported values: \"ServiceAccount\", \"User\", \"Group\"",
            ],
        )],
    );
    check(
        "rbac.authorization.k8s.io/clusterrolebindings",
        &binding,
        &[
            (
                json!({"roleRef": {"kind": "Role"}}),
                &["roleRef.kind: Unsupported value: \"Role\": supported values: \"ClusterRole\""],
            ),
            (
                json!({"subjects": [{"kind": "ServiceAccount", "name": "r"}]}),
                &["subjects[0].namespace: Required value"],
            ),
        ],
    );
    assert_eq!(
        update(
            "rbac.authorization.k8s.io/rolebindings",
            Part::Main,
            &binding,
            json!({"roleRef": {"name": "edit"}})
        ),
        [
            "roleRef: Invalid value: {\"APIGroup\":\"rbac.authorization.k8s.io\",\"Kind\":\"ClusterRole\",\"Name\":\"edit\"}: cannot change roleRef"
        ]
    );
}

#[test]
fn events() {
    let event = json!({"involvedObject": {"namespace": "n", "kind": "Pod", "name": "p"}, "reason": "Started",
        "message": "started", "type": "Normal", "source": {"component": "kubelet"},
        "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:55:00Z", "count": 3});
    check(
        "events",
        &event,
        &[(
            json!({"involvedObject": {"namespace": "x"}}),
            &["involvedObject.namespace: Invalid value: \"x\": does not match event.namespace"],
        )],
    );
    let mut shown = event.clone();
    shown["metadata"] = json!({"name": "e"});
    assert_eq!(
        row("events", shown),
        ["5m", "Normal", "Started", "pod/p", "", "kubelet", "started", "60m", "3", "e"]
    );
    let new = json!({"eventTime": "2026-01-01T00:00:00.000000Z", "regarding": {"namespace": "n", "kind": "Pod"},
        "reason": "Started", "note": "started", "type": "Normal", "action": "Start",
        "reportingController": "example.com/kubelet", "reportingInstance": "node"});
    check(
        "events.k8s.io/events",
        &new,
        &[
            (json!({"action": null}), &["action: Required value"]),
            (json!({"type": "Odd"}), &["type: Invalid value: \"\": has invalid value: Odd"]),
            (json!({"deprecatedCount": 2}), &["count: Invalid value: \"\": needs to be unset"]),
        ],
    );
    assert_eq!(
        update("events.k8s.io/events", Part::Main, &new, json!({"note": "other"})),
        ["message: Invalid value: \"other\": field is immutable"]
    );
}

#[test]
fn addresses_and_their_ranges() {
    let parent = json!({"resource": "services", "namespace": "n", "name": "s"});
    let good = json!({"metadata": {"name": "fe80::1"}, "spec": {"parentRef": parent}});
    check(
        "networking.k8s.io/ipaddresses",
        &good,
        &[
            (
                json!({"metadata": {"name": "010.0.0.1"}}),
                &["metadata.name: Invalid value: \"010.0.0.1\": must not have leading 0s"],
            ),
            (json!({"spec": {"parentRef": null}}), &["spec.parentRef: Required value"]),
            (
                json!({"spec": {"parentRef": {"resource": "", "name": "a/b"}}}),
                &[
                    "spec.parentRef.resource: Required value",
                    "spec.parentRef.name: Invalid value: \"a/b\": may not contain '/'",
                ],
            ),
        ],
    );
    assert_eq!(
        update(
            "networking.k8s.io/ipaddresses",
            Part::Main,
            &good,
            json!({"spec": {"parentRef": {"name": "t"}}})
        )
        .len(),
        1,
        "the parent stays"
    );
    let good = json!({"spec": {"cidrs": ["10.0.0.0/16"]}});
    check(
        "networking.k8s.io/servicecidrs",
        &good,
        &[
            (json!({"spec": {"cidrs": []}}), &["spec.cidrs: Required value: at least one CIDR required"]),
            (
                json!({"spec": {"cidrs": ["10.0.0.1/16"]}}),
                &[
                    "spec.cidrs[0]: Invalid value: \"10.0.0.1/16\": must not have bits set beyond the prefix length",
                ],
            ),
            (
                json!({"spec": {"cidrs": ["10.0.0.0/16", "10.1.0.0/16"]}}),
                &[
                    "spec.cidrs: Invalid value: [\"10.0.0.0/16\",\"10.1.0.0/16\"]: may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64",
                ],
            ),
        ],
    );
    let six = json!({"spec": {"cidrs": ["10.0.0.0/16", "fd00::/112"]}});
    assert!(
        update("networking.k8s.io/servicecidrs", Part::Main, &good, six).is_empty(),
        "another family may come"
    );
    let other = json!({"spec": {"cidrs": ["10.1.0.0/16"]}});
    assert_eq!(
        update("networking.k8s.io/servicecidrs", Part::Main, &good, other),
        ["spec.cidrs[0]: Invalid value: \"10.1.0.0/16\": field is immutable"]
    );
}
