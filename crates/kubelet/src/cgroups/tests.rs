//! Both interfaces on recorded trees: directories that look like the kernel's.

use std::path::Path;

use super::limits::{oom_score_adj, quota, shares, weight};
use super::*;

fn pod(resources: &serde_json::Value) -> Pod {
    serde_json::from_value(serde_json::json!({
        "metadata": {"name": "p", "namespace": "n", "uid": "u-1"},
        "spec": {"containers": [{"name": "c", "resources": resources}]}
    }))
    .expect("a pod")
}

fn v2_tree(mount: &Path) {
    std::fs::write(mount.join("cgroup.controllers"), "cpuset cpu io memory pids\n").expect("write");
}

/// In a real tree the kernel makes these files with the directory.
fn fill_v2(group: &Path) {
    for (file, text) in [
        ("cgroup.controllers", "cpu memory pids\n"),
        ("cpu.weight", "100\n"),
        ("cpu.max", "max 100000\n"),
        ("memory.max", "max\n"),
        ("memory.current", "5000000\n"),
        ("memory.stat", "anon 3000000\nfile 2000000\ninactive_file 1500000\npgfault 42\npgmajfault 7\n"),
        ("memory.events", "low 0\nhigh 0\nmax 3\noom 1\noom_kill 1\n"),
        ("cpu.stat", "usage_usec 1234\nuser_usec 1000\nsystem_usec 234\n"),
        ("pids.current", "3\n"),
    ] {
        std::fs::write(group.join(file), text).expect("write");
    }
}

#[test]
fn second_version() {
    let dir = tempfile::tempdir().expect("temp dir");
    v2_tree(dir.path());
    let groups = Cgroups::detect(dir.path(), "/test-node/");
    assert_eq!(groups.version(), Version::V2);
    let pod =
        pod(&serde_json::json!({"requests": {"cpu": "500m"}, "limits": {"cpu": "1", "memory": "64Mi"}}));
    let group = groups.of_pod("u-1", QosClass::Burstable);
    assert_eq!(group, "/test-node/kubepods/burstable/podu-1");
    // Lay the directories as the kernel would fill them, level by level.
    let mut path = dir.path().to_owned();
    for part in group.split('/').filter(|part| !part.is_empty()) {
        path.push(part);
        std::fs::create_dir(&path).expect("mkdir");
        fill_v2(&path);
    }
    groups.ensure_pod(&pod).expect("ensure");
    let read = |file| std::fs::read_to_string(path.join(file)).expect("read");
    assert_eq!(read("cpu.weight"), weight(512).to_string());
    assert_eq!(read("cpu.max"), "100000 100000");
    assert_eq!(read("memory.max"), (64 << 20).to_string());
    assert_eq!(std::fs::read_to_string(dir.path().join("cgroup.subtree_control")).expect("read"), "+pids");
    let usage = groups.usage(&group).expect("usage");
    assert_eq!((usage.cpu_nanoseconds, usage.working_set, usage.oom_kills), (1_234_000, 3_500_000, 1));
    assert_eq!(groups.pods(), ["u-1"]);
}

#[test]
fn first_version() {
    let dir = tempfile::tempdir().expect("temp dir");
    for controller in ["cpu", "cpuacct", "memory", "pids", "devices"] {
        std::fs::create_dir(dir.path().join(controller)).expect("mkdir");
    }
    let groups = Cgroups::detect(dir.path(), "");
    assert_eq!(groups.version(), Version::V1);
    let pod = pod(&serde_json::json!({"limits": {"cpu": "250m", "memory": "1Gi"}}));
    groups.ensure_tree().expect("tree");
    let memory = dir.path().join("memory/kubepods/podu-1");
    groups.ensure_pod(&pod).expect("ensure");
    assert!(memory.is_dir(), "a guaranteed pod is directly below kubepods");
    std::fs::write(memory.join("memory.limit_in_bytes"), "").expect("write");
    std::fs::write(memory.join("memory.usage_in_bytes"), "100\n").expect("write");
    std::fs::write(memory.join("memory.stat"), "rss 1\ntotal_inactive_file 30\ntotal_rss 60\n")
        .expect("write");
    groups.ensure_pod(&pod).expect("again");
    let limit = std::fs::read_to_string(memory.join("memory.limit_in_bytes")).expect("read");
    assert_eq!(limit, (1_u64 << 30).to_string());
    let usage = groups.usage("/kubepods/podu-1").expect("usage");
    assert_eq!((usage.working_set, usage.resident), (70, 60));
    for file in ["memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat"] {
        std::fs::remove_file(memory.join(file)).expect("the kernel's files vanish by themselves");
    }
    groups.remove_pod("u-1").expect("remove");
    assert!(!memory.exists());
    groups.remove_pod("u-1").expect("remove again");
}

#[test]
fn numbers() {
    assert_eq!((shares(0), shares(1000), shares(1)), (2, 1024, 2));
    assert_eq!((weight(2), weight(1024), weight(262_144)), (1, 39, 10_000));
    assert_eq!((quota(1), quota(1500)), (1_000, 150_000));
}

#[test]
fn sums_of_containers() {
    let pod: Pod = serde_json::from_value(serde_json::json!({
        "metadata": {"uid": "u"},
        "spec": {
            "initContainers": [
                {"name": "big", "resources": {"limits": {"memory": "300"}}},
                {"name": "side", "restartPolicy": "Always", "resources": {"limits": {"memory": "50"}}},
                {"name": "late", "resources": {"limits": {"memory": "280"}}}
            ],
            "containers": [
                {"name": "a", "resources": {"limits": {"memory": "100"}}},
                {"name": "b", "resources": {"limits": {"memory": "100"}}}
            ]
        }
    }))
    .expect("a pod");
    let settings = limits::of_pod(&pod, Version::V2);
    let memory = settings.iter().find(|setting| setting.file == "memory.max").expect("memory");
    assert_eq!(memory.value, "330", "the last init container runs beside the sidecar");
}

#[test]
fn oom_scores() {
    let score = |resources: serde_json::Value| {
        let pod = pod(&resources);
        oom_score_adj(&pod, &crate::pod::spec(&pod).containers[0], 1000)
    };
    assert_eq!(score(serde_json::json!({})), 1000);
    assert_eq!(score(serde_json::json!({"limits": {"cpu": "1", "memory": "10"}})), -997);
    assert_eq!(score(serde_json::json!({"requests": {"memory": "250"}})), 750);
    assert_eq!(score(serde_json::json!({"requests": {"memory": "1000"}})), 3);
}
