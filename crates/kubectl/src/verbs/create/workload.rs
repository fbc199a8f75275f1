//! Deployments, jobs and cron jobs.

use clap::Args;
use serde_json::{Value, json};

use crate::changes::How;
use crate::error::Error;
use crate::kube::Kube;
use crate::resource_builder;

#[derive(Args)]
pub(super) struct Deployment {
    name: String,
    /// The images to run
    #[arg(long, required = true, value_delimiter = ',')]
    image: Vec<String>,
    /// How many replicas
    #[arg(short = 'r', long, default_value_t = 1)]
    replicas: u32,
    /// The port that the container listens on
    #[arg(long)]
    port: Option<u16>,
    #[command(flatten)]
    how: How,
    /// The command to run
    #[arg(last = true)]
    command: Vec<String>,
}

#[derive(Args)]
pub(super) struct Job {
    name: String,
    /// The image to run
    #[arg(long, required_unless_present = "from", conflicts_with = "from")]
    image: Option<String>,
    /// cronjob/NAME, whose job is run now
    #[arg(long)]
    from: Option<String>,
    #[command(flatten)]
    how: How,
    /// The command to run
    #[arg(last = true)]
    command: Vec<String>,
}

#[derive(Args)]
pub(super) struct CronJob {
    name: String,
    /// The image to run
    #[arg(long)]
    image: String,
    /// When, in cron's format
    #[arg(long)]
    schedule: String,
    /// OnFailure, or Never
    #[arg(long, default_value = "OnFailure")]
    restart: String,
    #[command(flatten)]
    how: How,
    /// The command to run
    #[arg(last = true)]
    command: Vec<String>,
}

/// A container's name from its image: `nginx` of `registry/nginx:1`.
fn name_of(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or_default();
    last.split([':', '@']).next().unwrap_or_default().replace('_', "-")
}

fn container(name: &str, image: &str, command: &[String]) -> Value {
    let mut container = json!({"name": name, "image": image});
    if !command.is_empty() {
        container["command"] = json!(command);
    }
    container
}

impl Deployment {
    pub(super) fn object(self) -> (Value, How) {
        let labels = json!({"app": self.name});
        let mut containers: Vec<Value> =
            self.image.iter().map(|image| container(&name_of(image), image, &self.command)).collect();
        if let (Some(port), Some(first)) = (self.port, containers.first_mut()) {
            first["ports"] = json!([{"containerPort": port}]);
        }
        let object = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": self.name, "labels": labels},
            "spec": {
                "replicas": self.replicas,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": containers}}}});
        (object, self.how)
    }
}

impl Job {
    pub(super) async fn object(self, kube: &Kube) -> Result<(Value, How), Error> {
        if let Some(from) = &self.from {
            let wanted =
                resource_builder::read_words(kube.discovery().await?, std::slice::from_ref(from))?.remove(0);
            if wanted.resource.kind != "CronJob" {
                return Err(Error::said(format!(
                    "unknown object type {}: only CronJob is supported",
                    wanted.resource.kind
                )));
            }
            let target = wanted.resource.target(&kube.namespace()?, &wanted.name.unwrap_or_default());
            return Ok((of_cron_job(&self.name, &kube.get(target).await?.into_value()), self.how));
        }
        let image = self.image.unwrap_or_default();
        let object = json!({
            "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": self.name},
            "spec": {"template": {"spec":
                {"containers": [container(&self.name, &image, &self.command)], "restartPolicy": "Never"}}}});
        Ok((object, self.how))
    }
}

/// The job that a cron job would start, marked as started by hand.
fn of_cron_job(name: &str, cron_job: &Value) -> Value {
    let template = &cron_job["spec"]["jobTemplate"];
    let mut metadata = json!({"name": name, "ownerReferences": [{"apiVersion": "batch/v1", "kind": "CronJob",
        "name": cron_job["metadata"]["name"], "uid": cron_job["metadata"]["uid"], "controller": true}]});
    let mut annotations = template["metadata"]["annotations"].clone();
    if !annotations.is_object() {
        annotations = json!({});
    }
    annotations["cronjob.kubernetes.io/instantiate"] = "manual".into();
    metadata["annotations"] = annotations;
    if template["metadata"]["labels"].is_object() {
        metadata["labels"] = template["metadata"]["labels"].clone();
    }
    json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": template["spec"]})
}

impl CronJob {
    pub(super) fn object(self) -> (Value, How) {
        let containers = [container(&self.name, &self.image, &self.command)];
        let object = json!({
            "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": self.name},
            "spec": {"schedule": self.schedule, "jobTemplate": {
                "metadata": {"name": self.name},
                "spec": {"template": {"spec": {"containers": containers, "restartPolicy": self.restart}}}}}});
        (object, self.how)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_are_made_of_cron_jobs() {
        assert_eq!(name_of("a.b/c/my_image:1@sha256:x"), "my-image");
        let cron = json!({"metadata": {"name": "c", "uid": "u"}, "spec": {"jobTemplate": {
            "metadata": {"labels": {"a": "b"}}, "spec": {"template": {}}}}});
        let job = of_cron_job("now", &cron);
        assert_eq!(job["metadata"]["annotations"], json!({"cronjob.kubernetes.io/instantiate": "manual"}));
        assert_eq!(job["metadata"]["ownerReferences"][0]["uid"], "u");
        assert_eq!(job["spec"], json!({"template": {}}));
    }
}
