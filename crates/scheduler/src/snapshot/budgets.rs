//! Disruption budgets: how many pods of a kind may go.

use std::collections::{BTreeSet, HashMap};

use api::types::policy::v1::PodDisruptionBudget;
use api::{LabelSelector, ObjectKey};

use crate::pod::PodInfo;

#[derive(Debug)]
struct Budget {
    selector: LabelSelector,
    allowed: i64,
    /// Pods whose end was granted already.
    granted: BTreeSet<String>,
}

/// All budgets.
#[derive(Debug, Default)]
pub struct Budgets(HashMap<String, HashMap<String, Budget>>);

impl Budgets {
    /// Takes a budget; `None`: it is gone. A selector that selects everything
    /// selects nothing here, as upstream has it.
    pub fn set(&mut self, key: &ObjectKey, budget: Option<&PodDisruptionBudget>) {
        let budget = budget.and_then(|budget| {
            let selector = LabelSelector::from_api(budget.spec.as_ref()?.selector.as_ref()).ok()?;
            let status = budget.status.clone().unwrap_or_default();
            let granted = status.disrupted_pods.into_iter().flatten().map(|(name, _)| name).collect();
            let allowed = i64::from(status.disruptions_allowed.unwrap_or(0));
            (!selector.is_everything()).then_some(Budget { selector, allowed, granted })
        });
        let budgets = self.0.entry(key.namespace.clone()).or_default();
        match budget {
            Some(budget) => budgets.insert(key.name.clone(), budget),
            None => budgets.remove(&key.name),
        };
        if budgets.is_empty() {
            self.0.remove(&key.namespace);
        }
    }

    /// Whether each of these pods would break a budget, if they went one after
    /// the other.
    #[must_use]
    pub fn are_broken_by<'a>(&self, pods: impl IntoIterator<Item = &'a PodInfo>) -> Vec<bool> {
        let mut gone: HashMap<(&str, &str), i64> = HashMap::new();
        let is_broken_by = |pod: &'a PodInfo| {
            let mut is_broken = false;
            let Some((namespace, budgets)) = self.0.get_key_value(pod.namespace()) else { return false };
            for (name, budget) in budgets {
                let labels = &pod.pod.metadata.labels;
                if labels.as_ref().is_none_or(|labels| labels.is_empty())
                    || !budget.selector.matches(labels)
                    || budget.granted.contains(&pod.key.name)
                {
                    continue;
                }
                let gone = gone.entry((namespace, name)).or_default();
                *gone += 1;
                is_broken |= *gone > budget.allowed;
            }
            is_broken
        };
        pods.into_iter().map(is_broken_by).collect()
    }
}
