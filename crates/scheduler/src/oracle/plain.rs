//! The rules once more, as plainly as possible: every question looks at every
//! node and every pod. Slow, without indexes, and not made from the same parts.

use std::collections::{BTreeMap, BTreeSet};

use api::types::core::v1::{Node, Pod, PodAffinityTerm, Taint, TopologySpreadConstraint};

type Labels = BTreeMap<String, String>;

/// All nodes and the pods on them.
#[derive(Default)]
pub(super) struct World {
    pub(super) nodes: BTreeMap<String, Node>,
    /// By uid; each says its node.
    pub(super) pods: BTreeMap<String, Pod>,
    pub(super) namespaces: BTreeMap<String, Labels>,
}

pub(super) fn labels(pod: &Pod) -> Labels {
    pod.metadata.labels.clone().unwrap_or_default()
}

fn namespace(pod: &Pod) -> String {
    pod.metadata.namespace.clone().unwrap_or_default()
}

fn label<'a>(node: &'a Node, key: &str) -> Option<&'a String> {
    node.metadata.labels.as_ref()?.get(key)
}

fn node_of(pod: &Pod) -> String {
    pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default()
}

fn is_leaving(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// What a pod's containers ask for, in thousandths of cores or bytes.
fn asks(pod: &Pod, resource: &str, usual: f64) -> f64 {
    let spec = pod.spec.clone().unwrap_or_default();
    let of = |container: &api::types::core::v1::Container| {
        let requests = container.resources.clone().unwrap_or_default().requests.unwrap_or_default();
        requests
            .get(resource)
            .map_or(usual, |text| api::Quantity::try_from(text).expect("a quantity").to_f64())
    };
    spec.containers.iter().map(of).sum::<f64>() * if resource == "cpu" { 1000.0 } else { 1.0 }
}

fn has(node: &Node, resource: &str) -> f64 {
    let map = node.status.clone().unwrap_or_default().allocatable.unwrap_or_default();
    let amount =
        map.get(resource).map_or(0.0, |text| api::Quantity::try_from(text).expect("a quantity").to_f64());
    amount * if resource == "cpu" { 1000.0 } else { 1.0 }
}

fn tolerates(pod: &Pod, taint: &Taint) -> bool {
    let tolerations = pod.spec.clone().unwrap_or_default().tolerations.unwrap_or_default();
    tolerations.iter().any(|one| {
        one.effect.as_ref().is_none_or(|effect| *effect == taint.effect)
            && one.key.as_ref().is_none_or(|key| *key == taint.key)
            && (one.operator.as_deref() == Some("Exists") || one.value == taint.value)
    })
}

fn taints(node: &Node) -> Vec<Taint> {
    node.spec.clone().unwrap_or_default().taints.unwrap_or_default()
}

fn is_kept_out(pod: &Pod, node: &Node) -> bool {
    taints(node).iter().any(|taint| taint.effect != "PreferNoSchedule" && !tolerates(pod, taint))
}

fn is_wanted(pod: &Pod, node: &Node) -> bool {
    let wanted = pod.spec.clone().unwrap_or_default().node_selector.unwrap_or_default();
    wanted.iter().all(|(key, value)| label(node, key) == Some(value))
}

/// Selectors of these tests have labels only.
fn selects(selector: Option<&api::metav1::LabelSelector>, labels: &Labels) -> bool {
    let Some(selector) = selector else { return false };
    selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value))
}

fn ports(pod: &Pod) -> BTreeSet<i32> {
    let spec = pod.spec.clone().unwrap_or_default();
    let ports = spec.containers.into_iter().flat_map(|container| container.ports.unwrap_or_default());
    ports.filter_map(|port| port.host_port).collect()
}

impl World {
    fn on<'a>(&'a self, node: &'a str) -> impl Iterator<Item = &'a Pod> {
        self.pods.values().filter(move |pod| node_of(pod) == node)
    }

    /// The plugin that refuses a node first.
    pub(super) fn refuses(&self, pod: &Pod, name: &str) -> Option<&'static str> {
        let node = &self.nodes[name];
        let is_closed = node.spec.clone().unwrap_or_default().unschedulable.unwrap_or(false);
        let taken = |resource: &str| self.on(name).map(|other| asks(other, resource, 0.0)).sum::<f64>();
        let is_short = |resource: &str| {
            let asked = asks(pod, resource, 0.0);
            asked > 0.0 && asked > has(node, resource) - taken(resource)
        };
        let is_full = self.on(name).count() + 1 > has(node, "pods") as usize;
        let clash = self.on(name).any(|other| !ports(pod).is_disjoint(&ports(other)));
        let closed = Taint {
            key: "node.kubernetes.io/unschedulable".to_owned(),
            effect: "NoSchedule".to_owned(),
            ..Taint::default()
        };
        let rules = [
            ("NodeUnschedulable", is_closed && !tolerates(pod, &closed)),
            ("TaintToleration", is_kept_out(pod, node)),
            ("NodeAffinity", !is_wanted(pod, node)),
            ("NodePorts", clash),
            ("NodeResourcesFit", is_full || ["cpu", "memory"].into_iter().any(is_short)),
            ("PodTopologySpread", !self.is_spread(pod, node)),
            ("InterPodAffinity", !self.keeps_terms(pod, node)),
        ];
        rules.into_iter().find(|(_, refuses)| *refuses).map(|(plugin, _)| plugin)
    }

    fn counts(&self, pod: &Pod, constraint: &TopologySpreadConstraint, on: &str) -> f64 {
        let counted = |other: &&Pod| {
            namespace(other) == namespace(pod)
                && !is_leaving(other)
                && selects(constraint.label_selector.as_ref(), &labels(other))
        };
        self.on(on).filter(counted).count() as f64
    }

    /// The pods of each domain, over the nodes that count.
    fn domains(
        &self,
        pod: &Pod,
        constraint: &TopologySpreadConstraint,
        keys: &[String],
    ) -> BTreeMap<String, f64> {
        let honors_taints = constraint.node_taints_policy.as_deref() == Some("Honor");
        let honors_affinity = constraint.node_affinity_policy.as_deref() != Some("Ignore");
        let mut domains = BTreeMap::new();
        for (name, node) in &self.nodes {
            let counts = keys.iter().all(|key| label(node, key).is_some())
                && (!honors_affinity || is_wanted(pod, node))
                && !(honors_taints && is_kept_out(pod, node));
            if let Some(value) = label(node, &constraint.topology_key).filter(|_| counts) {
                *domains.entry(value.clone()).or_default() += self.counts(pod, constraint, name);
            }
        }
        domains
    }

    fn is_spread(&self, pod: &Pod, node: &Node) -> bool {
        let constraints = constraints(pod, "DoNotSchedule");
        let keys: Vec<String> = constraints.iter().map(|one| one.topology_key.clone()).collect();
        constraints.iter().all(|constraint| {
            let Some(value) = label(node, &constraint.topology_key) else { return false };
            let domains = self.domains(pod, constraint, &keys);
            let mut fewest = domains.values().copied().fold(f64::from(i32::MAX), f64::min);
            if domains.len() < constraint.min_domains.unwrap_or(1) as usize {
                fewest = 0.0;
            }
            let own = f64::from(u8::from(selects(constraint.label_selector.as_ref(), &labels(pod))));
            let here = domains.get(value).copied().unwrap_or(0.0);
            here + own - fewest <= f64::from(constraint.max_skew)
        })
    }

    fn means(&self, term: &PodAffinityTerm, holder: &Pod, other: &Pod) -> bool {
        let mut named = term.namespaces.clone().unwrap_or_default();
        if named.is_empty() && term.namespace_selector.is_none() {
            named.push(namespace(holder));
        }
        let there = namespace(other);
        let space = self.namespaces.get(&there).cloned().unwrap_or_default();
        (named.contains(&there) || selects(term.namespace_selector.as_ref(), &space))
            && selects(term.label_selector.as_ref(), &labels(other))
    }

    /// Whether a pod is in the domain of a node.
    fn is_near(&self, other: &Pod, node: &Node, key: &str) -> bool {
        let there = self.nodes.get(&node_of(other)).and_then(|there| label(there, key));
        there.is_some() && there == label(node, key)
    }

    fn keeps_terms(&self, pod: &Pod, node: &Node) -> bool {
        let terms = terms(pod);
        let meant = |other: &Pod| terms.near.iter().all(|term| self.means(term, pod, other));
        let meant_pods: Vec<&Pod> = self.pods.values().filter(|other| meant(other)).collect();
        let is_near = terms.near.iter().all(|term| {
            label(node, &term.topology_key).is_some()
                && meant_pods.iter().any(|other| self.is_near(other, node, &term.topology_key))
        });
        let has_keys = terms.near.iter().all(|term| label(node, &term.topology_key).is_some());
        let has_place = |other: &&Pod| {
            let there = self.nodes.get(&node_of(other));
            there
                .is_some_and(|there| terms.near.iter().any(|term| label(there, &term.topology_key).is_some()))
        };
        let is_first = !meant_pods.iter().any(has_place) && meant(pod) && has_keys;
        let is_hated = |other: &Pod| {
            self::terms(other)
                .away
                .iter()
                .any(|term| self.means(term, other, pod) && self.is_near(other, node, &term.topology_key))
        };
        let hates = |other: &Pod| {
            terms
                .away
                .iter()
                .any(|term| self.means(term, pod, other) && self.is_near(other, node, &term.topology_key))
        };
        (is_near || is_first) && !self.pods.values().any(|other| is_hated(other) || hates(other))
    }

    /// The weighted scores of nodes that may take a pod.
    pub(super) fn scores(&self, pod: &Pod, names: &[String]) -> Vec<i64> {
        let each = |score: &dyn Fn(&str) -> f64| names.iter().map(|name| score(name)).collect::<Vec<f64>>();
        let disliked = each(&|name| {
            let disliked = |taint: &&Taint| taint.effect == "PreferNoSchedule" && !tolerates(pod, taint);
            taints(&self.nodes[name]).iter().filter(disliked).count() as f64
        });
        let most = disliked.iter().copied().fold(0.0, f64::max);
        let room = each(&|name| self.room(pod, name));
        let balance = each(&|name| self.balance(pod, name));
        let spread = self.spread_scores(pod, names);
        let near = self.near_scores(pod, names);
        let taint = |count: f64| if most == 0.0 { 100.0 } else { 100.0 - (100.0 * count / most).floor() };
        let total = |place: usize| {
            3.0 * taint(disliked[place])
                + room[place]
                + balance[place]
                + 2.0 * spread[place]
                + 2.0 * near[place]
        };
        (0..names.len()).map(|place| total(place) as i64).collect()
    }

    fn room(&self, pod: &Pod, name: &str) -> f64 {
        let free = |resource: &str, usual: f64| {
            let has = has(&self.nodes[name], resource);
            let taken: f64 = self.on(name).map(|other| asks(other, resource, usual)).sum();
            ((has - taken - asks(pod, resource, usual)).max(0.0) * 100.0 / has).floor()
        };
        ((free("cpu", 0.1) + free("memory", f64::from(200 << 20))) / 2.0).floor()
    }

    fn balance(&self, pod: &Pod, name: &str) -> f64 {
        if asks(pod, "cpu", 0.0) + asks(pod, "memory", 0.0) == 0.0 {
            return 0.0;
        }
        let share = |resource: &str, more: f64| {
            let taken: f64 = self.on(name).map(|other| asks(other, resource, 0.0)).sum();
            ((taken + more) / has(&self.nodes[name], resource)).min(1.0)
        };
        let even = |cpu: f64, memory: f64| ((1.0 - ((cpu - memory) / 2.0).abs()) * 100.0).trunc();
        let with = even(share("cpu", asks(pod, "cpu", 0.0)), share("memory", asks(pod, "memory", 0.0)));
        50.0 + ((50.0 + with - even(share("cpu", 0.0), share("memory", 0.0))) / 2.0).trunc()
    }

    fn spread_scores(&self, pod: &Pod, names: &[String]) -> Vec<f64> {
        let constraints = constraints(pod, "ScheduleAnyway");
        let keys: Vec<String> = constraints.iter().map(|one| one.topology_key.clone()).collect();
        let has_keys = |name: &&String| keys.iter().all(|key| label(&self.nodes[*name], key).is_some());
        let scored: Vec<&String> = names.iter().filter(has_keys).collect();
        if constraints.is_empty() {
            return vec![0.0; names.len()];
        }
        let raw = |name: &String| {
            let of = |constraint: &TopologySpreadConstraint| {
                let key = &constraint.topology_key;
                let values: BTreeSet<_> = scored.iter().map(|name| label(&self.nodes[*name], key)).collect();
                let by_host = key == "kubernetes.io/hostname";
                let size = if by_host { scored.len() } else { values.len() };
                let here = label(&self.nodes[name], key).expect("it has the key");
                let count = if by_host {
                    self.counts(pod, constraint, name)
                } else {
                    self.domains(pod, constraint, &keys).get(here).copied().unwrap_or(0.0)
                };
                count * ((size + 2) as f64).ln() + f64::from(constraint.max_skew - 1)
            };
            constraints.iter().map(of).sum::<f64>().round()
        };
        let raws: BTreeMap<&String, f64> = scored.iter().map(|name| (*name, raw(name))).collect();
        let most = raws.values().copied().fold(0.0, f64::max);
        let fewest = raws.values().copied().fold(f64::INFINITY, f64::min);
        let normal = |name: &String| match raws.get(name) {
            None => 0.0,
            Some(_) if most == 0.0 => 100.0,
            Some(raw) => (100.0 * (most + fewest - raw) / most).floor(),
        };
        names.iter().map(normal).collect()
    }

    fn near_scores(&self, pod: &Pod, names: &[String]) -> Vec<f64> {
        let own = terms(pod);
        let raw = |name: &String| {
            let node = &self.nodes[name];
            let mut sum = 0.0;
            for other in self.pods.values() {
                let theirs = terms(other);
                let near = |term: &PodAffinityTerm| self.is_near(other, node, &term.topology_key);
                for (weight, term) in &own.wishes {
                    sum += weight * f64::from(u8::from(self.means(term, pod, other) && near(term)));
                }
                let required = theirs.near.iter().map(|term| (1.0, term.clone()));
                for (weight, term) in theirs.wishes.iter().cloned().chain(required) {
                    sum += weight * f64::from(u8::from(self.means(&term, other, pod) && near(&term)));
                }
            }
            sum
        };
        let raws: Vec<f64> = names.iter().map(raw).collect();
        let lowest = raws.iter().copied().fold(f64::INFINITY, f64::min);
        let highest = raws.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let normal = |raw: &f64| {
            if highest > lowest { (100.0 * ((raw - lowest) / (highest - lowest))).trunc() } else { 0.0 }
        };
        raws.iter().map(normal).collect()
    }
}

fn constraints(pod: &Pod, kind: &str) -> Vec<TopologySpreadConstraint> {
    let all = pod.spec.clone().unwrap_or_default().topology_spread_constraints.unwrap_or_default();
    all.into_iter().filter(|one| one.when_unsatisfiable == kind).collect()
}

#[derive(Default)]
struct Terms {
    near: Vec<PodAffinityTerm>,
    away: Vec<PodAffinityTerm>,
    /// Preferred terms with their weights; negative: to be away.
    wishes: Vec<(f64, PodAffinityTerm)>,
}

fn terms(pod: &Pod) -> Terms {
    let affinity = pod.spec.clone().unwrap_or_default().affinity.unwrap_or_default();
    let (near, away) =
        (affinity.pod_affinity.unwrap_or_default(), affinity.pod_anti_affinity.unwrap_or_default());
    let likes = near.preferred_during_scheduling_ignored_during_execution.unwrap_or_default();
    let dislikes = away.preferred_during_scheduling_ignored_during_execution.unwrap_or_default();
    let likes = likes.into_iter().map(|one| (f64::from(one.weight), one.pod_affinity_term));
    let dislikes = dislikes.into_iter().map(|one| (-f64::from(one.weight), one.pod_affinity_term));
    Terms {
        near: near.required_during_scheduling_ignored_during_execution.unwrap_or_default(),
        away: away.required_during_scheduling_ignored_during_execution.unwrap_or_default(),
        wishes: likes.chain(dislikes).collect(),
    }
}
