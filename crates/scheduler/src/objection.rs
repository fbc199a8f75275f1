//! Why a node does not take a pod.

use std::borrow::Cow;

/// One reason, in upstream's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// The words.
    pub text: Cow<'static, str>,
    /// By how much something is short, where that can be said.
    pub shortage: Option<Shortage>,
}

/// By how much something is short.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Shortage {
    /// What is short: a resource, or what else is counted.
    pub of: Cow<'static, str>,
    /// How much the pod asks for.
    pub asked: i64,
    /// How much there is left.
    pub left: i64,
}

impl From<&'static str> for Reason {
    fn from(text: &'static str) -> Self {
        Self { text: Cow::Borrowed(text), shortage: None }
    }
}

/// What a plugin has against a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Objection {
    /// The reasons.
    pub reasons: Vec<Reason>,
    /// Whether it may be gone when pods of the node are.
    pub can_be_evicted_away: bool,
}

impl Objection {
    /// An objection that goes away with pods of the node.
    #[must_use]
    pub fn passing(reason: impl Into<Reason>) -> Self {
        Self { reasons: vec![reason.into()], can_be_evicted_away: true }
    }

    /// An objection that stays whatever pods leave the node.
    #[must_use]
    pub fn lasting(reason: impl Into<Reason>) -> Self {
        Self { reasons: vec![reason.into()], can_be_evicted_away: false }
    }
}

/// An objection, and who has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The plugin.
    pub plugin: &'static str,
    /// What it has against the node.
    pub objection: Objection,
}
