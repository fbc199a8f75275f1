//! What a job's failure policy says about a pod that failed: whether the failure
//! counts, ends the pod's index, or ends the job.

use api::types::batch::v1::{Job, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyRule};
use api::types::core::v1::{ContainerStatus, Pod, PodStatus};

use crate::{owners, pods};

/// What becomes of a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It counts towards the limits.
    Counts,
    /// It counts for nothing.
    Ignored,
    /// It counts, and the pod's index has failed.
    FailsIndex,
    /// It counts, and the job has failed; why.
    FailsJob(String),
}

impl Verdict {
    /// Whether the failure counts towards the limits.
    pub(super) fn counts(&self) -> bool {
        *self != Self::Ignored
    }
}

/// The verdict of the first rule that a failed pod matches.
pub(super) fn judge(job: &Job, pod: &Pod) -> Verdict {
    let policy = job.spec.as_ref().and_then(|spec| spec.pod_failure_policy.as_ref());
    let rules = policy.iter().flat_map(|policy| policy.rules.iter().enumerate());
    for (place, rule) in rules {
        let Some(what) = matched(rule, pod) else { continue };
        return match rule.action.as_str() {
            "Ignore" => Verdict::Ignored,
            "FailIndex" => Verdict::FailsIndex,
            "FailJob" => Verdict::FailsJob(format!("{what} matching FailJob rule at index {place}")),
            _ => Verdict::Counts,
        };
    }
    Verdict::Counts
}

/// What of a pod a rule is about, in words; `None` where it does not apply.
fn matched(rule: &PodFailurePolicyRule, pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let name = format!("{}/{}", owners::namespace(pod), pods::name(pod));
    if let Some(codes) = &rule.on_exit_codes {
        let (container, code) = exited(status, codes)?;
        return Some(format!("Container {container} for pod {name} failed with exit code {code}"));
    }
    let patterns = rule.on_pod_conditions.as_deref().unwrap_or_default();
    let condition = status.conditions.iter().flatten().find(|condition| {
        let fits = |expected: Option<&str>| condition.status == expected.unwrap_or("True");
        patterns.iter().any(|one| one.type_ == condition.type_ && fits(one.status.as_deref()))
    })?;
    Some(format!("Pod {name} has condition {}", condition.type_))
}

/// The first container that failed with a code of the requirement.
fn exited<'a>(
    status: &'a PodStatus,
    requirement: &PodFailurePolicyOnExitCodesRequirement,
) -> Option<(&'a str, i32)> {
    let code =
        |container: &ContainerStatus| container.state.as_ref()?.terminated.as_ref().map(|end| end.exit_code);
    let is_meant = |name: &str| requirement.container_name.as_ref().is_none_or(|wanted| wanted == name);
    let containers = status.container_statuses.iter().flatten();
    let mut all = containers.chain(status.init_container_statuses.iter().flatten());
    all.find_map(|container| {
        let code = code(container).filter(|code| *code != 0 && is_meant(&container.name))?;
        let listed = requirement.values.contains(&code);
        let fits = match requirement.operator.as_str() {
            "In" => listed,
            "NotIn" => !listed,
            _ => false,
        };
        fits.then_some((container.name.as_str(), code))
    })
}
