//! Configuration files, and what they are refused for.

use std::time::Duration;

use super::*;
use crate::profile::Profile;

fn read(text: &str) -> anyhow::Result<Configuration> {
    let text =
        format!("apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n{text}");
    Ok(Configuration::parse(&text)?.expect("a scheduler's configuration"))
}

fn made(text: &str) -> Vec<Profile> {
    profiles(&read(text).expect("it is read")).unwrap_or_else(|error| panic!("{error:#}"))
}

fn complaint(text: &str) -> String {
    match read(text).and_then(|configuration| profiles(&configuration).map(drop)) {
        Ok(()) => String::new(),
        Err(error) => format!("{error:#}"),
    }
}

fn names(profile: &Profile) -> (Vec<&'static str>, Vec<(&'static str, i64)>) {
    let scores = profile.scores.iter().map(|score| (score.name, score.weight));
    (profile.filters.iter().map(|filter| filter.name).collect(), scores.collect())
}

#[test]
fn leader_election_is_on_unless_switched_off() {
    let settings = |more: &[&str], file: &str| {
        let base = ["kube-scheduler", "--kubeconfig=k"];
        let flags = Flags::try_parse_from(base.iter().chain(more)).expect("parses");
        Settings { flags, file: read(file).expect("it is read") }
    };
    let elects = |more: &[&str], file: &str| settings(more, file).election().is_some();
    assert!(elects(&[], "") && elects(&["--leader-elect"], "") && elects(&["--leader-elect=true"], ""));
    assert!(!elects(&["--leader-elect=false"], ""));
    let off = "leaderElection: {leaderElect: false}";
    assert!(!elects(&[], off) && elects(&["--leader-elect=true"], off), "a flag wins over the file");
    let file = "leaderElection: {resourceName: mine, leaseDuration: 1m30s}";
    let election = settings(&[], file).election().expect("an election");
    assert_eq!((election.name.as_str(), election.lease), ("mine", Duration::from_secs(90)));
}

#[test]
fn the_kubeconfig_comes_from_either_side() {
    let settings = |more: &[&str], file: &str| {
        let flags = Flags::try_parse_from(["kube-scheduler"].iter().chain(more)).expect("parses");
        Settings { flags, file: read(file).expect("it is read") }
    };
    let file = "clientConnection: {kubeconfig: /f, qps: 50, burst: 100}";
    assert_eq!(settings(&[], file).kubeconfig().expect("a path"), Path::new("/f"));
    assert_eq!(settings(&["--kubeconfig=/k"], file).kubeconfig().expect("a path"), Path::new("/k"));
    assert!(settings(&[], "").kubeconfig().is_err());
}

#[test]
fn the_last_config_flag_counts() {
    let path = |arguments: &[&str]| {
        let arguments: Vec<String> = arguments.iter().map(|one| (*one).to_owned()).collect();
        config_path(&arguments).map(str::to_owned)
    };
    assert_eq!(path(&["s", "--config", "a"]).as_deref(), Some("a"));
    assert_eq!(path(&["s", "--config=b"]).as_deref(), Some("b"));
    assert_eq!(path(&["s", "--kubeconfig=b"]), None);
}

#[test]
fn files_of_flags_are_not_ours() {
    assert!(Configuration::parse("kubeconfig: k").expect("it is read").is_none());
    assert!(Configuration::parse("").expect("it is read").is_none());
}

#[test]
fn without_profiles_there_is_the_default_one() {
    let profiles = made("");
    let [profile] = profiles.as_slice() else { panic!("{} profiles", profiles.len()) };
    assert_eq!(profile.name, "default-scheduler");
    assert_eq!(names(profile), names(&Profile::default()));
    assert!(profile.keeps_gates && profile.preemption.is_some());
}

#[test]
fn several_schedulers_by_name() {
    let profiles = made(
        "percentageOfNodesToScore: 30\nprofiles:\n- schedulerName: one\n- schedulerName: two\n  percentageOfNodesToScore: 70\n",
    );
    let names: Vec<_> = profiles.iter().map(|one| (one.name.as_str(), one.percentage)).collect();
    assert_eq!(names, [("one", 30), ("two", 70)]);
    assert!(complaint("profiles: [{schedulerName: a}, {schedulerName: a}]").contains("a is there twice"));
    assert!(complaint("profiles: [{schedulerName: a}, {}]").contains("schedulerName is missing"));
}

#[test]
fn scores_are_switched_off_and_weighted() {
    let profiles = made(
        "profiles:\n- plugins:\n    score:\n      disabled: [{name: ImageLocality}, {name: PodTopologySpread}]\n      \
         enabled: [{name: NodeResourcesFit, weight: 9}]\n",
    );
    let (filters, scores) = names(&profiles[0]);
    assert_eq!(filters, names(&Profile::default()).0);
    assert_eq!(
        scores,
        [
            ("NodeResourcesFit", 9),
            ("TaintToleration", 3),
            ("NodeAffinity", 2),
            ("InterPodAffinity", 2),
            ("NodeResourcesBalancedAllocation", 1),
        ]
    );
}

#[test]
fn all_can_be_switched_off_and_some_on_again() {
    let profiles = made(
        "profiles:\n- plugins:\n    multiPoint:\n      disabled: [{name: '*'}]\n      \
         enabled: [{name: PrioritySort}, {name: DefaultBinder}, {name: NodeResourcesFit, weight: 5}]\n",
    );
    let profile = &profiles[0];
    assert_eq!(names(profile), (vec!["NodeResourcesFit"], vec![("NodeResourcesFit", 5)]));
    assert!(!profile.keeps_gates && profile.preemption.is_none());
    let profiles = made("profiles:\n- plugins:\n    multiPoint: {enabled: [{name: NodeAffinity}]}\n");
    // Without a weight it is one, and it keeps its place.
    assert_eq!(names(&profiles[0]).1[1], ("NodeAffinity", 1));
}

#[test]
fn arguments_reach_their_plugins() {
    let profiles = made(
        "profiles:\n- pluginConfig:\n  - name: DefaultPreemption\n    args:\n      \
         apiVersion: kubescheduler.config.k8s.io/v1\n      kind: DefaultPreemptionArgs\n      \
         minCandidateNodesPercentage: 7\n      minCandidateNodesAbsolute: 3\n",
    );
    let preemption = profiles[0].preemption.expect("it preempts");
    assert_eq!((preemption.min_percentage, preemption.min_absolute), (7, 3));
}

#[test]
fn what_cannot_be_done_is_refused_with_what_to_do() {
    let plugins = |sets: &str| format!("profiles: [{{plugins: {sets}}}]");
    let args =
        |name: &str, args: &str| format!("profiles: [{{pluginConfig: [{{name: {name}, args: {args}}}]}}]");
    for (text, words) in [
        ("odd: 1".to_owned(), "unknown field `odd`"),
        ("parallelism: 0".to_owned(), "greater than zero"),
        ("percentageOfNodesToScore: 101".to_owned(), "not in 0 to 100"),
        ("podInitialBackoffSeconds: 20".to_owned(), "podMaxBackoffSeconds"),
        ("podInitialBackoffSeconds: 0".to_owned(), "greater than zero"),
        ("leaderElection: {resourceLock: endpoints}".to_owned(), "write leases"),
        ("leaderElection: {leaseDuration: 15}".to_owned(), "invalid type"),
        ("leaderElection: {leaseDuration: soon}".to_owned(), "write 15s"),
        (plugins("{score: {enabled: [{name: Odd}]}}"), "there is no plugin \"Odd\""),
        (plugins("{filter: {disabled: [{name: Odd}]}}"), "to disable"),
        (plugins("{filter: {enabled: [{name: ImageLocality}]}}"), "does nothing here"),
        (plugins("{score: {enabled: [{name: ImageLocality}, {name: ImageLocality}]}}"), "enabled twice"),
        (plugins("{score: {enabled: [{name: ImageLocality, weight: -1}]}}"), "positive"),
        (plugins("{queueSort: {disabled: [{name: '*'}]}}"), "enable PrioritySort"),
        (plugins("{bind: {disabled: [{name: DefaultBinder}]}}"), "enable DefaultBinder"),
        (plugins("{preFilter: {disabled: [{name: NodePorts}]}}"), "disable NodePorts at filter too"),
        (plugins("{odd: {}}"), "unknown field `odd`"),
        (args("Odd", "{}"), "there is no plugin \"Odd\""),
        (args("NodePorts", "{odd: 1}"), "unknown field `odd`"),
        (args("NodePorts", "{kind: OddArgs}"), "write NodePortsArgs"),
        (args("DefaultPreemption", "{minCandidateNodesPercentage: 101}"), "not in 0 to 100"),
        (
            args("DefaultPreemption", "{minCandidateNodesPercentage: 0, minCandidateNodesAbsolute: 0}"),
            "one of them",
        ),
    ] {
        assert!(complaint(&text).contains(words), "{text}: {}", complaint(&text));
    }
    let other = "apiVersion: kubescheduler.config.k8s.io/v1beta3\nkind: KubeSchedulerConfiguration\n";
    let words = format!("{:#}", Configuration::parse(other).expect_err("an old version"));
    assert!(words.contains("write kubescheduler.config.k8s.io/v1"), "{words}");
}
