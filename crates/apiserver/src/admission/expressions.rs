//! Expressions about requests: their variables, and conditions for being asked.

use std::cell::OnceCell;
use std::fmt;
use std::sync::Arc;

use resources::Descriptor;
use resources::cel::{self, Budget, Error, Foreign, Program, Variables, admission};
use serde_json::{Value, json};

use super::Request;
use super::matching::verb;
use crate::authn::User;
use crate::authz::{Attributes, Authorizer};

/// What runs when all that may be spent is.
pub(super) const SPENT: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

/// An expression and its program, or why it has none.
#[derive(Clone, Debug)]
pub(super) struct Compiled {
    pub(super) source: String,
    pub(super) program: Result<Arc<Program>, String>,
}

impl Compiled {
    pub(super) fn new(source: &Value, made: impl Fn(&str) -> Result<Program, String>) -> Self {
        let source = source.as_str().unwrap_or_default().trim().to_owned();
        Self { program: made(&source).map(Arc::new), source }
    }

    /// The value, or upstream's words for why there is none.
    pub(super) fn evaluate(&self, variables: &dyn Variables, budget: &Budget) -> Result<cel::Value, String> {
        let program = self.program.as_ref().map_err(|why| format!("compilation error: {why}"))?;
        program.evaluate(variables, budget).map_err(|error| match error {
            Error::CostExceeded if budget.is_spent() => SPENT.to_owned(),
            error => format!("expression '{}' resulted in error: {error}", self.source),
        })
    }
}

/// `matchConditions`: all must hold for a webhook or a policy to be asked.
#[derive(Clone, Debug, Default)]
pub(super) struct Conditions(Vec<Compiled>);

impl Conditions {
    pub(super) fn read(list: &Value, known: &dyn Fn(&str) -> Option<cel::Type>) -> Self {
        let list = list.as_array().into_iter().flatten();
        let compile = |source: &str| admission::compile_condition(source, known);
        Self(list.map(|one| Compiled::new(&one["expression"], compile)).collect())
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all hold. One that does not hold decides, whatever is wrong with others.
    pub(super) fn hold(&self, variables: &dyn Variables, budget: &Budget) -> Result<bool, String> {
        let mut errors: Vec<String> = Vec::new();
        for condition in &self.0 {
            match condition.evaluate(variables, budget) {
                Ok(cel::Value::Bool(true)) => {}
                Ok(_) => return Ok(false),
                Err(why) if !errors.contains(&why) => errors.push(why),
                Err(_) => {}
            }
        }
        match errors.as_slice() {
            [] => Ok(true),
            [one] => Err(one.clone()),
            many => Err(format!("[{}]", many.join(", "))),
        }
    }
}

/// The variables that every expression about a request has. Objects are converted
/// when they are first looked at.
pub(super) struct About<'r> {
    request: &'r Request<'r>,
    authorizer: &'r Arc<Authorizer>,
    object: OnceCell<cel::Value>,
    old: OnceCell<cel::Value>,
    attributes: OnceCell<cel::Value>,
}

impl<'r> About<'r> {
    pub(super) fn new(request: &'r Request<'r>, authorizer: &'r Arc<Authorizer>) -> Self {
        let (object, old, attributes) = (OnceCell::new(), OnceCell::new(), OnceCell::new());
        Self { request, authorizer, object, old, attributes }
    }
}

impl Variables for About<'_> {
    fn get(&self, name: &str) -> Option<Result<cel::Value, Error>> {
        let of = |object: &Option<api::Object>| {
            object.as_ref().map_or(cel::Value::Null, |object| cel::Value::from_map(object.as_map()))
        };
        Some(Ok(match name {
            "object" => self.object.get_or_init(|| of(&self.request.object)).clone(),
            "oldObject" => self.old.get_or_init(|| of(&self.request.old)).clone(),
            "request" => {
                let attributes = || cel::Value::from_json(&attributes(self.request));
                self.attributes.get_or_init(attributes).clone()
            }
            "authorizer" => Asking::new(self.authorizer, &self.request.caller.user).value(),
            "authorizer.requestResource" => {
                let mut asking = Asking::new(self.authorizer, &self.request.caller.user);
                asking.stage = Stage::Resource;
                asking.attributes = Attributes {
                    group: self.request.kind.group.clone(),
                    version: "*".to_owned(),
                    resource: self.request.kind.resource.clone(),
                    subresource: self.request.subresource.to_owned(),
                    namespace: self.request.namespace.to_owned(),
                    name: self.request.name.to_owned(),
                    ..Attributes::default()
                };
                asking.value()
            }
            _ => return None,
        }))
    }
}

/// What a request is, as a review has it, without its objects.
pub(super) fn attributes(of: &Request<'_>) -> Value {
    let requested = of.requested.unwrap_or(of.kind);
    let gvk = |kind: &Descriptor| match kind.subresource(of.subresource) {
        // The kind of what is written through it, or of the options with which it is asked.
        Some(part) => {
            let (group, version) =
                part.group_version.clone().unwrap_or_else(|| (kind.group.clone(), kind.version.clone()));
            json!({"group": group, "version": version, "kind": part.kind})
        }
        None => json!({"group": kind.group, "version": kind.version, "kind": kind.kind}),
    };
    let gvr =
        |kind: &Descriptor| json!({"group": kind.group, "version": kind.version, "resource": kind.resource});
    let user = &of.caller.user;
    let mut info = json!({"groups": user.groups});
    for (name, value) in [("username", &user.name), ("uid", &user.uid)] {
        if !value.is_empty() {
            info[name] = value.as_str().into();
        }
    }
    if !user.extra.is_empty() {
        info["extra"] = json!(user.extra);
    }
    let options = match of.operation {
        super::Operation::Create => "CreateOptions",
        super::Operation::Update => "UpdateOptions",
        super::Operation::Delete => "DeleteOptions",
        super::Operation::Connect => "",
    };
    let mut asked = json!({
        "kind": gvk(of.kind), "resource": gvr(of.kind),
        "requestKind": gvk(requested), "requestResource": gvr(requested),
        "operation": verb(of.operation), "userInfo": info, "dryRun": of.dry_run, "options": null,
    });
    if !options.is_empty() {
        asked["options"] = json!({"kind": options, "apiVersion": "meta.k8s.io/v1"});
    }
    for (name, value) in [
        ("subResource", of.subresource),
        ("requestSubResource", of.subresource),
        ("name", of.name),
        ("namespace", of.namespace),
    ] {
        if !value.is_empty() {
            asked[name] = value.into();
        }
    }
    asked
}

/// How far a question to the authorizer has come.
#[derive(Clone, Debug)]
enum Stage {
    Authorizer,
    Path,
    Group,
    Resource,
    /// Answered: allowed for a reason, or not.
    Decision(Result<String, String>),
}

/// A question to the authorizer, as expressions build it.
#[derive(Clone)]
struct Asking {
    authorizer: Arc<Authorizer>,
    user: Arc<User>,
    stage: Stage,
    attributes: Attributes,
}

impl Asking {
    fn new(authorizer: &Arc<Authorizer>, user: &Arc<User>) -> Self {
        Self {
            authorizer: Arc::clone(authorizer),
            user: Arc::clone(user),
            stage: Stage::Authorizer,
            attributes: Attributes { version: "*".to_owned(), ..Attributes::default() },
        }
    }

    fn value(self) -> cel::Value {
        cel::Value::Foreign(Arc::new(self))
    }

    /// The question with one more part.
    fn with(&self, stage: Stage, change: impl FnOnce(&mut Self)) -> cel::Value {
        let mut next = self.clone();
        next.stage = stage;
        change(&mut next);
        next.value()
    }
}

impl fmt::Debug for Asking {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_struct("Asking").field("stage", &self.stage).field("attributes", &self.attributes).finish()
    }
}

impl Foreign for Asking {
    fn type_name(&self) -> &'static str {
        match self.stage {
            Stage::Authorizer => "kubernetes.authorization.Authorizer",
            Stage::Path => "kubernetes.authorization.PathCheck",
            Stage::Group => "kubernetes.authorization.GroupCheck",
            Stage::Resource => "kubernetes.authorization.ResourceCheck",
            Stage::Decision(_) => "kubernetes.authorization.Decision",
        }
    }

    fn call(&self, method: &str, args: &[cel::Value]) -> Option<Result<cel::Value, String>> {
        let text = |at: usize| match args.get(at) {
            Some(cel::Value::Text(text)) => Some(text.to_string()),
            _ => None,
        };
        Some(Ok(match (&self.stage, method, args.len()) {
            (Stage::Authorizer, "path", 1) => {
                let path = text(0)?;
                self.with(Stage::Path, |next| next.attributes.path = path)
            }
            (Stage::Authorizer, "group", 1) => {
                let group = text(0)?;
                self.with(Stage::Group, |next| next.attributes.group = group)
            }
            (Stage::Authorizer, "serviceAccount", 2) => {
                let (namespace, name) = (text(0)?, text(1)?);
                self.with(Stage::Authorizer, |next| next.user = Arc::new(service_account(&namespace, &name)))
            }
            (Stage::Group, "resource", 1) => {
                let resource = text(0)?;
                self.with(Stage::Resource, |next| next.attributes.resource = resource)
            }
            (Stage::Resource, "subresource", 1) => {
                let part = text(0)?;
                self.with(Stage::Resource, |next| next.attributes.subresource = part)
            }
            (Stage::Resource, "namespace", 1) => {
                let namespace = text(0)?;
                self.with(Stage::Resource, |next| next.attributes.namespace = namespace)
            }
            (Stage::Resource, "name", 1) => {
                let name = text(0)?;
                self.with(Stage::Resource, |next| next.attributes.name = name)
            }
            (Stage::Resource | Stage::Path, "check", 1) => {
                let asked = Attributes { verb: text(0)?, ..self.attributes.clone() };
                let answer = self.authorizer.allows(&self.user, &asked);
                self.with(Stage::Decision(answer), |_| ())
            }
            (Stage::Decision(answer), "allowed", 0) => cel::Value::Bool(answer.is_ok()),
            (Stage::Decision(Ok(reason) | Err(reason)), "reason", 0) => cel::Value::text(reason),
            // Whether somebody may do something is always known here.
            (Stage::Decision(_), "errored", 0) => cel::Value::Bool(false),
            (Stage::Decision(_), "error", 0) => cel::Value::text(""),
            _ => return None,
        }))
    }
}

fn service_account(namespace: &str, name: &str) -> User {
    User {
        name: format!("system:serviceaccount:{namespace}:{name}"),
        groups: vec![
            "system:serviceaccounts".to_owned(),
            format!("system:serviceaccounts:{namespace}"),
            "system:authenticated".to_owned(),
        ],
        ..User::default()
    }
}
