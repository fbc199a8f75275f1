//! The flow schemas and priority levels that every cluster has, with upstream's
//! values (`k8s.io/apiserver/pkg/apis/flowcontrol/bootstrap`).

use serde_json::{Value, json};

/// The API group.
pub const GROUP: &str = "flowcontrol.apiserver.k8s.io";
/// Who looks after an object: `true` is the API server.
pub const AUTOUPDATE: &str = "apf.kubernetes.io/autoupdate-spec";
/// The schema and level that nothing limits.
pub const EXEMPT: &str = "exempt";
/// The schema and level of what nothing else matches.
pub const CATCH_ALL: &str = "catch-all";

/// The fixed flow schema of this name, if it is one.
#[must_use]
pub fn mandatory_schema(name: &str) -> Option<Value> {
    let is_mandatory = matches!(name, EXEMPT | CATCH_ALL);
    schemas().into_iter().find(|one| is_mandatory && one["metadata"]["name"] == name)
}

/// The fixed priority level of this name, if it is one.
#[must_use]
pub fn mandatory_level(name: &str) -> Option<Value> {
    let is_mandatory = matches!(name, EXEMPT | CATCH_ALL);
    levels().into_iter().find(|one| is_mandatory && one["metadata"]["name"] == name)
}

/// All flow schemas, mandatory and suggested.
#[must_use]
pub fn schemas() -> Vec<Value> {
    let everybody = || groups(&["system:unauthenticated", "system:authenticated"]);
    let managers =
        [users(&["system:kube-controller-manager", "system:kube-scheduler"]), vec![kube_system_accounts()]]
            .concat();
    let user = Some("ByUser");
    let namespace = Some("ByNamespace");
    let leases = |verbs: &[&str]| resources(verbs, "coordination.k8s.io", &["leases"], false);
    let node_high = json!([resources(&["*"], "", &["nodes", "nodes/status"], true), leases(&["*"])]);
    let probes = json!([{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]}]);
    vec![
        schema(EXEMPT, EXEMPT, 1, None, everything(groups(&["system:masters"]))),
        schema("probes", EXEMPT, 2, None, json!({"subjects": everybody(), "nonResourceRules": probes})),
        schema(
            "system-leader-election",
            "leader-election",
            100,
            user,
            json!({"subjects": managers, "resourceRules": [leases(&["get", "create", "update"])]}),
        ),
        schema(
            "system-node-high",
            "node-high",
            400,
            user,
            json!({"subjects": groups(&["system:nodes"]), "resourceRules": node_high}),
        ),
        schema("system-nodes", "system", 500, user, everything(groups(&["system:nodes"]))),
        schema(
            "kube-controller-manager",
            "workload-high",
            800,
            namespace,
            everything(users(&["system:kube-controller-manager"])),
        ),
        schema(
            "kube-scheduler",
            "workload-high",
            800,
            namespace,
            everything(users(&["system:kube-scheduler"])),
        ),
        schema(
            "kube-system-service-accounts",
            "workload-high",
            900,
            namespace,
            everything(vec![kube_system_accounts()]),
        ),
        schema(
            "service-accounts",
            "workload-low",
            9000,
            user,
            everything(groups(&["system:serviceaccounts"])),
        ),
        schema("global-default", "global-default", 9900, user, everything(everybody())),
        schema(CATCH_ALL, CATCH_ALL, 10_000, user, everything(everybody())),
    ]
}

/// All priority levels, mandatory and suggested.
#[must_use]
pub fn levels() -> Vec<Value> {
    let queue = |name: &str, shares: u32, lendable: u32, queues: u32, hand: u32| {
        let queuing = json!({"queues": queues, "handSize": hand, "queueLengthLimit": 50});
        let response = json!({"type": "Queue", "queuing": queuing});
        let limited = json!({
            "nominalConcurrencyShares": shares, "lendablePercent": lendable, "limitResponse": response,
        });
        level(name, json!({"type": "Limited", "limited": limited}))
    };
    let rejecting = json!({
        "nominalConcurrencyShares": 5, "lendablePercent": 0, "limitResponse": {"type": "Reject"},
    });
    let exempt = json!({"nominalConcurrencyShares": 0, "lendablePercent": 0});
    vec![
        level(EXEMPT, json!({"type": "Exempt", "exempt": exempt})),
        level(CATCH_ALL, json!({"type": "Limited", "limited": rejecting})),
        queue("system", 30, 33, 64, 6),
        queue("node-high", 40, 25, 64, 6),
        queue("leader-election", 10, 0, 16, 4),
        queue("workload-high", 40, 50, 128, 6),
        queue("workload-low", 100, 90, 128, 6),
        queue("global-default", 20, 50, 128, 6),
    ]
}

fn metadata(name: &str) -> Value {
    json!({"name": name, "annotations": {AUTOUPDATE: "true"}})
}

fn level(name: &str, spec: Value) -> Value {
    json!({"metadata": metadata(name), "spec": spec})
}

fn schema(name: &str, level: &str, precedence: u32, distinguisher: Option<&str>, rule: Value) -> Value {
    let mut spec = json!({
        "priorityLevelConfiguration": {"name": level}, "matchingPrecedence": precedence, "rules": [rule],
    });
    if let Some(kind) = distinguisher {
        spec["distinguisherMethod"] = json!({"type": kind});
    }
    json!({"metadata": metadata(name), "spec": spec})
}

fn everything(subjects: Vec<Value>) -> Value {
    json!({
        "subjects": subjects,
        "resourceRules": [{
            "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"], "clusterScope": true,
        }],
        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
    })
}

fn resources(verbs: &[&str], group: &str, resources: &[&str], is_cluster: bool) -> Value {
    let mut rule = json!({"verbs": verbs, "apiGroups": [group], "resources": resources, "namespaces": ["*"]});
    if is_cluster {
        rule["clusterScope"] = true.into();
    }
    rule
}

fn groups(names: &[&str]) -> Vec<Value> {
    names.iter().map(|name| json!({"kind": "Group", "group": {"name": name}})).collect()
}

fn users(names: &[&str]) -> Vec<Value> {
    names.iter().map(|name| json!({"kind": "User", "user": {"name": name}})).collect()
}

fn kube_system_accounts() -> Value {
    json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": "kube-system", "name": "*"}})
}
