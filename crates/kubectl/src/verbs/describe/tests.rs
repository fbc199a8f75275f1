//! Whole descriptions.

use serde_json::{Value, json};

use super::text::Text;
use super::{KINDS, OTHERS, Subject, events};

fn describe(object: &Value, related: Vec<Value>) -> String {
    let kind = KINDS.iter().find(|one| one.kind == object["kind"]).unwrap_or(&OTHERS);
    let count = (kind.related)(object).len();
    let mut answers: Vec<Result<Vec<Value>, String>> = vec![Ok(related)];
    answers.resize(count.max(1), Ok(Vec::new()));
    let mut out = Text::default();
    let now = api::time::parse("2026-01-01T00:10:00Z").expect("time");
    (kind.write)(&mut out, &Subject { object, related: answers, now });
    out.laid_out()
}

#[test]
fn a_pod() {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web-0", "namespace": "d", "labels": {"app": "web"},
            "ownerReferences": [{"kind": "StatefulSet", "name": "web", "controller": true}]},
        "spec": {"priority": 0, "serviceAccountName": "default", "nodeName": "n1",
            "containers": [{"name": "main", "image": "busybox", "command": ["sleep", "1d"],
                "ports": [{"containerPort": 80, "protocol": "TCP"}],
                "resources": {"requests": {"cpu": "10m"}},
                "volumeMounts": [{"name": "data", "mountPath": "/data", "readOnly": true}]}],
            "volumes": [{"name": "data", "emptyDir": {}}],
            "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute",
                "tolerationSeconds": 300}]},
        "status": {"phase": "Running", "podIP": "10.0.0.5", "podIPs": [{"ip": "10.0.0.5"}], "hostIP": "192.0.2.1",
            "qosClass": "Burstable", "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{"name": "main", "containerID": "containerd://x", "imageID": "y", "ready": true,
                "restartCount": 2, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}});
    let expected = "\
Name:             web-0
Namespace:        d
Priority:         0
Service Account:  default
Node:             n1/192.0.2.1
Labels:           app=web
Annotations:      <none>
Status:           Running
IP:               10.0.0.5
IPs:
  IP:           10.0.0.5
Controlled By:  StatefulSet/web
Containers:
  main:
    Container ID:  containerd://x
    Image:         busybox
    Image ID:      y
    Port:          80/TCP
    Host Port:     0/TCP
    Command:
      sleep
      1d
    State:          Waiting
      Reason:       CrashLoopBackOff
    Ready:          True
    Restart Count:  2
    Requests:
      cpu:        10m
    Environment:  <none>
    Mounts:
      /data from data (ro)
Conditions:
  Type    Status
  Ready   True 
Volumes:
  data:
    Type:        EmptyDir (a temporary directory that shares a pod's lifetime)
    Medium:      
    SizeLimit:   <unset>
QoS Class:       Burstable
Node-Selectors:  <none>
Tolerations:     node.kubernetes.io/not-ready:NoExecute op=Exists for 300s
";
    assert_eq!(describe(&pod, Vec::new()), expected);
}

#[test]
fn a_service() {
    let service = json!({"kind": "Service", "metadata": {"name": "web", "namespace": "d"},
        "spec": {"type": "ClusterIP", "selector": {"app": "web"}, "clusterIP": "10.96.0.9",
            "clusterIPs": ["10.96.0.9"], "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
            "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
            "ports": [{"name": "http", "port": 80, "targetPort": "web", "protocol": "TCP"}]}});
    let slice = json!({"ports": [{"name": "http", "port": 8080}],
        "endpoints": [{"addresses": ["10.0.0.5"], "conditions": {"ready": true}}]});
    let expected = "\
Name:                     web
Namespace:                d
Labels:                   <none>
Annotations:              <none>
Selector:                 app=web
Type:                     ClusterIP
IP Family Policy:         SingleStack
IP Families:              IPv4
IP:                       10.96.0.9
IPs:                      10.96.0.9
Port:                     http  80/TCP
TargetPort:               web/TCP
Endpoints:                10.0.0.5:8080
Session Affinity:         None
Internal Traffic Policy:  Cluster
";
    assert_eq!(describe(&service, vec![slice]), expected);
}

#[test]
fn a_secret_and_a_config_map() {
    let secret = json!({"kind": "Secret", "metadata": {"name": "s", "namespace": "d"}, "type": "Opaque",
        "data": {"password": "aHVudGVyMg=="}});
    assert_eq!(
        describe(&secret, Vec::new()),
        "Name:         s\nNamespace:    d\nLabels:       <none>\nAnnotations:  <none>\n\nType:  Opaque\n\nData\n====\n\
         password:  7 bytes\n"
    );
    let map = json!({"kind": "ConfigMap", "metadata": {"name": "c", "namespace": "d"}, "data": {"a": "1"}});
    assert_eq!(
        describe(&map, Vec::new()),
        "Name:         c\nNamespace:    d\nLabels:       <none>\nAnnotations:  <none>\n\nData\n====\na:\n----\n1\n\n\n\
         BinaryData\n====\n\n"
    );
}

#[test]
fn a_deployment() {
    let deployment = json!({"kind": "Deployment",
        "metadata": {"name": "web", "namespace": "d", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z",
            "annotations": {"deployment.kubernetes.io/revision": "2"}},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "strategy": {"type": "Recreate"},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}},
        "status": {"replicas": 2, "updatedReplicas": 2, "availableReplicas": 1, "unavailableReplicas": 1,
            "conditions": [{"type": "Available", "status": "False", "reason": "MinimumReplicasUnavailable"}]}});
    let set = |name: &str, revision: &str| {
        json!({"metadata": {"name": name, "annotations": {"deployment.kubernetes.io/revision": revision},
            "ownerReferences": [{"controller": true, "uid": "u"}]},
            "spec": {"replicas": 2}, "status": {"replicas": 1}})
    };
    let text = describe(&deployment, vec![set("web-a", "1"), set("web-b", "2")]);
    let end = text.split_once("Pod Template:").expect("template").1;
    let expected = "
  Labels:  app=web
  Containers:
   c:
    Image:         i
    Port:          <none>
    Host Port:     <none>
    Environment:   <none>
    Mounts:        <none>
  Volumes:         <none>
  Node-Selectors:  <none>
  Tolerations:     <none>
Conditions:
  Type           Status  Reason
  ----           ------  ------
  Available      False   MinimumReplicasUnavailable
OldReplicaSets:  web-a (1/2 replicas created)
NewReplicaSet:   web-b (1/2 replicas created)
";
    assert_eq!(end, expected);
}

#[test]
fn other_kinds_are_written_field_by_field() {
    let lease = json!({"apiVersion": "x.y/v1", "kind": "Thing",
        "metadata": {"name": "t", "namespace": "d", "uid": "1", "managedFields": [{"a": 1}]},
        "spec": {"podIPs": ["a", "b"], "leaseDurationSeconds": 40, "empty": null}});
    let expected = "\
Name:         t
Namespace:    d
Labels:       <none>
Annotations:  <none>
API Version:  x.y/v1
Kind:         Thing
Metadata:
  UID:  1
Spec:
  Empty:                   <nil>
  Lease Duration Seconds:  40
  Pod I Ps:
    a
    b
";
    assert_eq!(describe(&lease, Vec::new()), expected);
}

#[test]
fn events_end_a_description() {
    let now = api::time::parse("2026-01-01T00:10:00Z").expect("time");
    let mut found = vec![
        json!({"type": "Warning", "reason": "Late", "message": "x\n", "count": 3, "source": {"component": "kubelet"},
            "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:09:00Z"}),
        json!({"type": "Normal", "reason": "Early", "message": "y", "reportingComponent": "scheduler",
            "eventTime": "2026-01-01T00:05:00.000000Z"}),
    ];
    let mut out = Text::default();
    events::write(&mut out, &mut found, now);
    let expected = "\
Events:
  Type     Reason  Age                From       Message
  ----     ------  ----               ----       -------
  Normal   Early   5m                 scheduler  y
  Warning  Late    60s (x3 over 10m)  kubelet    x
";
    assert_eq!(out.laid_out(), expected);
}
