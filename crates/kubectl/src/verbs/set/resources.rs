//! `set resources`.

use clap::Args;
use serde_json::{Map, Value, json};

use super::{Which, containers, spec_of};
use crate::changes;
use crate::error::Error;
use crate::kube::Kube;

#[derive(Args)]
pub(super) struct Resources {
    /// TYPE NAME, or TYPE/NAME
    words: Vec<String>,
    #[command(flatten)]
    which: Which,
    /// The containers; * is every one
    #[arg(short = 'c', long, default_value = "*")]
    containers: String,
    /// Limits: cpu=100m,memory=256Mi
    #[arg(long, default_value = "")]
    limits: String,
    /// Requests: cpu=100m,memory=256Mi
    #[arg(long, default_value = "")]
    requests: String,
}

impl Resources {
    pub(super) async fn run(self, kube: &Kube) -> Result<(), Error> {
        if self.limits.is_empty() && self.requests.is_empty() {
            return Err(Error::said(
                "you must specify an update to requests or limits (in the form of --requests/--limits)",
            ));
        }
        let (limits, requests) = (read(&self.limits)?, read(&self.requests)?);
        let infos = self.which.infos(kube, &self.words).await?;
        changes::change_each(kube, &infos, &self.which.how, |object, info| {
            let spec = spec_of(object, info)?;
            let before = spec.clone();
            let meant = containers(spec, &["containers"], &self.containers);
            if meant.is_empty() {
                return Err(Error::said(format!("unable to find container named {}", self.containers)));
            }
            for container in meant {
                set(container, "limits", &limits);
                set(container, "requests", &requests);
            }
            Ok((before != *spec).then(|| "resource requirements updated".to_owned()))
        })
        .await
    }
}

fn read(text: &str) -> Result<Map<String, Value>, Error> {
    let mut found = Map::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (name, amount) = part.split_once('=').ok_or_else(|| {
            Error::said(format!("Invalid argument syntax {part}, expected <resource>=<value>"))
        })?;
        amount.parse::<api::Quantity>().map_err(|error| Error::said(error.to_string()))?;
        found.insert(name.to_owned(), amount.into());
    }
    Ok(found)
}

fn set(container: &mut Value, field: &str, amounts: &Map<String, Value>) {
    if amounts.is_empty() {
        return;
    }
    if !container["resources"].is_object() {
        container["resources"] = json!({});
    }
    if !container["resources"][field].is_object() {
        container["resources"][field] = json!({});
    }
    for (name, amount) in amounts {
        container["resources"][field][name] = amount.clone();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_set() {
        let mut container = json!({"resources": {"limits": {"cpu": "1"}}});
        set(&mut container, "limits", &read("memory=64Mi").expect("reads"));
        set(&mut container, "requests", &read("cpu=10m").expect("reads"));
        assert_eq!(
            container["resources"],
            json!({"limits": {"cpu": "1", "memory": "64Mi"}, "requests": {"cpu": "10m"}})
        );
        assert!(read("cpu").is_err());
        assert!(read("cpu=much").is_err());
    }
}
