//! Servers of others that have a say: about nodes, scores, victims and bindings.
//! The protocol is upstream's; extenders are asked one after the other.

mod http;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail, ensure};

use self::http::Server;
use self::wire::{Args, BindingArgs, BindingResult, FilterResult, HostPriority, MetaPod, NodeList};
use self::wire::{PreemptionArgs, PreemptionResult, Victims};
use crate::config::Configuration;
use crate::config::file;
use crate::objection::{Objection, Reason, Refusal};
use crate::plugins::MAX_SCORE;
use crate::pod::PodInfo;
use crate::preemption::Candidate;
use crate::resources::is_extended;
use crate::schedule::Fitting;
use crate::snapshot::{NodeInfo, Snapshot};

/// The name under which extenders refuse nodes.
pub const NAME: &str = "Extender";
/// The best score of an extender.
const BEST: i64 = 10;

/// A server that has a say.
pub struct Extender {
    server: Server,
    filter: String,
    prioritize: String,
    preempt: String,
    bind: String,
    weight: i64,
    follows_nodes: bool,
    managed: BTreeSet<String>,
    is_ignorable: bool,
}

/// The extenders of a configuration.
///
/// # Errors
/// What cannot be done, where it stands, and what to write instead.
pub fn extenders(configuration: &Configuration) -> anyhow::Result<Vec<Arc<Extender>>> {
    let mut managed = BTreeSet::new();
    let mut extenders = Vec::new();
    for (place, given) in configuration.extenders.iter().enumerate() {
        let extender = Extender::new(given).with_context(|| format!("extenders[{place}]"))?;
        for name in &extender.managed {
            ensure!(managed.insert(name.clone()), "extenders[{place}]: {name} has another extender already");
        }
        extenders.push(Arc::new(extender));
    }
    let binders = extenders.iter().filter(|extender| !extender.bind.is_empty()).count();
    ensure!(binders <= 1, "extenders: only one may have a bindVerb");
    Ok(extenders)
}

impl Extender {
    fn new(given: &file::Extender) -> anyhow::Result<Self> {
        if !given.prioritize_verb.is_empty() && given.weight <= 0 {
            bail!("a prioritizeVerb needs a positive weight");
        }
        for resource in &given.managed_resources {
            ensure!(
                is_extended(&resource.name),
                "managedResources: {:?} is no extended resource",
                resource.name
            );
        }
        Ok(Self {
            server: Server::new(given)?,
            filter: given.filter_verb.clone(),
            prioritize: given.prioritize_verb.clone(),
            preempt: given.preempt_verb.clone(),
            bind: given.bind_verb.clone(),
            weight: given.weight,
            follows_nodes: given.node_cache_capable,
            managed: given.managed_resources.iter().map(|resource| resource.name.clone()).collect(),
            is_ignorable: given.ignorable,
        })
    }

    fn is_interested(&self, pod: &PodInfo) -> bool {
        self.managed.is_empty() || pod.requests.asked.present().any(|(name, _)| self.managed.contains(name))
    }

    fn args<'a>(&self, pod: &'a PodInfo, nodes: &[&'a NodeInfo]) -> Args<'a> {
        let names = || nodes.iter().map(|node| &*node.name).collect();
        let whole = || NodeList { items: nodes.iter().map(|node| &*node.node).collect() };
        Args {
            pod: &pod.pod,
            nodes: (!self.follows_nodes).then(whole),
            node_names: self.follows_nodes.then(names),
        }
    }

    /// Takes nodes out that the extender refuses.
    async fn narrow(&self, pod: &PodInfo, found: &mut Fitting<'_>) -> anyhow::Result<()> {
        let result: FilterResult = self.server.ask(&self.filter, &self.args(pod, &found.nodes)).await?;
        ensure!(result.error.is_empty(), "{}", result.error);
        let kept: BTreeSet<String> = match (result.node_names, result.nodes) {
            (Some(names), _) if self.follows_nodes => names.into_iter().collect(),
            (_, Some(nodes)) => nodes.items.into_iter().filter_map(|node| node.metadata.name).collect(),
            _ => BTreeSet::new(),
        };
        let is_known = |name: &&String| found.nodes.iter().any(|node| *node.name == ***name);
        if let Some(name) = kept.iter().find(|name| !is_known(name)) {
            bail!("the extender {} names the node {name:?}, which it was not asked about", self.server.url());
        }
        let lasting = result.failed_and_unresolvable_nodes.unwrap_or_default();
        let passing = result.failed_nodes.unwrap_or_default();
        for node in found.nodes.iter().filter(|node| !kept.contains(&*node.name)) {
            let told = lasting.get(&*node.name).or_else(|| passing.get(&*node.name)).cloned();
            let reason = Reason { text: told.unwrap_or_default().into(), shortage: None };
            let objection =
                Objection { reasons: vec![reason], can_be_evicted_away: !lasting.contains_key(&*node.name) };
            let refusal = Arc::new(Refusal { plugin: NAME, objection });
            found.diagnosis.refusals.push((Arc::clone(&node.name), refusal));
        }
        found.nodes.retain(|node| kept.contains(&*node.name));
        Ok(())
    }

    /// The extender's scores of nodes, in our range, weighted.
    async fn scores(&self, pod: &PodInfo, nodes: &[&NodeInfo]) -> anyhow::Result<BTreeMap<String, i64>> {
        let list: Vec<HostPriority> = self.server.ask(&self.prioritize, &self.args(pod, nodes)).await?;
        let scaled = |one: HostPriority| (one.host, one.score * self.weight * (MAX_SCORE / BEST));
        Ok(list.into_iter().map(scaled).collect())
    }

    async fn judge(
        &self,
        pod: &PodInfo,
        snapshot: &Snapshot,
        candidates: &[Candidate],
    ) -> anyhow::Result<Vec<Candidate>> {
        let uids = |candidate: &Candidate| {
            candidate.victims.iter().map(|victim| MetaPod { uid: victim.uid.clone() }).collect()
        };
        let meta = candidates
            .iter()
            .map(|one| (&*one.node, Victims { pods: uids(one), violations: one.violations }));
        let whole = candidates.iter().map(|one| {
            let pods = one.victims.iter().map(|victim| &*victim.pod).collect();
            (&*one.node, Victims { pods, violations: one.violations })
        });
        let args = PreemptionArgs {
            pod: &pod.pod,
            node_name_to_victims: (!self.follows_nodes).then(|| whole.collect()),
            node_name_to_meta_victims: self.follows_nodes.then(|| meta.collect()),
        };
        let result: PreemptionResult = self.server.ask(&self.preempt, &args).await?;
        let mut kept = Vec::new();
        for (name, victims) in result.node_name_to_meta_victims {
            if victims.pods.is_empty() {
                ensure!(self.is_ignorable, "expected at least one victim pod on node {name:?}");
                continue;
            }
            let node = snapshot.node(&name).ok_or_else(|| anyhow!("there is no node {name:?}"))?;
            let find = |one: &MetaPod| {
                let pod = node.pods.iter().find(|pod| pod.uid == one.uid).cloned();
                pod.ok_or_else(|| anyhow!("there is no pod {} on node {name:?}", one.uid))
            };
            let pods = victims.pods.iter().map(find).collect::<anyhow::Result<Vec<_>>>()?;
            let node = Arc::clone(&node.name);
            kept.push(Candidate { node, victims: pods, violations: victims.violations });
        }
        Ok(kept)
    }
}

/// Lets extenders refuse nodes and add to scores.
///
/// # Errors
/// An extender that must not be ignored cannot be asked.
pub async fn consult(
    extenders: &[Arc<Extender>],
    pod: &PodInfo,
    found: &mut Fitting<'_>,
) -> anyhow::Result<()> {
    let interested = || extenders.iter().filter(|extender| extender.is_interested(pod));
    for extender in interested().filter(|extender| !extender.filter.is_empty()) {
        if found.nodes.is_empty() {
            break;
        }
        match extender.narrow(pod, found).await {
            Err(error) if extender.is_ignorable => {
                tracing::info!(error = format!("{error:#}"), "an extender is skipped");
            }
            narrowed => narrowed?,
        }
    }
    if found.nodes.len() < 2 {
        return Ok(());
    }
    let mut extra = vec![0; found.nodes.len()];
    for extender in interested().filter(|extender| !extender.prioritize.is_empty()) {
        match extender.scores(pod, &found.nodes).await {
            Ok(scores) => {
                for (sum, node) in extra.iter_mut().zip(&found.nodes) {
                    *sum += scores.get(&*node.name).copied().unwrap_or(0);
                }
            }
            // Scores are wishes, whoever has them.
            Err(error) => tracing::info!(error = format!("{error:#}"), "an extender gives no scores"),
        }
    }
    found.extra = extra;
    Ok(())
}

/// Lets extenders take candidates for preemption out, or name other victims.
///
/// # Errors
/// An extender that must not be ignored cannot be asked.
pub async fn judge(
    extenders: &[Arc<Extender>],
    pod: &PodInfo,
    snapshot: &Snapshot,
    mut candidates: Vec<Candidate>,
) -> anyhow::Result<Vec<Candidate>> {
    let judging = |extender: &&Arc<Extender>| !extender.preempt.is_empty() && extender.is_interested(pod);
    for extender in extenders.iter().filter(judging) {
        if candidates.is_empty() {
            break;
        }
        match extender.judge(pod, snapshot, &candidates).await {
            Ok(kept) => candidates = kept,
            Err(error) if extender.is_ignorable => {
                tracing::info!(error = format!("{error:#}"), "an extender is skipped");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(candidates)
}

/// Lets an extender bind a pod, if one wants to; `None`: none does.
pub async fn bind(extenders: &[Arc<Extender>], pod: &PodInfo, node: &str) -> Option<anyhow::Result<()>> {
    let binding = |extender: &&Arc<Extender>| !extender.bind.is_empty() && extender.is_interested(pod);
    let extender = extenders.iter().find(binding)?;
    let args =
        BindingArgs { pod_name: &pod.key.name, pod_namespace: pod.namespace(), pod_uid: &pod.uid, node };
    let answer = extender.server.ask::<BindingResult>(&extender.bind, &args).await;
    match answer {
        Ok(result) if result.error.is_empty() => Some(Ok(())),
        Ok(result) => Some(Err(anyhow!(result.error))),
        Err(error) if extender.is_ignorable => {
            tracing::info!(error = format!("{error:#}"), "an extender does not bind; it is done without it");
            None
        }
        Err(error) => Some(Err(error)),
    }
}
