//! POST, PUT, PATCH, DELETE.

use api::{Reason, Status};
use bytes::{BufMut as _, Bytes, BytesMut};
use http::{Method, Request, Response, header};
use hyper::body::Incoming;
use serde_json::Value;

use super::answer::{Answer, encoded, json as json_answer, warn};
use super::negotiate::{body_media, content_type, unsupported};
use super::{Asked, Query, Rest, read_body};
use crate::gate::{Body, Target};
use crate::registry::{DeleteOptions, Deleted, PatchKind, UpdateOptions, View, Written, decode_options};

impl Rest {
    pub(super) async fn write(
        &self,
        request: Request<Incoming>,
        asked: Asked,
        target: Target,
    ) -> Result<Response<Answer>, Status> {
        let agent = request.headers().get(header::USER_AGENT).and_then(|value| value.to_str().ok());
        let caller = self.caller(&asked, agent);
        let (parts, body) = request.into_parts();
        let dry_run = asked.query.dry_run()?;
        let validation = asked.query.field_validation()?;
        match parts.method {
            Method::POST | Method::PUT => {
                let media = body_media(&parts.headers)?;
                let bytes = read_body(body).await?;
                let body = Body { media, bytes: &bytes, validation };
                let written = if parts.method == Method::POST {
                    self.gate.create(&caller, &target, body, dry_run).await?
                } else {
                    self.gate.update(&caller, &target, body, dry_run).await?
                };
                self.show_written(&asked, &target, &written)
            }
            Method::PATCH => {
                let kind = patch_kind(content_type(&parts.headers), &asked.query)?;
                let patch = read_body(body).await?;
                let options =
                    UpdateOptions { dry_run, field_validation: validation, ..UpdateOptions::default() };
                let written = self.gate.patch(&caller, &target, kind, &patch, &options).await?;
                self.show_written(&asked, &target, &written)
            }
            _ => {
                let media = body_media(&parts.headers)?;
                let kind =
                    self.gate.registry().kinds().find(&target.group, &target.version, &target.resource);
                let schema = kind.as_ref().map(|kind| &*kind.shape.0);
                let mut options: DeleteOptions = decode_options(schema, media, &read_body(body).await?)?;
                options_from_query(&mut options, &asked)?;
                if target.name.is_empty() {
                    let query = asked.query.list()?;
                    let (kind, items) =
                        self.gate.delete_collection(&caller, &target, &query, &options).await?;
                    let list = list_of(&format!("{}List", kind.kind), &kind.api_version(), &items);
                    return Ok(encoded(200, &asked.accept, list));
                }
                match self.gate.delete(&caller, &target, &options).await? {
                    Deleted::Gone(status) => Ok(json_answer(200, &status.to_json())),
                    Deleted::Later(written) => {
                        let mut response = encoded(200, &asked.accept, written.json);
                        warn(&mut response, &written.warnings);
                        Ok(response)
                    }
                }
            }
        }
    }

    fn show_written(
        &self,
        asked: &Asked,
        target: &Target,
        written: &Written,
    ) -> Result<Response<Answer>, Status> {
        let code = if written.created { 201 } else { 200 };
        let registry = self.gate.registry();
        let kind = registry.kinds().find(&target.group, &target.version, &target.resource);
        let bytes = match kind.filter(|_| target.subresource.is_empty()) {
            Some(kind) => View::new(kind, asked.shape()).written(registry, &written.json)?,
            None => written.json.clone(),
        };
        let mut response = encoded(code, &asked.accept, bytes);
        warn(&mut response, &written.warnings);
        Ok(response)
    }
}

fn patch_kind(media: &str, query: &Query) -> Result<PatchKind, Status> {
    let invalid = |why: &str| Status {
        code: 422,
        ..Status::new(Reason::Invalid, format!("PatchOptions.meta.k8s.io \"\" is invalid: {why}"))
    };
    let kind = match media {
        "application/json-patch+json" => PatchKind::Json,
        "application/merge-patch+json" => PatchKind::Merge,
        "application/strategic-merge-patch+json" => PatchKind::Strategic,
        "application/apply-patch+yaml" => {
            if query.get("fieldManager").is_none_or(str::is_empty) {
                return Err(invalid("fieldManager: Required value: is required for apply patch"));
            }
            return Ok(PatchKind::Apply { force: query.flag("force") });
        }
        other => {
            return Err(unsupported(
                other,
                "application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, application/apply-patch+yaml",
            ));
        }
    };
    match query.get("force") {
        Some(_) => Err(invalid("force: Forbidden: may not be specified for non-apply patch")),
        None => Ok(kind),
    }
}

/// Old clients put the options into the query.
fn options_from_query(options: &mut DeleteOptions, asked: &Asked) -> Result<(), Status> {
    if options.grace_period_seconds.is_none() {
        options.grace_period_seconds = asked.query.number("gracePeriodSeconds")?;
    }
    if options.propagation_policy.is_none() && options.orphan_dependents.is_none() {
        options.propagation_policy = asked.query.get("propagationPolicy").map(str::to_owned);
    }
    if options.dry_run.is_empty() && asked.query.dry_run()? {
        options.dry_run.push("All".to_owned());
    }
    Ok(())
}

fn list_of(kind: &str, api_version: &str, items: &[Bytes]) -> Bytes {
    let mut all = BytesMut::new();
    let head = format!(
        "{{\"kind\":{},\"apiVersion\":{},\"metadata\":{{}},\"items\":[",
        Value::from(kind),
        Value::from(api_version)
    );
    all.extend_from_slice(head.as_bytes());
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            all.put_u8(b',');
        }
        all.extend_from_slice(item);
    }
    all.extend_from_slice(b"]}\n");
    all.freeze()
}
