//! Quotas, disruption budgets and priority classes.

use clap::Args;
use serde_json::{Map, Value, json};

use crate::changes::How;
use crate::error::Error;
use crate::pods;

#[derive(Args)]
pub(super) struct Quota {
    name: String,
    /// Limits: cpu=1,memory=1G,pods=2
    #[arg(long, default_value = "")]
    hard: String,
    /// Scopes: BestEffort,...
    #[arg(long, default_value = "")]
    scopes: String,
    #[command(flatten)]
    how: How,
}

#[derive(Args)]
pub(super) struct Budget {
    name: String,
    /// The pods, by labels
    #[arg(long)]
    selector: String,
    /// How many pods must stay, or what percentage
    #[arg(long, default_value = "", conflicts_with = "max_unavailable")]
    min_available: String,
    /// How many pods may go, or what percentage
    #[arg(long, default_value = "")]
    max_unavailable: String,
    #[command(flatten)]
    how: How,
}

#[derive(Args)]
pub(super) struct PriorityClass {
    name: String,
    /// The priority
    #[arg(long, default_value_t = 0, allow_hyphen_values = true)]
    value: i32,
    /// Of all pods that name no class
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true",
          action = clap::ArgAction::Set)]
    global_default: bool,
    /// What it is for
    #[arg(long, default_value = "")]
    description: String,
    /// PreemptLowerPriority, or Never
    #[arg(long, default_value = "PreemptLowerPriority")]
    preemption_policy: String,
    #[command(flatten)]
    how: How,
}

impl Quota {
    pub(super) fn object(self) -> Result<(Value, How), Error> {
        let mut hard = Map::new();
        for pair in self.hard.split(',').filter(|pair| !pair.is_empty()) {
            let (name, amount) = pair.split_once('=').ok_or_else(|| {
                Error::said(format!("Invalid argument syntax {pair}, expected <resource>=<value>"))
            })?;
            amount.parse::<api::Quantity>().map_err(|error| Error::said(error.to_string()))?;
            hard.insert(name.to_owned(), amount.into());
        }
        let mut spec = json!({});
        if !hard.is_empty() {
            spec["hard"] = Value::Object(hard);
        }
        let scopes: Vec<&str> = self.scopes.split(',').filter(|scope| !scope.is_empty()).collect();
        if !scopes.is_empty() {
            spec["scopes"] = json!(scopes);
        }
        let object = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": self.name}, "spec": spec});
        Ok((object, self.how))
    }
}

impl Budget {
    pub(super) fn object(self) -> Result<(Value, How), Error> {
        let amount = |text: &str| text.parse::<i64>().map_or_else(|_| json!(text), |number| json!(number));
        let mut spec = json!({"selector": {"matchLabels": pods::pairs(&self.selector)?}});
        match (self.min_available.as_str(), self.max_unavailable.as_str()) {
            ("", "") => return Err(Error::said("one of min-available or max-unavailable must be specified")),
            ("", most) => spec["maxUnavailable"] = amount(most),
            (least, _) => spec["minAvailable"] = amount(least),
        }
        let object = json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
            "metadata": {"name": self.name}, "spec": spec});
        Ok((object, self.how))
    }
}

impl PriorityClass {
    pub(super) fn object(self) -> (Value, How) {
        let mut object = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
            "metadata": {"name": self.name}, "value": self.value, "preemptionPolicy": self.preemption_policy});
        if self.global_default {
            object["globalDefault"] = true.into();
        }
        if !self.description.is_empty() {
            object["description"] = self.description.into();
        }
        (object, self.how)
    }
}
