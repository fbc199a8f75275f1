//! The queue under a clock of the test's.

use daemon::{Clock as _, SystemClock};
use serde_json::{Value, json};

use super::*;
use crate::testing::pod_info;

const SECOND: Duration = Duration::from_secs(1);

fn pod(name: &str, priority: i32) -> Arc<PodInfo> {
    pod_info(name, json!({"containers": [], "priority": priority}))
}

struct Clocked {
    queue: Queue,
    profiles: Vec<Profile>,
    now: Instant,
}

impl Clocked {
    fn new() -> Self {
        Self { queue: Queue::default(), profiles: vec![Profile::default()], now: SystemClock.monotonic() }
    }

    fn add(&mut self, pod: &Arc<PodInfo>) {
        self.queue.add(pod, 0, &self.profiles, self.now);
    }

    /// Takes the next pod only when its time has come.
    fn pop(&mut self) -> Option<String> {
        self.queue.advance(self.now);
        if self.queue.depths().active == 0 {
            return None;
        }
        self.queue.pop().map(|(pod, _)| pod.uid.clone())
    }

    fn refuse(&mut self, uid: &str, plugin: &str) {
        let mut plugins = PluginSet::default();
        plugins.insert(self.profiles[0].place_of(plugin).expect("a plugin"));
        self.queue.refused(uid, plugins, &self.profiles, self.now);
    }

    fn happened(&mut self, event: &Event<'_>) {
        self.queue.happened(event, &self.profiles, self.now, |_| true);
    }

    fn depths(&self) -> [usize; 4] {
        let depths = self.queue.depths();
        [depths.active, depths.backoff, depths.unschedulable, depths.gated]
    }
}

#[test]
fn priority_then_age() {
    let mut clocked = Clocked::new();
    for (name, priority) in [("a", 0), ("b", 5), ("c", 0), ("d", 5)] {
        clocked.add(&pod(name, priority));
    }
    let order: Vec<String> = std::iter::from_fn(|| clocked.pop()).collect();
    assert_eq!(order, ["b", "d", "a", "c"]);
}

#[test]
fn backoff_doubles_to_ten_seconds() {
    let mut clocked = Clocked::new();
    clocked.add(&pod("a", 0));
    for seconds in [1, 2, 4, 8, 10, 10] {
        assert_eq!(clocked.pop().as_deref(), Some("a"));
        clocked.queue.failed("a", clocked.now);
        assert_eq!(clocked.queue.next_due(), Some(clocked.now + SECOND * seconds));
        clocked.now += SECOND * seconds - SECOND / 2;
        assert_eq!(clocked.pop(), None);
        clocked.now += SECOND / 2;
    }
}

#[test]
fn a_refused_pod_waits_for_what_may_help() {
    let mut clocked = Clocked::new();
    clocked.add(&pod("a", 0));
    clocked.pop();
    clocked.refuse("a", "NodeResourcesFit");
    let gone = pod("gone", 0);
    clocked.happened(&Event::PodAdded(&gone));
    assert_eq!(clocked.depths(), [0, 0, 1, 0]);
    clocked.happened(&Event::PodRemoved(&gone));
    assert_eq!(clocked.depths(), [0, 1, 0, 0]);
    clocked.now += SECOND;
    assert_eq!(clocked.pop().as_deref(), Some("a"));
    clocked.refuse("a", "NodeName");
    clocked.now += SECOND * 299;
    clocked.happened(&Event::PodRemoved(&gone));
    assert_eq!(clocked.pop(), None);
    clocked.now += SECOND;
    assert_eq!(clocked.pop().as_deref(), Some("a"));
}

#[test]
fn an_idle_scheduler_does_not_wait_for_the_backoff_of_a_refusal() {
    let mut clocked = Clocked::new();
    clocked.add(&pod("a", 0));
    clocked.pop();
    clocked.refuse("a", "NodeResourcesFit");
    clocked.happened(&Event::PodRemoved(&pod("gone", 0)));
    assert_eq!(clocked.queue.pop().map(|(pod, _)| pod.uid.clone()).as_deref(), Some("a"));
    clocked.queue.failed("a", clocked.now);
    assert!(clocked.queue.pop().is_none(), "the backoff of a failure is kept");
}

#[test]
fn only_changes_that_matter_wake_a_pod() {
    let mut clocked = Clocked::new();
    let with = |more: Value| {
        let mut spec = json!({"containers": []});
        spec.as_object_mut().expect("a map").extend(more.as_object().expect("a map").clone());
        pod_info("a", spec)
    };
    clocked.add(&with(json!({})));
    clocked.pop();
    clocked.refuse("a", "TaintToleration");
    clocked.now += SECOND * 20;
    clocked.add(&with(json!({"terminationGracePeriodSeconds": 3})));
    assert_eq!(clocked.pop(), None);
    clocked.add(&with(json!({"tolerations": [{"operator": "Exists"}]})));
    assert_eq!(clocked.pop().as_deref(), Some("a"));
    clocked.queue.remove("a");
    clocked.queue.failed("a", clocked.now);
    assert_eq!(clocked.depths(), [0, 0, 0, 0]);
}

#[test]
fn gates_hold_a_pod_until_the_last_is_gone() {
    let mut clocked = Clocked::new();
    let gated = |gates: Value| pod_info("a", json!({"containers": [], "schedulingGates": gates}));
    clocked.add(&gated(json!([{"name": "x.io/one"}, {"name": "x.io/two"}])));
    assert_eq!((clocked.pop(), clocked.depths()), (None, [0, 0, 0, 1]));
    clocked.add(&gated(json!([{"name": "x.io/two"}])));
    assert_eq!(clocked.pop(), None);
    clocked.add(&gated(json!([])));
    assert_eq!(clocked.pop().as_deref(), Some("a"));
}

#[test]
fn a_pod_for_which_room_is_made_is_not_tried_meanwhile() {
    let mut clocked = Clocked::new();
    clocked.add(&pod("a", 0));
    clocked.pop();
    clocked.refuse("a", "NodeResourcesFit");
    clocked.queue.hold("a");
    clocked.now += SECOND * 5;
    clocked.happened(&Event::PodRemoved(&pod("gone", 0)));
    assert_eq!(clocked.pop(), None);
    clocked.queue.release("a", true, clocked.now);
    assert_eq!(clocked.pop().as_deref(), Some("a"));
    clocked.refuse("a", "NodeResourcesFit");
    clocked.queue.hold("a");
    clocked.queue.release("a", false, clocked.now);
    assert_eq!(clocked.pop().as_deref(), Some("a"), "it could not be made: back at once");
}
