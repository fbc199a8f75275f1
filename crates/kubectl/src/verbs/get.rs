//! `get`: tables that the server lays out, or objects in a format; `-w` follows.

use std::sync::Arc;

use clap::Args;
use serde_json::Value;
use wire::objects as pb;

use super::Verb;
use crate::discovery::Resource;
use crate::error::Error;
use crate::jsonpath::Template;
use crate::kube::Kube;
use crate::output::table::{Lines, Show, add};
use crate::output::{self, Format};
use crate::resource_builder::{self, Files, Selectors, Wanted};

#[derive(Args)]
pub(crate) struct Get {
    /// TYPE, TYPE NAME, or TYPE/NAME
    words: Vec<String>,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    selectors: Selectors,
    /// json, yaml, name, wide, jsonpath=..., custom-columns=...
    #[arg(short = 'o', long, default_value = "")]
    output: String,
    /// Look in all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// After listing, follow changes
    #[arg(short = 'w', long)]
    watch: bool,
    /// Follow changes without listing first
    #[arg(long)]
    watch_only: bool,
    /// Print all labels as the last column
    #[arg(long)]
    show_labels: bool,
    /// Print these labels as columns
    #[arg(short = 'L', long, value_delimiter = ',')]
    label_columns: Vec<String>,
    /// Print the kind before each name
    #[arg(long)]
    show_kind: bool,
    /// Print no headers
    #[arg(long)]
    no_headers: bool,
    /// Sort by a JSONPath
    #[arg(long, default_value = "")]
    sort_by: String,
    /// Do not fail where an object is not there
    #[arg(long)]
    ignore_not_found: bool,
    /// Keep managedFields in JSON and YAML
    #[arg(long)]
    show_managed_fields: bool,
    /// A subresource, such as status or scale
    #[arg(long, default_value = "")]
    subresource: String,
    /// Read lists in chunks of this size
    #[arg(long, default_value_t = 500)]
    chunk_size: u64,
}

/// What one request asks for.
struct Ask {
    resource: Arc<Resource>,
    namespace: String,
    name: Option<String>,
}

impl Verb for Get {
    async fn run(self, kube: &Kube) -> Result<(), Error> {
        let format = Format::parse(&self.output)?;
        let asks = self.asks(kube).await?;
        if self.watch || self.watch_only {
            return self.follow(kube, &format, &asks).await;
        }
        if format.is_table() {
            self.tables(kube, &format, &asks).await
        } else {
            self.objects(kube, &format, &asks).await
        }
    }
}

impl Get {
    async fn asks(&self, kube: &Kube) -> Result<Vec<Ask>, Error> {
        if !self.files.filenames.is_empty() {
            let infos = resource_builder::from_files(kube, &self.files).await?;
            let ask = |info: crate::kube::Info| Ask {
                resource: info.resource,
                namespace: info.namespace,
                name: Some(info.name),
            };
            return Ok(infos.into_iter().map(ask).collect());
        }
        let wanted = resource_builder::read_words(kube.discovery().await?, &self.words)?;
        if wanted.is_empty() {
            return Err(Error::said(
                "You must specify the type of resource to get. Use \"kubectl api-resources\" for a complete list of \
                 supported resources.",
            ));
        }
        if self.all_namespaces && wanted.iter().any(|one| one.name.is_some()) {
            return Err(Error::said("a resource cannot be retrieved by name across all namespaces"));
        }
        let namespace = if self.all_namespaces { String::new() } else { kube.namespace()? };
        let several = wanted.len() > 1;
        Ok(wanted
            .into_iter()
            .filter(|Wanted { resource, name }| name.is_some() || !several || resource.can("list"))
            .map(|Wanted { resource, name }| Ask {
                namespace: if resource.namespaced { namespace.clone() } else { String::new() },
                resource,
                name,
            })
            .collect())
    }

    async fn fetch(&self, kube: &Kube, ask: &Ask, form: pb::Form) -> Result<Vec<Value>, Error> {
        let target = client::Target {
            subresource: self.subresource.clone(),
            ..ask.resource.target(&ask.namespace, ask.name.as_deref().unwrap_or_default())
        };
        let mut objects = kube.client().await?.objects();
        if ask.name.is_some() {
            let request = pb::GetRequest { target: Some(target), form: form.into(), ..Default::default() };
            let answer =
                kube.in_time(async { objects.get(request).await.map_err(|error| client::of_grpc(&error)) });
            return Ok(vec![serde_json::from_slice(&answer.await?.into_inner().json)?]);
        }
        let mut found = Vec::new();
        let mut next = String::new();
        loop {
            let request = pb::ListRequest {
                target: Some(target.clone()),
                label_selector: self.selectors.selector.clone(),
                field_selector: self.selectors.field_selector.clone(),
                limit: self.chunk_size,
                continue_token: std::mem::take(&mut next),
                form: form.into(),
                ..Default::default()
            };
            let list = async { objects.list(request).await.map_err(|error| client::of_grpc(&error)) };
            let mut pages = kube.in_time(list).await?.into_inner();
            while let Some(page) = pages.message().await? {
                for item in &page.items {
                    found.push(serde_json::from_slice(item)?);
                }
                next = page.continue_token;
            }
            if next.is_empty() {
                return Ok(found);
            }
        }
    }

    fn show(&self, format: &Format, ask: &Ask, kinds: bool) -> Show {
        Show {
            wide: *format == Format::Wide,
            namespace: self.all_namespaces && ask.resource.namespaced,
            labels: self.show_labels,
            label_columns: self.label_columns.clone(),
            kind: (kinds || self.show_kind).then(|| ask.resource.label()),
            no_headers: self.no_headers,
        }
    }

    async fn tables(&self, kube: &Kube, format: &Format, asks: &[Ask]) -> Result<(), Error> {
        let kinds = asks.iter().any(|ask| ask.resource != asks[0].resource);
        let mut errors = Vec::new();
        let mut lines = Lines::default();
        let mut text = String::new();
        let mut last: Option<&Ask> = None;
        for ask in asks {
            let tables = match self.fetch(kube, ask, pb::Form::Table).await {
                Ok(tables) => tables,
                Err(error) if error.is_not_found() && self.ignore_not_found => continue,
                Err(error) => {
                    errors.push(error);
                    continue;
                }
            };
            let Some(mut table) = joined(tables) else { continue };
            if table["rows"].as_array().is_none_or(Vec::is_empty) {
                continue;
            }
            self.sort(&mut table)?;
            let fresh = last.is_none_or(|last| last.resource != ask.resource);
            if fresh && last.is_some() {
                text.push_str(&std::mem::take(&mut lines).take());
                text.push('\n');
            }
            add(&mut lines, &table, &table["columnDefinitions"], &self.show(format, ask, kinds), fresh);
            last = Some(ask);
        }
        text.push_str(&lines.take());
        output::write(&text)?;
        if text.is_empty() && errors.is_empty() && !self.ignore_not_found {
            match asks.iter().find(|ask| ask.resource.namespaced && !ask.namespace.is_empty()) {
                Some(ask) => eprintln!("No resources found in {} namespace.", ask.namespace),
                None => eprintln!("No resources found"),
            }
        }
        Error::of_all(errors)
    }

    fn sort(&self, table: &mut Value) -> Result<(), Error> {
        if self.sort_by.is_empty() {
            return Ok(());
        }
        let template = Template::parse(&self.sort_by)?;
        if let Some(rows) = table["rows"].as_array_mut() {
            rows.sort_by(|left, right| compare(&template, &left["object"], &right["object"]));
        }
        Ok(())
    }

    async fn objects(&self, kube: &Kube, format: &Format, asks: &[Ask]) -> Result<(), Error> {
        let mut found = Vec::new();
        let mut errors = Vec::new();
        for ask in asks {
            match self.fetch(kube, ask, pb::Form::Object).await {
                Ok(objects) => {
                    found.extend(objects.into_iter().map(|object| self.tidy(object, &ask.resource)))
                }
                Err(error) if error.is_not_found() && self.ignore_not_found => {}
                Err(error) => errors.push(error),
            }
        }
        if !self.sort_by.is_empty() {
            let template = Template::parse(&self.sort_by)?;
            found.sort_by(|left, right| compare(&template, left, right));
        }
        let single = asks.len() == 1 && asks[0].name.is_some();
        let value = if single { found.pop() } else { Some(output::list_of(found)) };
        let nothing = errors.len() == asks.len() && !asks.is_empty();
        if let Some(value) = value.filter(|_| !nothing) {
            output::write(&format.print(&value, !self.no_headers)?)?;
        }
        Error::of_all(errors)
    }

    fn tidy(&self, mut object: Value, resource: &Resource) -> Value {
        if !self.show_managed_fields
            && let Some(metadata) = object["metadata"].as_object_mut()
        {
            metadata.remove("managedFields");
        }
        if let Some(map) = object.as_object_mut() {
            // Elements of a list may come without their type.
            map.entry("apiVersion").or_insert_with(|| resource.api_version().into());
            map.entry("kind").or_insert_with(|| resource.kind.clone().into());
        }
        object
    }

    async fn follow(&self, kube: &Kube, format: &Format, asks: &[Ask]) -> Result<(), Error> {
        let [ask] = asks else {
            return Err(Error::said("you may only specify a single resource type"));
        };
        let form = if format.is_table() { pb::Form::Table } else { pb::Form::Object };
        let mut fields = self.selectors.field_selector.clone();
        if let Some(name) = &ask.name {
            // An object that is not there is an error, as in a plain get.
            self.fetch(kube, ask, pb::Form::Object).await?;
            fields = format!("metadata.name={name}");
        }
        let target = ask.resource.target(&ask.namespace, "");
        let options = client::ListOptions {
            namespace: ask.namespace.clone(),
            labels: self.selectors.selector.clone(),
            fields: fields.clone(),
            limit: 1,
            ..Default::default()
        };
        let revision = kube.client().await?.list_json(target.clone(), &options).await?.revision;
        let show = self.show(format, ask, false);
        let mut lines = Lines::default();
        let mut columns = Value::Null;
        if !self.watch_only {
            for value in self.fetch(kube, ask, form).await? {
                self.step(&mut lines, &mut columns, value, (format, ask, &show))?;
            }
        }
        let request = pb::WatchRequest {
            target: Some(target),
            label_selector: self.selectors.selector.clone(),
            field_selector: fields,
            resource_version: revision.to_string(),
            form: form.into(),
            ..Default::default()
        };
        let mut batches = kube.client().await?.objects().watch(request).await?.into_inner();
        while let Some(batch) = batches.message().await? {
            for event in batch.events {
                match event.r#type() {
                    pb::watch_event::Type::Bookmark | pb::watch_event::Type::Unspecified => {}
                    pb::watch_event::Type::Error => return Err(client::watch::failure(&event.json).into()),
                    _ => {
                        let value = serde_json::from_slice(&event.json)?;
                        self.step(&mut lines, &mut columns, value, (format, ask, &show))?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Prints one listed or changed object, or a table of such.
    fn step(
        &self,
        lines: &mut Lines,
        columns: &mut Value,
        value: Value,
        (format, ask, show): (&Format, &Ask, &Show),
    ) -> Result<(), Error> {
        if !format.is_table() {
            return output::write(&format.print(&self.tidy(value, &ask.resource), false)?);
        }
        if value["rows"].as_array().is_none_or(Vec::is_empty) {
            return Ok(());
        }
        let first = columns.is_null();
        if value["columnDefinitions"].as_array().is_some_and(|list| !list.is_empty()) {
            *columns = value["columnDefinitions"].clone();
        }
        add(lines, &value, columns, show, first);
        output::write(&lines.take())
    }
}

/// The pages of one table as one.
fn joined(tables: Vec<Value>) -> Option<Value> {
    let mut tables = tables.into_iter();
    let mut first = tables.next()?;
    for mut table in tables {
        if let (Some(rows), Some(more)) = (first["rows"].as_array_mut(), table["rows"].as_array_mut()) {
            rows.append(more);
        }
    }
    Some(first)
}

fn compare(template: &Template, left: &Value, right: &Value) -> std::cmp::Ordering {
    let (left, right) = (template.values(left), template.values(right));
    match (left.first(), right.first()) {
        (Some(Value::Number(left)), Some(Value::Number(right))) => {
            left.as_f64().partial_cmp(&right.as_f64()).unwrap_or(std::cmp::Ordering::Equal)
        }
        (Some(left), Some(right)) => crate::jsonpath::plain(left).cmp(&crate::jsonpath::plain(right)),
        (left, right) => left.is_some().cmp(&right.is_some()),
    }
}
