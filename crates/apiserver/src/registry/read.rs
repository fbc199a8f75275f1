//! Get, list and watch: bytes from the watch cache.

use std::sync::Arc;

use api::{FieldSelector, LabelSelector, Status};
use base64::Engine as _;
use jiff::Timestamp;
use resources::Descriptor;
use serde::{Deserialize, Serialize};
use store::RangeRequest;
use tokio::sync::watch as latest;

use super::{Address, Registry, corrupt, store_failed};
use crate::cache::{self, ChangeKind, Resource, Selected};
use crate::conversion::Converter;
use crate::stored::Stored;

/// Changes looked at in one go, so that a watcher that is far behind does not
/// hold the lock for long.
const BATCH: usize = 512;

/// How a resource version is meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Matching {
    /// Not said.
    #[default]
    Unset,
    /// At least as new.
    NotOlderThan,
    /// Exactly that one.
    Exact,
}

/// What a list asks for.
#[derive(Clone, Debug, Default)]
pub struct ListQuery {
    /// Which objects.
    pub labels: LabelSelector,
    /// Which objects.
    pub fields: FieldSelector,
    /// At most this many; 0: all.
    pub limit: usize,
    /// Where an earlier page stopped.
    pub continue_token: String,
    /// Empty: newest.
    pub resource_version: String,
    /// How that is meant.
    pub matching: Matching,
}

/// A list, and everything that its metadata says.
#[derive(Debug)]
pub struct Listed {
    /// The objects, in the order of their keys.
    pub objects: Vec<Arc<Stored>>,
    /// The revision at which they were all true.
    pub revision: u64,
    /// Where to go on; empty: that was all.
    pub continue_token: String,
    /// How many come after, if known.
    pub remaining: Option<usize>,
}

/// What a watch asks for.
#[derive(Clone, Debug, Default)]
pub struct WatchQuery {
    /// Which objects.
    pub labels: LabelSelector,
    /// Which objects.
    pub fields: FieldSelector,
    /// Empty: from the newest state, which is sent first; `0`: likewise, from
    /// any state; else: changes after that revision.
    pub resource_version: String,
    /// How that is meant.
    pub matching: Matching,
    /// Send the state first, whatever the resource version, and a bookmark after it.
    pub send_initial_events: Option<bool>,
}

/// How long a continue token is good for, in seconds: upstream's are for as long as
/// it keeps the past. What is asked for later is hardly the same list any more.
const TOKEN_LIFE: i64 = 300;

/// A continue token: where the list stopped, and at which revision it was taken.
#[derive(Serialize, Deserialize)]
pub struct Continue {
    v: String,
    /// 0: whichever is the newest, since the one before is gone.
    rv: u64,
    start: String,
    /// When it was given, in seconds since 1970.
    at: i64,
}

impl Continue {
    fn encode(revision: u64, after: &str, now: Timestamp) -> String {
        let token = Self { v: "corten/v1".into(), rv: revision, start: after.into(), at: now.as_second() };
        let json = serde_json::to_vec(&token).unwrap_or_default();
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(json)
    }

    fn decode(token: &str) -> Result<Self, Status> {
        let bad = || Status::bad_request("continue key is not valid: the token cannot be read");
        let json = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(token).map_err(|_| bad())?;
        serde_json::from_slice(&json).map_err(|_| bad())
    }
}

fn parse_version(text: &str) -> Result<Option<u64>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| {
        Status::bad_request(format!(
            "resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax"
        ))
    })
}

impl Registry {
    fn resource_of(&self, address: &Address) -> Arc<Resource> {
        let (group, resource) = &address.kind.storage;
        self.cache.resource(group, resource)
    }

    /// Waits for the freshness that a resource version asks for; the revision
    /// up to which the cache is complete then.
    async fn freshness(&self, version: Option<u64>) -> Result<u64, Status> {
        match version {
            None => self.cache.refreshed().await.map_err(|error| store_failed(&error)),
            Some(0) => Ok(self.cache.revision()),
            Some(wanted) => {
                if wanted > self.cache.revision() {
                    let now = self.cache.refreshed().await.map_err(|error| store_failed(&error))?;
                    if wanted > now {
                        let mut status = Status::new(
                            api::Reason::Timeout,
                            format!("Too large resource version: {wanted}, current: {now}"),
                        );
                        status.details = Some(Box::new(api::status::Details {
                            causes: vec![api::status::Cause {
                                reason: "ResourceVersionTooLarge".into(),
                                message: "Too large resource version".into(),
                                field: String::new(),
                            }],
                            retry_after_seconds: 1,
                            ..Default::default()
                        }));
                        return Err(status);
                    }
                }
                Ok(self.cache.revision())
            }
        }
    }

    /// Reads one object.
    ///
    /// # Errors
    /// It is not there, or the resource version cannot be had.
    pub async fn get(&self, address: &Address, resource_version: &str) -> Result<Arc<Stored>, Status> {
        self.freshness(parse_version(resource_version)?).await?;
        let found = self.resource_of(address).get(&address.namespace, &address.name);
        let found = vec![found.ok_or_else(|| address.not_found())?];
        let mut found = self.converter.stored(&address.kind, found).await?;
        found.pop().ok_or_else(|| address.not_found())
    }

    /// Reads the objects that a query selects.
    ///
    /// # Errors
    /// A query that makes no sense, or a past that is gone.
    pub async fn list(&self, address: &Address, query: &ListQuery) -> Result<Listed, Status> {
        let mut listed = self.select(address, query).await?;
        listed.objects = self.converter.stored(&address.kind, listed.objects).await?;
        Ok(listed)
    }

    /// The objects that a query selects, as the store has them.
    async fn select(&self, address: &Address, query: &ListQuery) -> Result<Listed, Status> {
        self.check_fields(address, &query.fields)?;
        let selected = selection(address, &query.labels, &query.fields);
        let version = parse_version(&query.resource_version)?;
        if !query.continue_token.is_empty() {
            if version.is_some_and(|version| version != 0) {
                return Err(Status::bad_request(
                    "specifying resource version is not allowed when using continue",
                ));
            }
            let token = Continue::decode(&query.continue_token)?;
            let revision = match token.rv {
                0 => self.freshness(None).await?,
                _ if self.clock.now().as_second() - token.at > TOKEN_LIFE => {
                    return Err(self.expired_token(&token.start));
                }
                given => given,
            };
            return self.list_at(address, &selected, query.limit, revision, &token.start).await;
        }
        match (query.matching, version) {
            (Matching::Unset, _) | (Matching::NotOlderThan, Some(_)) => {}
            (Matching::Exact, Some(exact)) if exact > 0 => {
                self.freshness(version).await?;
                return self.list_at(address, &selected, query.limit, exact, "").await;
            }
            (Matching::Exact, Some(_)) => {
                return Err(Status::bad_request(
                    "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
                ));
            }
            (_, None) => {
                return Err(Status::bad_request(
                    "resourceVersionMatch is forbidden unless resourceVersion is provided",
                ));
            }
        }
        let revision = self.freshness(version).await?;
        let (objects, remaining) = self.resource_of(address).list(&selected, query.limit, None);
        // Changes may have come in since: the list is as new as its newest object.
        let revision = objects.iter().map(|object| object.revision).fold(revision, u64::max);
        if remaining == Some(0) || query.limit == 0 {
            return Ok(Listed { objects, revision, continue_token: String::new(), remaining: None });
        }
        // Later pages are read at a revision from the store: take the first one
        // there too, or the pages would not be of one moment.
        self.list_at(address, &selected, query.limit, revision, "").await
    }

    /// A page of the past.
    async fn list_at(
        &self,
        address: &Address,
        selected: &Selected,
        limit: usize,
        revision: u64,
        after: &str,
    ) -> Result<Listed, Status> {
        let (group, resource) = &address.kind.storage;
        let mut prefix = cache::prefix(group, resource);
        if !address.namespace.is_empty() {
            prefix = format!("{prefix}{}/", address.namespace);
        }
        let mut request = RangeRequest::prefix(prefix.clone());
        request.revision = revision;
        if !after.is_empty() {
            // Just behind the last key of the page before.
            request.start = format!("{prefix}{after}\0").into();
        }
        let filtered = !(selected.labels.is_everything() && selected.fields.is_everything());
        let mut objects = Vec::new();
        loop {
            request.limit = if limit == 0 { BATCH } else { (limit - objects.len()).max(1) };
            let page = self.store.range(request.clone()).await.map_err(|error| match error {
                store::StoreError::Compacted { .. } if after.is_empty() => store_failed(&error),
                store::StoreError::Compacted { .. } => self.expired_token(after),
                other => store_failed(&other),
            })?;
            let Some(last) = page.kvs.last().map(|kv| kv.key.clone()) else {
                return Ok(Listed { objects, revision, continue_token: String::new(), remaining: None });
            };
            let seen = page.kvs.len() as u64;
            for kv in &page.kvs {
                let object =
                    Stored::read(&kv.key, &kv.value, kv.mod_revision).map_err(|error| corrupt(&error))?;
                if selected.includes(&object) {
                    objects.push(object);
                }
            }
            if !page.more {
                return Ok(Listed { objects, revision, continue_token: String::new(), remaining: None });
            }
            if limit > 0 && objects.len() >= limit {
                let rest = String::from_utf8_lossy(&last[prefix.len()..]).into_owned();
                let remaining =
                    (!filtered).then(|| usize::try_from(page.count.saturating_sub(seen)).unwrap_or(0));
                let continue_token = Continue::encode(revision, &rest, self.clock.now());
                return Ok(Listed { objects, revision, continue_token, remaining });
            }
            let mut next = last.to_vec();
            next.push(0);
            request.start = next.into();
        }
    }

    /// Begins a watch.
    ///
    /// # Errors
    /// A query that makes no sense, or a past that is gone.
    pub async fn watch(&self, address: &Address, query: &WatchQuery) -> Result<Watch, Status> {
        self.check_fields(address, &query.fields)?;
        let selected = selection(address, &query.labels, &query.fields);
        let version = parse_version(&query.resource_version)?;
        match (query.send_initial_events, query.matching) {
            (Some(_), Matching::NotOlderThan) | (None, Matching::Unset) => {}
            (Some(_), _) => {
                return Err(invalid_list(
                    "sendInitialEvents: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
                ));
            }
            (None, _) => {
                return Err(invalid_list(
                    "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
                ));
            }
        }
        let initial = query.send_initial_events.unwrap_or(!matches!(version, Some(1..)));
        let resource = self.resource_of(address);
        let changed = resource.changed();
        let (at, objects) = if initial {
            let revision = self.freshness(version).await?;
            let (objects, _) = resource.list(&selected, 0, None);
            // What changed after `revision` may be in the list already; then it
            // comes again as a change, never out of order.
            (objects.iter().map(|object| object.revision).fold(revision, u64::max), objects)
        } else {
            let from = match version {
                None | Some(0) => self.freshness(version).await?,
                Some(from) => {
                    self.freshness(version).await?;
                    from
                }
            };
            (from, Vec::new())
        };
        Ok(Watch {
            converter: Arc::clone(&self.converter),
            kind: Arc::clone(&address.kind),
            resource,
            cache: Arc::clone(&self.cache),
            selected,
            at,
            changed,
            initial: Some(objects).filter(|_| initial),
            bookmark_after_initial: query.send_initial_events == Some(true),
        })
    }

    /// A token whose revision is gone, and one with which the list goes on otherwise.
    fn expired_token(&self, after: &str) -> Status {
        let continue_token = Continue::encode(0, after, self.clock.now());
        let message = "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.";
        Status { continue_token, ..Status::expired(message) }
    }

    fn check_fields(&self, address: &Address, fields: &FieldSelector) -> Result<(), Status> {
        let known = address.kind.strategy.selectable_names();
        for term in fields.terms() {
            let field = term.field.as_str();
            let common =
                field == "metadata.name" || (field == "metadata.namespace" && address.kind.namespaced);
            if !common && !known.contains(&field) {
                return Err(Status::bad_request(format!("field label not supported: {field}")));
            }
        }
        Ok(())
    }
}

fn selection(address: &Address, labels: &LabelSelector, fields: &FieldSelector) -> Selected {
    let fields = fields.renamed(|name| address.kind.strategy.stored_field(name));
    // A definition may have got its fields after its objects.
    let kind =
        Some(&address.kind).filter(|kind| !fields.is_everything() && kind.strategy.document().is_some());
    Selected { namespace: address.namespace.clone(), labels: labels.clone(), fields, kind: kind.cloned() }
}

fn invalid_list(why: &str) -> Status {
    Status::new(api::Reason::Invalid, format!("ListOptions.meta.k8s.io \"\" is invalid: {why}"))
}

/// A watch that is under way.
pub struct Watch {
    converter: Arc<Converter>,
    kind: Arc<Descriptor>,
    resource: Arc<Resource>,
    cache: Arc<crate::cache::WatchCache>,
    selected: Selected,
    /// Everything up to this revision was delivered.
    at: u64,
    changed: latest::Receiver<u64>,
    initial: Option<Vec<Arc<Stored>>>,
    bookmark_after_initial: bool,
}

/// One thing for the watcher to see.
#[derive(Clone, Debug)]
pub struct WatchItem {
    /// What happened.
    pub kind: ChangeKind,
    /// The object.
    pub object: Arc<Stored>,
}

/// What a watcher gets at once.
#[derive(Debug)]
pub struct WatchBatch {
    /// In order.
    pub items: Vec<WatchItem>,
    /// All changes up to here were delivered.
    pub revision: u64,
    /// The initial state ends with this batch, and a bookmark must say so.
    pub initial_end: bool,
}

impl Watch {
    /// Waits for the next changes that concern the watcher.
    ///
    /// # Errors
    /// The watcher is too far behind: it has to list again.
    pub async fn next(&mut self) -> Result<WatchBatch, Status> {
        let mut batch = self.changes().await?;
        if self.kind.conversion.is_some() {
            let objects = batch.items.iter().map(|item| Arc::clone(&item.object)).collect();
            let converted = self.converter.shared(&self.kind, objects).await?;
            for (item, object) in batch.items.iter_mut().zip(converted) {
                item.object = object;
            }
        }
        Ok(batch)
    }

    /// The next changes, of objects as the store has them.
    async fn changes(&mut self) -> Result<WatchBatch, Status> {
        if let Some(objects) = self.initial.take() {
            let items =
                objects.into_iter().map(|object| WatchItem { kind: ChangeKind::Added, object }).collect();
            return Ok(WatchBatch { items, revision: self.at, initial_end: self.bookmark_after_initial });
        }
        loop {
            self.changed.mark_unchanged();
            let (changes, seen) = self.resource.since(self.at, &self.selected, BATCH).map_err(|oldest| {
                Status::expired(format!("too old resource version: {} ({oldest})", self.at))
            })?;
            let progressed = seen > self.at;
            self.at = seen;
            if !changes.is_empty() {
                let items = changes
                    .into_iter()
                    .map(|change| WatchItem { kind: change.kind, object: change.object })
                    .collect();
                return Ok(WatchBatch { items, revision: self.at, initial_end: false });
            }
            if !progressed && self.changed.changed().await.is_err() {
                return Err(Status::unavailable("the server is stopping"));
            }
        }
    }

    /// The revision up to which nothing is missing, for a bookmark.
    pub fn progress(&mut self) -> u64 {
        let complete = self.cache.revision();
        // Only if nothing of ours lies between: else `next` will report it first.
        if let Ok((changes, seen)) = self.resource.since(self.at, &self.selected, BATCH)
            && changes.is_empty()
        {
            self.at = seen.max(self.at);
            if self.resource.last_change() <= self.at {
                self.at = self.at.max(complete);
            }
        }
        self.at
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn continue_tokens_are_read() {
        let token = Continue::encode(7, "a/b", Timestamp::UNIX_EPOCH);
        let read = Continue::decode(&token).expect("reads");
        assert_eq!((read.rv, read.start.as_str(), read.at), (7, "a/b", 0));
    }

    proptest! {
        #[test]
        fn damaged_continue_tokens_are_refused_or_read(
            at in any::<prop::sample::Index>(), byte in any::<u8>(), invented in "\\PC{0,40}",
        ) {
            let mut token = Continue::encode(7, "default/a", Timestamp::UNIX_EPOCH).into_bytes();
            let at = at.index(token.len());
            token[at] = byte;
            for text in [String::from_utf8_lossy(&token).into_owned(), invented] {
                if let Err(status) = Continue::decode(&text) {
                    prop_assert_eq!(status.code, 400);
                }
            }
        }
    }
}
