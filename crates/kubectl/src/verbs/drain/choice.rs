//! Which of a node's pods are evicted, which stay, and which stand in the way.
//! Pure.

use std::collections::BTreeMap;

use api::Object;
use jiff::Timestamp;
use serde_json::Value;

/// What a command line allows.
pub(super) struct Rules<'a> {
    pub(super) force: bool,
    pub(super) ignore_daemon_sets: bool,
    pub(super) delete_empty_dirs: bool,
    /// Pods whose deletion is older than so many seconds are not waited for; 0: all are.
    pub(super) skip_deleted_for: i64,
    /// Daemon sets that pods name and that are not there.
    pub(super) missing_daemon_sets: &'a [(String, String)],
    pub(super) now: Timestamp,
}

/// The pods to evict, and what to say before.
#[derive(Debug, Default)]
pub(super) struct Choice {
    pub(super) pods: Vec<Object>,
    pub(super) warnings: String,
}

/// What becomes of one pod.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Evicted,
    EvictedWith(String),
    Left,
    LeftWith(String),
    InTheWay(String),
}

/// Chooses; what stands in the way of draining is an error.
pub(super) fn choose(pods: Vec<Object>, rules: &Rules<'_>) -> Result<Choice, String> {
    let (mut errors, mut warnings) = (BTreeMap::new(), BTreeMap::new());
    let mut choice = Choice::default();
    for pod in pods {
        let label = format!("{}/{}", pod.namespace(), pod.name());
        let note = |notes: &mut BTreeMap<String, Vec<String>>, why: String| {
            notes.entry(why).or_default().push(label.clone());
        };
        match fate(&pod, rules) {
            Fate::Evicted => choice.pods.push(pod),
            Fate::EvictedWith(why) => {
                note(&mut warnings, why);
                choice.pods.push(pod);
            }
            Fate::Left => {}
            Fate::LeftWith(why) => note(&mut warnings, why),
            Fate::InTheWay(why) => note(&mut errors, why),
        }
    }
    if !errors.is_empty() {
        let lines: Vec<String> =
            errors.iter().map(|(why, pods)| format!("cannot delete {why}: {}", pods.join(", "))).collect();
        return Err(match lines.as_slice() {
            [only] => only.clone(),
            several => format!("[{}]", several.join(", ")),
        });
    }
    let lines: Vec<String> =
        warnings.iter().map(|(why, pods)| format!("{why}: {}", pods.join(", "))).collect();
    choice.warnings = lines.join("; ");
    Ok(choice)
}

/// Upstream's filters keep only the last one's word: that a controlled pod is
/// taken, for whatever reason it might have stayed, is not warned of.
fn fate(pod: &Object, rules: &Rules<'_>) -> Fate {
    if is_long_deleted(pod, rules.skip_deleted_for, rules.now) {
        return Fate::Left;
    }
    let is_done = ["Succeeded", "Failed"].contains(&pod.text(&["status", "phase"]));
    if let Some(set) = daemon_set_of(pod).filter(|_| !is_done) {
        if rules.missing_daemon_sets.contains(&set) {
            if !rules.force {
                return Fate::InTheWay(format!("daemonsets.apps {:?} not found", set.1));
            }
        } else if rules.ignore_daemon_sets {
            return Fate::LeftWith("ignoring DaemonSet-managed Pods".into());
        } else {
            return Fate::InTheWay("DaemonSet-managed Pods (use --ignore-daemonsets to ignore)".into());
        }
    }
    if pod.annotation("kubernetes.io/config.mirror").is_some() {
        return Fate::Left;
    }
    if is_done {
        return Fate::Evicted;
    }
    let volumes = pod.at(&["spec", "volumes"]).and_then(Value::as_array);
    let is_local = volumes.into_iter().flatten().any(|volume| volume.get("emptyDir").is_some());
    if is_local && !rules.delete_empty_dirs {
        return Fate::InTheWay("Pods with local storage (use --delete-emptydir-data to override)".into());
    }
    match (pod.owner_references().any(|owner| owner.controller), rules.force) {
        (true, _) => Fate::Evicted,
        (false, true) => Fate::EvictedWith("deleting Pods that declare no controller".into()),
        (false, false) => Fate::InTheWay("Pods that declare no controller (use --force to override)".into()),
    }
}

/// The daemon set that controls a pod.
pub(super) fn daemon_set_of(pod: &Object) -> Option<(String, String)> {
    let owner = pod.owner_references().find(|owner| owner.controller)?;
    (owner.kind == "DaemonSet").then(|| (pod.namespace().to_owned(), owner.name.to_owned()))
}

/// Whether a pod was deleted longer than so many seconds ago.
pub(super) fn is_long_deleted(pod: &Object, seconds: i64, now: Timestamp) -> bool {
    let deleted = pod.deletion_timestamp().and_then(api::time::parse);
    seconds > 0 && deleted.is_some_and(|deleted| now.as_second() - deleted.as_second() > seconds)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rules(missing: &[(String, String)]) -> Rules<'_> {
        Rules {
            force: false,
            ignore_daemon_sets: false,
            delete_empty_dirs: false,
            skip_deleted_for: 0,
            missing_daemon_sets: missing,
            now: api::time::parse("2026-01-01T00:01:00Z").expect("time"),
        }
    }

    fn pod(name: &str, owner: &str, volume: &str) -> Object {
        let owners = if owner.is_empty() {
            json!([])
        } else {
            json!([{"apiVersion": "apps/v1", "kind": owner, "name": "o", "uid": "u", "controller": true}])
        };
        Object::from_value(json!({"metadata": {"name": name, "namespace": "d", "ownerReferences": owners},
            "spec": {"volumes": [{"name": "v", volume: {}}]}, "status": {"phase": "Running"}}))
        .expect("pod")
    }

    #[test]
    fn pods_are_chosen() {
        let all = || {
            vec![
                pod("a", "ReplicaSet", "x"),
                pod("b", "DaemonSet", "x"),
                pod("c", "", "x"),
                pod("d", "ReplicaSet", "emptyDir"),
            ]
        };
        let why = choose(all(), &rules(&[])).expect_err("in the way");
        assert_eq!(
            why,
            "[cannot delete DaemonSet-managed Pods (use --ignore-daemonsets to ignore): d/b, cannot delete Pods that \
             declare no controller (use --force to override): d/c, cannot delete Pods with local storage (use \
             --delete-emptydir-data to override): d/d]"
        );
        let allowed = Rules { force: true, ignore_daemon_sets: true, delete_empty_dirs: true, ..rules(&[]) };
        let choice = choose(all(), &allowed).expect("chosen");
        let names: Vec<&str> = choice.pods.iter().map(Object::name).collect();
        assert_eq!(names, ["a", "c", "d"]);
        assert_eq!(
            choice.warnings,
            "deleting Pods that declare no controller: d/c; ignoring DaemonSet-managed Pods: d/b"
        );
    }

    #[test]
    fn orphans_of_daemon_sets_are_forced_only() {
        let missing = [("d".to_owned(), "o".to_owned())];
        assert!(choose(vec![pod("a", "DaemonSet", "x")], &rules(&missing)).is_err());
        let forced = Rules { force: true, ..rules(&missing) };
        assert_eq!(choose(vec![pod("a", "DaemonSet", "x")], &forced).expect("chosen").pods.len(), 1);
    }

    #[test]
    fn pods_that_need_nothing_are_left_or_taken() {
        let mut mirror = pod("m", "", "x");
        mirror.set_at(&["metadata", "annotations", "kubernetes.io/config.mirror"], "hash");
        let mut done = pod("s", "", "emptyDir");
        done.set_at(&["status", "phase"], "Succeeded");
        let mut deleted = pod("x", "", "x");
        deleted.set_at(&["metadata", "deletionTimestamp"], "2026-01-01T00:00:00Z");
        let rules = Rules { skip_deleted_for: 30, ..rules(&[]) };
        let choice = choose(vec![mirror, done, deleted], &rules).expect("chosen");
        assert_eq!(choice.pods.iter().map(Object::name).collect::<Vec<_>>(), ["s"]);
    }
}
