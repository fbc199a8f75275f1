//! Kinds that are questions: who am I, may I, is this token good, give me one.

use std::collections::BTreeMap;

use api::{FieldError, Object, Path, Status};
use serde_json::{Value, json};

use crate::authn::{Bindings, Bound, User};
use crate::authz::{Attributes, Decision, selectors};
use crate::gate::Gate;
use crate::registry::{Address, Caller};

/// The longest and the shortest life of a requested token, in seconds.
const TOKEN_SECONDS: std::ops::RangeInclusive<i64> = 600..=(1 << 32);

/// Answers a review.
///
/// # Errors
/// A kind that this server does not answer, or a question that makes no sense.
pub(crate) async fn answer(
    gate: &Gate,
    caller: &Caller,
    address: &Address,
    mut review: Object,
) -> Result<Object, Status> {
    let status = match (address.kind.group.as_str(), address.kind.resource.as_str()) {
        ("authentication.k8s.io", "selfsubjectreviews") => json!({"userInfo": user_info(&caller.user)}),
        ("authentication.k8s.io", "tokenreviews") => token_status(gate, &review).await,
        ("authorization.k8s.io", "selfsubjectaccessreviews") => {
            access_status(gate, &caller.user, &review).await?
        }
        ("authorization.k8s.io", "subjectaccessreviews") => {
            access_status(gate, &subject(&review)?, &review).await?
        }
        ("authorization.k8s.io", "localsubjectaccessreviews") => {
            if review.text(&["spec", "resourceAttributes", "namespace"]) != address.namespace {
                return Err(Status::bad_request(format!(
                    "spec.resourceAttributes.namespace must match namespace: {}",
                    address.namespace
                )));
            }
            access_status(gate, &subject(&review)?, &review).await?
        }
        ("authorization.k8s.io", "selfsubjectrulesreviews") => rules_status(gate, &caller.user, &review)?,
        ("", "bindings") => {
            let address = Address {
                kind: gate.registry().kinds().find("", "v1", "pods").ok_or_else(Status::no_such_resource)?,
                namespace: address.namespace.clone(),
                name: review.name().to_owned(),
            };
            let written = gate.bind(caller, &address, review, false).await?;
            return Object::from_slice(&written.json).map_err(Status::internal);
        }
        (group, resource) => return Err(Status::method_not_supported(group, resource, "create")),
    };
    review.set("status", status);
    Ok(review)
}

fn user_info(user: &User) -> Value {
    let mut info = json!({"username": user.name, "groups": user.groups});
    if !user.uid.is_empty() {
        info["uid"] = user.uid.as_str().into();
    }
    if !user.extra.is_empty() {
        info["extra"] = json!(user.extra);
    }
    info
}

fn texts(value: Option<&Value>) -> Vec<String> {
    value
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

async fn token_status(gate: &Gate, review: &Object) -> Value {
    let audiences = texts(review.at(&["spec", "audiences"]));
    let authenticator = gate.authenticator();
    match authenticator.token(review.text(&["spec", "token"]), &audiences).await {
        Ok(user) => {
            let own = authenticator.tokens().audiences();
            let audiences = if audiences.is_empty() { own.to_vec() } else { audiences };
            json!({"authenticated": true, "user": user_info(&user), "audiences": audiences})
        }
        Err(why) => {
            tracing::debug!(%why, "a token review failed");
            json!({"authenticated": false, "user": {}, "error": "[invalid bearer token]"})
        }
    }
}

fn extra_of(value: Option<&Value>) -> BTreeMap<String, Vec<String>> {
    let entries = value.and_then(Value::as_object).into_iter().flatten();
    entries.map(|(key, values)| (key.clone(), texts(Some(values)))).collect()
}

fn subject(review: &Object) -> Result<User, Status> {
    let user = User {
        name: review.text(&["spec", "user"]).to_owned(),
        uid: review.text(&["spec", "uid"]).to_owned(),
        groups: texts(review.at(&["spec", "groups"])),
        extra: extra_of(review.at(&["spec", "extra"])),
    };
    if user.name.is_empty() && user.groups.is_empty() {
        let spec = Path::new("spec");
        let error =
            FieldError::invalid(&spec.child("user"), "", "at least one of user or group must be specified");
        return Err(Status::invalid("authorization.k8s.io", "SubjectAccessReview", "", &[error]));
    }
    Ok(user)
}

async fn access_status(gate: &Gate, user: &User, review: &Object) -> Result<Value, Status> {
    let text = |part: &str, field: &str| review.text(&["spec", part, field]).to_owned();
    let of_resource = review.at(&["spec", "resourceAttributes"]);
    let of_path = review.at(&["spec", "nonResourceAttributes"]);
    let attributes = match (of_resource, of_path) {
        (Some(given), None) => {
            let errors = selectors::validate(given);
            if !errors.is_empty() {
                return Err(Status::invalid("authorization.k8s.io", review.kind(), "", &errors));
            }
            let (labels, fields) = selectors::of_review(given);
            Attributes {
                verb: text("resourceAttributes", "verb"),
                group: text("resourceAttributes", "group"),
                version: text("resourceAttributes", "version"),
                resource: text("resourceAttributes", "resource"),
                subresource: text("resourceAttributes", "subresource"),
                namespace: text("resourceAttributes", "namespace"),
                name: text("resourceAttributes", "name"),
                labels,
                fields,
                path: String::new(),
            }
        }
        (None, Some(_)) => Attributes {
            verb: text("nonResourceAttributes", "verb"),
            path: text("nonResourceAttributes", "path"),
            ..Attributes::default()
        },
        _ => {
            let spec = Path::new("spec");
            let error = FieldError::invalid(
                &spec.child("resourceAttributes"),
                Value::Null,
                "exactly one of nonResourceAttributes or resourceAttributes must be specified",
            );
            return Err(Status::invalid("authorization.k8s.io", review.kind(), "", &[error]));
        }
    };
    let verdict = gate.authorizer().decide(user, &attributes).await;
    let mut status = json!({"allowed": verdict.is_allowed()});
    if verdict.decision == Decision::Deny {
        status["denied"] = true.into();
    }
    if !verdict.reason.is_empty() {
        status["reason"] = verdict.reason.into();
    }
    if !verdict.error.is_empty() {
        status["evaluationError"] = verdict.error.into();
    }
    Ok(status)
}

fn rules_status(gate: &Gate, user: &User, review: &Object) -> Result<Value, Status> {
    let namespace = review.text(&["spec", "namespace"]);
    if namespace.is_empty() {
        return Err(Status::bad_request("no namespace on request"));
    }
    let mut resource_rules = Vec::new();
    let mut path_rules = Vec::new();
    if user.is_in(crate::authn::MASTERS) {
        resource_rules.push(json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}));
        path_rules.push(json!({"verbs": ["*"], "nonResourceURLs": ["*"]}));
    }
    for rule in gate.authorizer().rules(user, namespace) {
        let value = serde_json::to_value(&*rule).map_err(Status::internal)?;
        if rule.non_resource_urls.is_empty() { resource_rules.push(value) } else { path_rules.push(value) }
    }
    let mut status =
        json!({"resourceRules": resource_rules, "nonResourceRules": path_rules, "incomplete": false});
    if !gate.authorizer().knows_all_rules() {
        status["incomplete"] = true.into();
        status["evaluationError"] = "webhook authorizer does not support user rule resolution".into();
    }
    Ok(status)
}

/// Answers a `TokenRequest` on a service account.
///
/// # Errors
/// The account or what the token shall be bound to does not exist.
pub(crate) async fn issue_token(
    gate: &Gate,
    address: &Address,
    mut request: Object,
) -> Result<Object, Status> {
    let account = gate.registry().get(address, "").await?;
    let seconds = request.integer(&["spec", "expirationSeconds"]).unwrap_or(3600);
    let spec = Path::new("spec");
    if !TOKEN_SECONDS.contains(&seconds) {
        let why = if seconds < *TOKEN_SECONDS.start() {
            "may not specify a duration less than 10 minutes"
        } else {
            "may not specify a duration larger than 2^32 seconds"
        };
        let error = FieldError::invalid(&spec.child("expirationSeconds"), seconds, why);
        return Err(Status::invalid("authentication.k8s.io", "TokenRequest", "", &[error]));
    }
    let bound = bound_object(gate, address, &request).await?;
    let audiences = texts(request.at(&["spec", "audiences"]));
    let tokens = gate.authenticator().tokens();
    let audiences = if audiences.is_empty() { tokens.audiences().to_vec() } else { audiences };
    let of = Bound { name: address.name.clone(), uid: account.uid().to_owned() };
    let issued =
        tokens.issue(&address.namespace, of, bound, audiences.clone(), seconds).map_err(Status::internal)?;
    request.set_at(&["spec", "audiences"], audiences);
    request.set_at(&["spec", "expirationSeconds"], seconds);
    request.set_at(&["metadata", "name"], address.name.as_str());
    request.set_at(&["metadata", "namespace"], address.namespace.as_str());
    request.set(
        "status",
        json!({"token": issued.token, "expirationTimestamp": api::time::format(issued.expires)}),
    );
    Ok(request)
}

async fn bound_object(gate: &Gate, address: &Address, request: &Object) -> Result<Bindings, Status> {
    let Some(reference) = request.at(&["spec", "boundObjectRef"]).filter(|one| one.is_object()) else {
        return Ok(Bindings::default());
    };
    let text = |field: &str| reference[field].as_str().unwrap_or_default();
    let resource = match text("kind") {
        "Pod" => "pods",
        "Secret" => "secrets",
        "Node" => "nodes",
        other => {
            return Err(Status::bad_request(format!(
                "cannot bind token for serviceaccount to type {other:?}"
            )));
        }
    };
    let kind = gate.registry().kinds().find("", "v1", resource).ok_or_else(Status::no_such_resource)?;
    let namespace = if kind.namespaced { address.namespace.clone() } else { String::new() };
    let target = Address { kind, namespace, name: text("name").to_owned() };
    let found = gate.registry().get(&target, "").await?;
    if !text("uid").is_empty() && text("uid") != found.uid() {
        return Err(target.conflict(&format!(
            "the UID in the bound object reference ({}) does not match the UID in record. The object might have been deleted and then recreated",
            text("uid")
        )));
    }
    let bound = Bound { name: target.name.clone(), uid: found.uid().to_owned() };
    let mut bindings = Bindings::default();
    if resource == "pods" {
        let pod = found.object().map_err(Status::internal)?;
        if pod.text(&["spec", "serviceAccountName"]) != address.name {
            return Err(Status::bad_request(format!(
                "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
                address.name
            )));
        }
        let node = pod.text(&["spec", "nodeName"]);
        if !node.is_empty() {
            let known = gate.registry().cache().resource("", "nodes").get("", node);
            let uid = known.map(|node| node.uid().to_owned()).unwrap_or_default();
            bindings.node = Some(Bound { name: node.to_owned(), uid });
        }
    }
    match resource {
        "pods" => bindings.pod = Some(bound),
        "secrets" => bindings.secret = Some(bound),
        _ => bindings.node = Some(bound),
    }
    Ok(bindings)
}
