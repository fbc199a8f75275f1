//! From the claims of a token to a user, by names or by expressions. Pure.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail, ensure};
use resources::cel::{Budget, Program, Type, Value};
use serde_json::{Map, Value as Json};

use crate::authn::{CREDENTIAL_ID, User};

/// The claims of a token.
pub(crate) type Claims = Map<String, Json>;

/// An expression over claims, or over a user.
#[derive(Debug)]
pub(crate) struct Expression {
    source: String,
    variable: &'static str,
    program: Program,
}

impl Expression {
    pub(crate) fn of_claims(source: &str) -> anyhow::Result<Self> {
        Self::compile(source, "claims", Type::Dyn)
    }

    pub(crate) fn of_user(source: &str) -> anyhow::Result<Self> {
        let user = Type::object([
            ("username".to_owned(), Type::Text),
            ("uid".to_owned(), Type::Text),
            ("groups".to_owned(), Type::list(Type::Text)),
            ("extra".to_owned(), Type::map(Type::Text, Type::list(Type::Text))),
        ]);
        Self::compile(source, "user", user)
    }

    fn compile(source: &str, variable: &'static str, of: Type) -> anyhow::Result<Self> {
        ensure!(!source.trim().is_empty(), "expression: Required value");
        let program = Program::compile(source, &|name| (name == variable).then(|| of.clone()));
        let program = program.map_err(|why| anyhow::anyhow!("compilation failed: {why}"))?;
        Ok(Self { source: source.to_owned(), variable, program })
    }

    fn evaluate(&self, given: &Value) -> anyhow::Result<Value> {
        let variables = [(self.variable, given.clone())];
        let found = self.program.evaluate(&variables, &Budget::default());
        found.with_context(|| format!("evaluate {:?}", self.source))
    }

    /// A text, or a list of them; what is empty is left out.
    fn texts(&self, given: &Value) -> anyhow::Result<Vec<String>> {
        const WRONG: &str = "expression must return a string or a list of strings";
        let json = self.evaluate(given)?.to_json().map_err(|_| anyhow::anyhow!(WRONG))?;
        let list = match json {
            Json::Null => return Ok(Vec::new()),
            Json::Array(list) => list,
            one => vec![one],
        };
        let mut texts = Vec::new();
        for one in list {
            let Json::String(text) = one else { bail!(WRONG) };
            if !text.is_empty() {
                texts.push(text);
            }
        }
        Ok(texts)
    }
}

/// Where a part of a user comes from.
#[derive(Debug)]
pub(crate) enum Source {
    Claim { claim: String, prefix: String },
    Expression(Expression),
}

impl Source {
    /// A user name made of `claims.email` must look at `claims.email_verified`, there
    /// or in a rule.
    pub(crate) fn check_email(&self, checks: &[Check]) -> anyhow::Result<()> {
        let Self::Expression(expression) = self else { return Ok(()) };
        let uses = |source: &str, claim: &str| {
            let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            let name = format!("claims.{claim}");
            source
                .match_indices(&name)
                .any(|(at, _)| source.as_bytes().get(at + name.len()).is_none_or(|next| !word(*next)))
        };
        let verifies = |source: &str| uses(source, "email_verified") || uses(source, "?email_verified");
        let is_checked = checks
            .iter()
            .any(|check| matches!(check, Check::Holds { expression, .. } if verifies(&expression.source)));
        ensure!(
            !uses(&expression.source, "email") || verifies(&expression.source) || is_checked,
            "claims.email_verified must be used in claimMappings.username.expression or claimMappings.extra[*].valueExpression or claimValidationRules[*].expression when claims.email is used in claimMappings.username.expression"
        );
        Ok(())
    }

    fn text(&self, claims: &Claims, value: &Value) -> anyhow::Result<String> {
        match self {
            Self::Claim { claim, prefix } => {
                let found = claims.get(claim).with_context(|| format!("claim {claim:?} is not present"))?;
                let text = found.as_str().with_context(|| format!("claim {claim:?} is no text"))?;
                Ok(format!("{prefix}{text}"))
            }
            Self::Expression(expression) => match expression.evaluate(value)? {
                Value::Text(text) => Ok(text.to_string()),
                _ => bail!("claim expression must return a string"),
            },
        }
    }

    fn texts(&self, claims: &Claims, value: &Value) -> anyhow::Result<Vec<String>> {
        match self {
            Self::Claim { claim, prefix } => {
                let list = match claims.get(claim) {
                    None => return Ok(Vec::new()),
                    Some(Json::Array(list)) => list.as_slice(),
                    Some(one) => std::slice::from_ref(one),
                };
                list.iter()
                    .map(|one| {
                        let text = one.as_str().with_context(|| format!("claim {claim:?} has no texts"))?;
                        Ok(format!("{prefix}{text}"))
                    })
                    .collect()
            }
            Self::Expression(expression) => expression.texts(value),
        }
    }
}

/// What must hold of a token or its user.
#[derive(Debug)]
pub(crate) enum Check {
    Is { claim: String, value: String },
    Holds { expression: Expression, message: String },
}

impl Check {
    fn run(&self, claims: &Claims, given: &Value) -> anyhow::Result<()> {
        match self {
            Self::Is { claim, value } => {
                let found =
                    claims.get(claim).with_context(|| format!("required claim {claim} is not present"))?;
                ensure!(found.as_str() == Some(value), "required claim {claim} value does not match");
            }
            Self::Holds { expression, message } => match expression.evaluate(given)? {
                Value::Bool(true) => {}
                Value::Bool(false) => {
                    bail!("validation expression '{}' failed: {message}", expression.source)
                }
                _ => bail!("validation expression must return a boolean"),
            },
        }
        Ok(())
    }
}

/// What becomes of claims.
#[derive(Debug)]
pub(crate) struct Mapping {
    pub(crate) username: Source,
    pub(crate) groups: Option<Source>,
    pub(crate) uid: Option<Source>,
    pub(crate) extra: Vec<(String, Expression)>,
    pub(crate) checks: Vec<Check>,
    pub(crate) user_checks: Vec<Check>,
}

impl Mapping {
    /// The user that claims are.
    ///
    /// # Errors
    /// A claim is missing or wrong, or a rule does not hold.
    pub(crate) fn user(&self, claims: &Claims) -> anyhow::Result<User> {
        let value = Value::from_map(claims);
        let name = self.username.text(claims, &value).context("username")?;
        match &self.username {
            Source::Claim { claim, .. } if claim == "email" => match claims.get("email_verified") {
                None | Some(Json::Bool(true)) => {}
                _ => bail!("email not verified"),
            },
            Source::Expression(_) => {
                ensure!(!name.is_empty(), "empty username via CEL expression is not allowed")
            }
            Source::Claim { .. } => {}
        }
        let groups = self.groups.as_ref().map(|source| source.texts(claims, &value));
        let uid = self.uid.as_ref().map(|source| source.text(claims, &value));
        let mut extra = BTreeMap::new();
        if let Some(id) = claims.get("jti").and_then(Json::as_str).filter(|id| !id.is_empty()) {
            extra.insert(CREDENTIAL_ID.to_owned(), vec![format!("JTI={id}")]);
        }
        for (key, expression) in &self.extra {
            let values = expression.texts(&value).with_context(|| format!("extra {key}"))?;
            if !values.is_empty() {
                extra.insert(key.clone(), values);
            }
        }
        let user = User {
            name,
            uid: uid.transpose().context("uid")?.unwrap_or_default(),
            groups: groups.transpose().context("groups")?.unwrap_or_default(),
            extra,
        };
        self.checks.iter().try_for_each(|check| check.run(claims, &value))?;
        if !self.user_checks.is_empty() {
            let seen = serde_json::json!({
                "username": user.name, "uid": user.uid, "groups": user.groups, "extra": user.extra,
            });
            let seen = Value::from_json(&seen);
            self.user_checks.iter().try_for_each(|check| check.run(claims, &seen))?;
        }
        Ok(user)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn mapping(change: impl FnOnce(&mut Mapping)) -> Mapping {
        let claim = |claim: &str, prefix: &str| Source::Claim { claim: claim.into(), prefix: prefix.into() };
        let mut mapping = Mapping {
            username: claim("email", "oidc:"),
            groups: Some(claim("groups", "g:")),
            uid: None,
            extra: Vec::new(),
            checks: Vec::new(),
            user_checks: Vec::new(),
        };
        change(&mut mapping);
        mapping
    }

    fn claims(value: Json) -> Claims {
        value.as_object().cloned().expect("claims")
    }

    #[test]
    fn by_names() {
        let mapping = mapping(|_| {});
        let user =
            mapping.user(&claims(json!({"email": "a@b", "groups": ["x", "y"], "jti": "1"}))).expect("a user");
        assert_eq!((user.name.as_str(), user.groups), ("oidc:a@b", vec!["g:x".to_owned(), "g:y".to_owned()]));
        assert_eq!(user.extra[CREDENTIAL_ID], ["JTI=1"]);
        let one = mapping.user(&claims(json!({"email": "a@b", "groups": "x", "email_verified": true})));
        assert_eq!(one.expect("a user").groups, ["g:x"]);
        for bad in [
            json!({}),
            json!({"email": 1}),
            json!({"email": "a", "groups": [1]}),
            json!({"email": "a", "email_verified": false}),
            json!({"email": "a", "email_verified": "true"}),
        ] {
            assert!(mapping.user(&claims(bad.clone())).is_err(), "{bad}");
        }
    }

    #[test]
    fn by_expressions() {
        let of = |source: &str| Expression::of_claims(source).expect("compiles");
        let mapping = mapping(|mapping| {
            mapping.username = Source::Expression(of("'u:' + claims.sub"));
            mapping.groups = Some(Source::Expression(of("claims.roles.split(',')")));
            mapping.extra = vec![("example.com/t".into(), of("has(claims.t) ? claims.t : ''"))];
            mapping.checks = vec![
                Check::Is { claim: "hd".into(), value: "example.com".into() },
                Check::Holds { expression: of("claims.n > 1"), message: "too small".into() },
            ];
            let user = Expression::of_user("!user.username.startsWith('u:system:')").expect("compiles");
            mapping.user_checks = vec![Check::Holds { expression: user, message: "reserved".into() }];
        });
        let good = json!({"sub": "jane", "roles": "a,,b", "hd": "example.com", "n": 2});
        let user = mapping.user(&claims(good.clone())).expect("a user");
        assert_eq!(
            (user.name.as_str(), user.groups, user.extra.len()),
            ("u:jane", vec!["a".to_owned(), "b".to_owned()], 0)
        );
        for (change, why) in [
            (json!({"n": 1}), "validation expression 'claims.n > 1' failed: too small"),
            (json!({"sub": "system:admin"}), "reserved"),
            (json!({"hd": "evil.com"}), "does not match"),
            (json!({"hd": null}), "is not present"),
            (json!({"roles": 1}), "groups"),
        ] {
            let mut bad = good.clone();
            api::patch::merge_patch(&mut bad, change);
            let error = format!("{:#}", mapping.user(&claims(bad)).expect_err("refused"));
            assert!(error.contains(why), "{error}");
        }
    }
}
