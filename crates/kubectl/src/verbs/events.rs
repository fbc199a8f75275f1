//! `events`: what happened, in order, or as it happens.

use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};
use wire::objects as pb;

use super::Verb;
use super::describe::interval;
use crate::error::Error;
use crate::kube::Kube;
use crate::output::table::Lines;
use crate::output::{self, Format};

#[derive(Args)]
pub(crate) struct Events {
    /// In all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Only about TYPE/NAME
    #[arg(long = "for", default_value = "")]
    about: String,
    /// Follow
    #[arg(short = 'w', long)]
    watch: bool,
    /// Only these types: Normal, Warning
    #[arg(long, value_delimiter = ',')]
    types: Vec<String>,
    /// Print no headers
    #[arg(long)]
    no_headers: bool,
    /// Read lists in chunks of this size
    #[arg(long, default_value_t = 500)]
    chunk_size: u64,
    /// json, yaml, name, jsonpath=...
    #[arg(short = 'o', long, default_value = "")]
    output: String,
}

impl Verb for Events {
    async fn run(self, kube: &Kube) -> Result<(), Error> {
        let format = Format::parse(&self.output)?;
        if self.types.iter().any(|one| !["normal", "warning"].contains(&one.to_lowercase().as_str())) {
            return Err(Error::said("valid --types are Normal or Warning"));
        }
        let fields = self.fields(kube).await?;
        let resource = kube.discovery().await?.of_kind("v1", "Event")?;
        let namespace = if self.all_namespaces { String::new() } else { kube.namespace()? };
        let target = resource.target(&namespace, "");
        let mut lines = Lines::default();
        if !self.no_headers {
            lines.push(self.headers());
        }
        if self.watch {
            return self.follow(kube, target, fields, (&format, lines)).await;
        }
        let mut found: Vec<Value> =
            kube.list(target, "", &fields).await?.into_iter().map(api::Object::into_value).collect();
        found.retain(|event| self.is_wanted(event));
        if found.is_empty() {
            if self.all_namespaces {
                eprintln!("No events found.");
            } else {
                eprintln!("No events found in {namespace} namespace.");
            }
            return Ok(());
        }
        found.sort_by_key(time_of);
        if !format.is_table() {
            let items: Vec<Value> = found.into_iter().map(tidy).collect();
            let list = json!({"apiVersion": "v1", "items": items, "kind": "EventList",
                "metadata": {"resourceVersion": ""}});
            return output::write(&format.print(&list, !self.no_headers)?);
        }
        let now = crate::clock::now();
        for event in &found {
            lines.push(self.cells(event, now));
        }
        output::write(&lines.take())
    }
}

impl Events {
    async fn fields(&self, kube: &Kube) -> Result<String, Error> {
        if self.about.is_empty() {
            return Ok(String::new());
        }
        let (kind, name) = match self.about.split('/').collect::<Vec<_>>().as_slice() {
            [_] => return Err(Error::said("--for must be in resource/name form")),
            [kind, name] => ((*kind).to_owned(), (*name).to_owned()),
            _ => return Err(Error::said("arguments in resource/name form may not have more than one slash")),
        };
        let resource = kube.discovery().await?.find(&kind)?;
        Ok(format!(
            "involvedObject.kind={},involvedObject.apiVersion={},involvedObject.name={name}",
            resource.kind,
            resource.api_version()
        ))
    }

    fn is_wanted(&self, event: &Value) -> bool {
        let kind = event["type"].as_str().unwrap_or_default();
        self.types.is_empty() || self.types.iter().any(|one| one.eq_ignore_ascii_case(kind))
    }

    fn headers(&self) -> Vec<&'static str> {
        let namespace = self.all_namespaces.then_some("NAMESPACE");
        namespace.into_iter().chain(["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]).collect()
    }

    fn cells(&self, event: &Value, now: Timestamp) -> Vec<String> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let about = &event["involvedObject"];
        let mut cells = Vec::new();
        if self.all_namespaces {
            cells.push(text(&event["metadata"]["namespace"]));
        }
        cells.extend([
            interval(event, now),
            text(&event["type"]),
            text(&event["reason"]),
            format!("{}/{}", text(&about["kind"]), text(&about["name"])),
            text(&event["message"]).trim().to_owned(),
        ]);
        cells
    }

    async fn follow(
        &self,
        kube: &Kube,
        target: client::Target,
        fields: String,
        (format, mut lines): (&Format, Lines),
    ) -> Result<(), Error> {
        let request = pb::WatchRequest { target: Some(target), field_selector: fields, ..Default::default() };
        let mut batches = kube.client().await?.objects().watch(request).await?.into_inner();
        while let Some(batch) = batches.message().await? {
            for event in batch.events {
                match event.r#type() {
                    pb::watch_event::Type::Added | pb::watch_event::Type::Modified => {}
                    pb::watch_event::Type::Error => return Err(client::watch::failure(&event.json).into()),
                    // Events are deleted when they are old, which is no news.
                    _ => continue,
                }
                let event: Value = serde_json::from_slice(&event.json)?;
                if !self.is_wanted(&event) {
                    continue;
                }
                if format.is_table() {
                    lines.push(self.cells(&event, crate::clock::now()));
                    output::write(&lines.take())?;
                } else {
                    output::write(&format.print(&tidy(event), false)?)?;
                }
            }
        }
        Ok(())
    }
}

fn tidy(mut event: Value) -> Value {
    event["apiVersion"] = "v1".into();
    event["kind"] = "Event".into();
    if let Some(metadata) = event["metadata"].as_object_mut() {
        metadata.remove("managedFields");
    }
    event
}

/// When an event was last seen.
fn time_of(event: &Value) -> Option<Timestamp> {
    [&event["series"]["lastObservedTime"], &event["lastTimestamp"], &event["eventTime"]]
        .into_iter()
        .find_map(|one| one.as_str().and_then(api::time::parse))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_time_counts() {
        let at = |seconds: i64| Timestamp::from_second(seconds).ok();
        let text = |seconds: i64| at(seconds).map(api::time::format);
        assert_eq!(time_of(&json!({"lastTimestamp": null, "eventTime": text(2)})), at(2));
        assert_eq!(
            time_of(&json!({"lastTimestamp": text(1), "series": {"lastObservedTime": text(3)}})),
            at(3)
        );
        assert_eq!(time_of(&json!({})), None);
    }
}
