//! When an indexed job has succeeded although not all of its indexes have.

use std::collections::BTreeSet;

use api::types::batch::v1::{Job, SuccessPolicyRule};

use super::indexes;

/// Which rule of the success policy is met, in words.
pub(super) fn met(job: &Job, succeeded: &BTreeSet<i32>) -> Option<String> {
    let spec = job.spec.as_ref()?;
    let rules = &spec.success_policy.as_ref()?.rules;
    let completions = spec.completions.unwrap_or_default();
    if succeeded.is_empty() {
        return None;
    }
    let place = rules.iter().position(|rule| is_met(rule, succeeded, completions))?;
    Some(format!("Matched rules at index {place}"))
}

fn is_met(rule: &SuccessPolicyRule, succeeded: &BTreeSet<i32>, completions: i32) -> bool {
    let reaches = |count: usize| {
        rule.succeeded_count.is_some_and(|wanted| i32::try_from(count).is_ok_and(|count| count >= wanted))
    };
    let Some(text) = &rule.succeeded_indexes else { return reaches(succeeded.len()) };
    let required = indexes::parse(text, completions);
    let among = required.intersection(succeeded).count();
    !required.is_empty() && (among == required.len() || reaches(among))
}
