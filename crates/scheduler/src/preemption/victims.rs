//! Which pods of a node would have to go.

use std::cmp::Reverse;
use std::sync::Arc;

use jiff::Timestamp;

use super::{Candidate, NAME};
use crate::checks::Checks;
use crate::objection::{Objection, Refusal};
use crate::plugins::Shift;
use crate::pod::PodInfo;
use crate::snapshot::{NodeInfo, Snapshot};

/// More important pods have smaller ranks: by priority, then by age.
pub(super) fn rank(pod: &PodInfo) -> (Reverse<i32>, Timestamp) {
    (Reverse(pod.priority), pod.started.unwrap_or(Timestamp::MAX))
}

/// The fewest pods that must go from a node for a pod to fit, sparing those
/// first whose end would break a budget, then the most important.
///
/// # Errors
/// Why the pod does not fit even when all less important pods are gone.
pub(super) fn victims(
    pod: &PodInfo,
    snapshot: &Snapshot,
    checks: &Checks,
    node: &NodeInfo,
) -> Result<Candidate, Refusal> {
    let lesser = |other: &&Arc<PodInfo>| other.priority < pod.priority;
    let mut threatened: Vec<Arc<PodInfo>> = node.pods.iter().filter(lesser).cloned().collect();
    if threatened.is_empty() {
        let objection = Objection::lasting("No preemption victims found for incoming pod");
        return Err(Refusal { plugin: NAME, objection });
    }
    let mut trial = Trial { pod, snapshot, checks: checks.copy(), node: node.clone() };
    trial.remove_lesser(&threatened);
    trial.fits()?;
    trial.checks.keep_those_that_look_at_pods();
    threatened.sort_by_key(|one| rank(one));
    let broken = snapshot.budgets.are_broken_by(threatened.iter().map(Arc::as_ref));
    let (mut victims, mut violations) = (Vec::new(), 0);
    for breaks in [true, false] {
        for (one, _) in threatened.iter().zip(&broken).filter(|(_, broken)| **broken == breaks) {
            if !trial.spares(one) {
                victims.push(Arc::clone(one));
                violations += usize::from(breaks);
            }
        }
    }
    victims.sort_by_key(|one| rank(one));
    Ok(Candidate { node: Arc::clone(&node.name), victims, violations })
}

/// A node in thought, from which pods go and to which they come back.
struct Trial<'a> {
    pod: &'a PodInfo,
    snapshot: &'a Snapshot,
    checks: Checks,
    node: NodeInfo,
}

impl Trial<'_> {
    fn fits(&self) -> Result<(), Refusal> {
        self.checks.ask(self.pod, self.snapshot, &self.node)
    }

    /// Lets all less important pods go at once.
    fn remove_lesser(&mut self, lesser: &[Arc<PodInfo>]) {
        self.node.pods.retain(|other| other.priority >= self.pod.priority);
        for pod in lesser {
            self.node.uncount(pod);
            self.checks.shift(&Shift { pod, node: &self.node, by: -1 });
        }
    }

    fn remove(&mut self, pod: &PodInfo) {
        self.node.remove(&pod.uid);
        self.checks.shift(&Shift { pod, node: &self.node, by: -1 });
    }

    /// Lets a pod come back, if there is room for both.
    fn spares(&mut self, pod: &Arc<PodInfo>) -> bool {
        self.node.add(Arc::clone(pod));
        self.checks.shift(&Shift { pod, node: &self.node, by: 1 });
        let fits = self.fits().is_ok();
        if !fits {
            self.remove(pod);
        }
        fits
    }
}
