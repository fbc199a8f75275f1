//! `autoscale`: a horizontal pod autoscaler for a workload.

use api::Object;
use clap::Args;
use serde_json::{Value, json};

use super::Verb;
use crate::changes::How;
use crate::error::Error;
use crate::kube::{Info, Kube};
use crate::resource_builder::{self, Files, Selection};

#[derive(Args)]
pub(crate) struct Autoscale {
    /// TYPE NAME, or TYPE/NAME
    words: Vec<String>,
    #[command(flatten)]
    files: Files,
    /// The fewest replicas; less than 1 for the server's default
    #[arg(long, default_value_t = -1, allow_hyphen_values = true)]
    min: i64,
    /// The most replicas
    #[arg(long)]
    max: i64,
    /// The wanted use of processors, in percent of what is requested
    #[arg(long, default_value_t = -1, allow_hyphen_values = true)]
    cpu_percent: i64,
    /// The wanted use of processors: 80% of requests, or an amount such as 500m
    #[arg(long, default_value = "", conflicts_with = "cpu_percent")]
    cpu: String,
    /// The wanted use of memory: 80% of requests, or an amount such as 200Mi
    #[arg(long, default_value = "")]
    memory: String,
    /// The autoscaler's name
    #[arg(long, default_value = "")]
    name: String,
    #[command(flatten)]
    how: How,
}

impl Verb for Autoscale {
    async fn run(self, kube: &Kube) -> Result<(), Error> {
        if self.max < 1 {
            return Err(Error::said(format!(
                "--max=MAXPODS is required and must be at least 1, max: {}",
                self.max
            )));
        }
        if self.max < self.min {
            return Err(Error::said(format!(
                "--max=MAXPODS must be larger or equal to --min=MINPODS, max: {}, min: {}",
                self.max, self.min
            )));
        }
        let selection = Selection::new(&self.words, &self.files);
        let resource = kube.discovery().await?.of_kind("autoscaling/v2", "HorizontalPodAutoscaler")?;
        for info in resource_builder::resolve(kube, &selection).await? {
            if !info.resource.subresources.iter().any(|one| one == "scale") {
                return Err(Error::said(format!("cannot autoscale a {}: {}", info.resource.kind, info.name)));
            }
            // What is not there cannot be scaled.
            kube.get(info.target()).await?;
            let object = Object::from_value(self.autoscaler(&info)?)
                .map_err(|error| Error::said(error.to_string()))?;
            let info = Info {
                resource: resource.clone(),
                name: object.name().to_owned(),
                object: Some(object),
                ..info
            };
            let made = self.how.create(kube, &info).await?;
            self.how.report(&info.label(), made, "autoscaled")?;
        }
        Ok(())
    }
}

impl Autoscale {
    fn autoscaler(&self, info: &Info) -> Result<Value, Error> {
        let name = if self.name.is_empty() { &info.name } else { &self.name };
        let mut spec = json!({"maxReplicas": self.max, "scaleTargetRef":
            {"apiVersion": info.resource.api_version(), "kind": info.resource.kind, "name": info.name}});
        if self.min > 0 {
            spec["minReplicas"] = self.min.into();
        }
        let mut metrics = Vec::new();
        if self.cpu_percent >= 0 {
            metrics.push(metric("cpu", &format!("{}%", self.cpu_percent))?);
        }
        for (resource, wanted) in [("cpu", &self.cpu), ("memory", &self.memory)] {
            if !wanted.is_empty() {
                metrics.push(metric(resource, wanted)?);
            }
        }
        if !metrics.is_empty() {
            spec["metrics"] = metrics.into();
        }
        Ok(json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": name}, "spec": spec}))
    }
}

fn metric(resource: &str, wanted: &str) -> Result<Value, Error> {
    let bad =
        |error: &dyn std::fmt::Display| Error::said(format!("invalid {resource} target {wanted:?}: {error}"));
    let target = match wanted.strip_suffix('%') {
        Some(percent) => {
            let percent: u32 = percent.parse().map_err(|error: std::num::ParseIntError| bad(&error))?;
            json!({"type": "Utilization", "averageUtilization": percent})
        }
        None => {
            wanted.parse::<api::Quantity>().map_err(|error| bad(&error))?;
            json!({"type": "AverageValue", "averageValue": wanted})
        }
    };
    Ok(json!({"type": "Resource", "resource": {"name": resource, "target": target}}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read() {
        assert_eq!(
            metric("cpu", "80%").expect("percent")["resource"]["target"],
            json!({"type": "Utilization", "averageUtilization": 80})
        );
        assert_eq!(
            metric("memory", "200Mi").expect("amount")["resource"]["target"],
            json!({"type": "AverageValue", "averageValue": "200Mi"})
        );
        assert!(metric("cpu", "much").is_err());
        assert!(metric("cpu", "x%").is_err());
    }
}
