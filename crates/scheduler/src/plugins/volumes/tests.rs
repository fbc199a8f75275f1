//! Restrictions, zones and limits of volumes.

use std::sync::Arc;

use api::ObjectKey;
use serde_json::{Value, json};

use super::limits::NodeVolumeLimits;
use super::restrictions::VolumeRestrictions;
use super::zone::VolumeZone;
use crate::cluster::Cluster;
use crate::events::Event;
use crate::plugins::tests::{objection, plain};
use crate::plugins::{Filter as _, Plugin as _, Prepared, Shift};
use crate::pod::PodInfo;
use crate::snapshot::Volumes;
use crate::testing::{cluster, labelled_node, on_node, pod_info, pod_json};

fn nodes() -> Cluster {
    cluster(["a", "b"].map(|name| labelled_node(name, json!({"topology.kubernetes.io/zone": name}))).into())
}

fn storage(cluster: &mut Cluster) -> &mut Volumes {
    Arc::make_mut(&mut cluster.surroundings().volumes)
}

fn add_claim(cluster: &mut Cluster, name: &str, spec: Value) {
    let claim = json!({"metadata": {"namespace": "ns", "name": name}, "spec": spec});
    let claim = Arc::new(serde_json::from_value(claim).expect("a claim"));
    storage(cluster).set_claim(&ObjectKey::new("ns", name), Some(claim));
}

fn add_volume(cluster: &mut Cluster, name: &str, labels: Value, spec: Value) {
    let volume = json!({"metadata": {"name": name, "labels": labels}, "spec": spec});
    storage(cluster).set_volume(name, Some(Arc::new(serde_json::from_value(volume).expect("a volume"))));
}

fn spec(claims: &[&str]) -> Value {
    let volume = |name: &&str| json!({"name": name, "persistentVolumeClaim": {"claimName": name}});
    json!({"volumes": claims.iter().map(volume).collect::<Vec<_>>()})
}

fn fits<F: crate::plugins::Filter>(cluster: &mut Cluster, pod: &PodInfo) -> Vec<&'static str> {
    let (plugin, snapshot) = (plain::<F>(), cluster.snapshot());
    ["a", "b"].into_iter().filter(|node| objection(&plugin, pod, snapshot, node).is_none()).collect()
}

#[test]
fn a_claim_for_one_pod_is_used_by_one_pod() {
    let mut cluster = nodes();
    add_claim(&mut cluster, "one", json!({"accessModes": ["ReadWriteOncePod"]}));
    add_claim(&mut cluster, "many", json!({"accessModes": ["ReadWriteOnce"]}));
    let user = on_node(pod_json("x", spec(&["one", "many"])), "a");
    cluster.set_pod(&user);
    assert_eq!(fits::<VolumeRestrictions>(&mut cluster, &pod_info("p", spec(&["many"]))), ["a", "b"]);
    let second = pod_info("p", spec(&["one"]));
    assert_eq!(fits::<VolumeRestrictions>(&mut cluster, &second), [""; 0]);
    // It can be evicted.
    let (plugin, snapshot) = (plain::<VolumeRestrictions>(), cluster.snapshot());
    let Prepared::Facts(mut facts) = plugin.prepare(&second, snapshot) else { panic!("no facts") };
    let node = snapshot.node("a").expect("a node");
    plugin.shift(&mut facts, &Shift { pod: &user, node, by: -1 });
    assert!(plugin.check(&facts, node).is_ok());
    assert!(plugin.is_helped_by(&second, &Event::PodRemoved(&user)));
    assert!(!plugin.is_helped_by(&second, &Event::PodRemoved(&pod_info("y", spec(&["other"])))));
    cluster.remove_pod("x");
    assert_eq!(fits::<VolumeRestrictions>(&mut cluster, &second), ["a", "b"]);
}

#[test]
fn a_disk_is_shared_only_for_reading() {
    let disk = |kind: &str, disk: Value| json!({"volumes": [{"name": "d", kind: disk}]});
    let gce = |read_only: bool| disk("gcePersistentDisk", json!({"pdName": "x", "readOnly": read_only}));
    let aws = |id: &str| disk("awsElasticBlockStore", json!({"volumeID": id, "readOnly": true}));
    let rbd = |monitor: &str| disk("rbd", json!({"monitors": [monitor, "m0"], "image": "i", "pool": "p"}));
    let iscsi = |iqn: &str| disk("iscsi", json!({"targetPortal": "t", "lun": 0, "iqn": iqn}));
    for (there, comes, shares) in [
        (gce(true), gce(true), true),
        (gce(true), gce(false), false),
        (aws("v"), aws("v"), false),
        (aws("v"), aws("w"), true),
        (rbd("m1"), rbd("m2"), false),
        (iscsi("q"), iscsi("q"), false),
        (iscsi("q"), iscsi("r"), true),
        (gce(false), aws("v"), true),
    ] {
        let mut cluster = nodes();
        cluster.set_pod(&on_node(pod_json("x", there), "a"));
        let expected: &[&str] = if shares { &["a", "b"] } else { &["b"] };
        assert_eq!(
            fits::<VolumeRestrictions>(&mut cluster, &pod_info("p", comes.clone())),
            expected,
            "{comes}"
        );
    }
}

#[test]
fn volumes_stay_in_their_zone() {
    let mut cluster = nodes();
    for (name, labels) in [
        ("a", json!({"topology.kubernetes.io/zone": "a"})),
        ("old", json!({"failure-domain.beta.kubernetes.io/zone": "b"})),
        ("both", json!({"topology.kubernetes.io/zone": "a__b"})),
        ("none", json!({})),
    ] {
        add_volume(&mut cluster, name, labels, json!({}));
        add_claim(&mut cluster, name, json!({"volumeName": name}));
    }
    for (claim, expected) in
        [("a", vec!["a"]), ("old", vec!["b"]), ("both", vec!["a", "b"]), ("none", vec!["a", "b"])]
    {
        assert_eq!(fits::<VolumeZone>(&mut cluster, &pod_info("p", spec(&[claim]))), expected, "{claim}");
    }
    cluster.set_node(&Arc::new(labelled_node("b", json!({}))));
    assert_eq!(fits::<VolumeZone>(&mut cluster, &pod_info("p", spec(&["a"]))), ["a", "b"]);
}

#[test]
fn a_node_has_so_many_volumes_of_a_driver() {
    let mut cluster = nodes();
    for name in ["v1", "v2", "v3"] {
        let csi = json!({"csi": {"driver": "csi.example.com", "volumeHandle": name}});
        add_volume(&mut cluster, name, json!({}), csi);
        add_claim(&mut cluster, name, json!({"volumeName": name}));
    }
    let csi_node = |limit: i32| {
        let drivers = json!([{"name": "csi.example.com", "nodeID": "a", "allocatable": {"count": limit}}]);
        json!({"metadata": {"name": "a"}, "spec": {"drivers": drivers}})
    };
    let set = |cluster: &mut Cluster, limit: i32| {
        let node = serde_json::from_value(csi_node(limit)).expect("a CSI node");
        storage(cluster).set_node("a", Some(Arc::new(node)));
    };
    set(&mut cluster, 2);
    cluster.set_pod(&on_node(pod_json("x", spec(&["v1"])), "a"));
    assert_eq!(fits::<NodeVolumeLimits>(&mut cluster, &pod_info("p", spec(&["v2"]))), ["a", "b"]);
    assert_eq!(fits::<NodeVolumeLimits>(&mut cluster, &pod_info("p", spec(&["v2", "v3"]))), ["b"]);
    assert_eq!(fits::<NodeVolumeLimits>(&mut cluster, &pod_info("p", spec(&["v1", "v3"]))), ["a", "b"]);
    // What is attached counts, once.
    for (attached, expected) in [("v1", vec!["a", "b"]), ("v3", vec!["b"])] {
        let attachment = json!({"metadata": {"name": "at"}, "spec": {"attacher": "csi.example.com", "nodeName": "a",
            "source": {"persistentVolumeName": attached}}});
        let attachment = serde_json::from_value(attachment).expect("an attachment");
        storage(&mut cluster).set_attachment("at", Some(&attachment));
        assert_eq!(
            fits::<NodeVolumeLimits>(&mut cluster, &pod_info("p", spec(&["v2"]))),
            expected,
            "{attached}"
        );
    }
    // A claim without a volume counts for its class's driver.
    let class = json!({"metadata": {"name": "late"}, "provisioner": "csi.example.com"});
    storage(&mut cluster).set_class("late", Some(Arc::new(serde_json::from_value(class).expect("a class"))));
    add_claim(&mut cluster, "late", json!({"storageClassName": "late"}));
    assert_eq!(fits::<NodeVolumeLimits>(&mut cluster, &pod_info("p", spec(&["late"]))), ["b"]);
    let (two, three) = (csi_node(2), csi_node(3));
    let [two, three] = [two, three].map(|node| serde_json::from_value(node).expect("a CSI node"));
    let pod = pod_info("p", spec(&["v2"]));
    let helps = |old, new| plain::<NodeVolumeLimits>().is_helped_by(&pod, &Event::CsiNode { old, new });
    assert!(helps(Some(&two), &three) && helps(None, &two) && !helps(Some(&three), &two));
}
