//! Registrations of webhooks and admission policies, following
//! `pkg/apis/admissionregistration/validation`. Their expressions have to compile.

mod bindings;
mod rules;
mod webhooks;

pub(super) use bindings::{mutating_binding, validating_binding};
pub(super) use webhooks::webhooks;

use api::{ErrorList, Object, Path};
use serde_json::Value;

use crate::cel::admission::{PolicyTypes, compile, compile_condition, compile_mutation};
use crate::cel::{self, Program, Type};
use crate::fields::Fields;
use crate::names;
use crate::report::Report;

/// How many conditions a webhook or a policy may have.
const MAX_CONDITIONS: usize = 64;
const MAX_ANNOTATIONS: usize = 20;
/// Bytes of an expression that makes an annotation's value.
const MAX_VALUE_EXPRESSION: usize = 5 * 1024;
const FAILURE_POLICIES: [&str; 2] = ["Fail", "Ignore"];
const REINVOCATION_POLICIES: [&str; 2] = ["IfNeeded", "Never"];
/// What a validation may say why it refuses.
const REASONS: [&str; 3] = ["Forbidden", "Invalid", "RequestEntityTooLarge"];

/// Rules for a policy that validates.
pub(super) fn validating_policy(object: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    let spec = object.field("spec");
    let path = Path::new("spec");
    let types = policy(spec, &path, &mut errors);
    if spec.list("validations").is_empty() && spec.list("auditAnnotations").is_empty() {
        let detail = "validations or auditAnnotations must contain at least one item";
        errors.required(&path.child("validations"), detail);
        errors.required(&path.child("auditAnnotations"), detail);
    }
    let list = path.child("validations");
    for (index, one) in spec.list("validations").iter().enumerate() {
        validation(one, &types, &list.index(index), &mut errors);
    }
    let list = path.child("auditAnnotations");
    let all = spec.list("auditAnnotations");
    if all.len() > MAX_ANNOTATIONS {
        let detail = format!("must not have more than {MAX_ANNOTATIONS} auditAnnotations");
        errors.invalid(&list, all.to_vec(), detail);
    }
    for (index, one) in all.iter().enumerate() {
        let (at, key) = (list.index(index), one.text("key"));
        annotation(one, object.name(), &types, &at, &mut errors);
        if all[..index].iter().any(|other| other.text("key") == key) {
            errors.duplicate(&at.child("key"), key);
        }
    }
    errors
}

/// What policies of both sorts have in common; the types of their variables.
fn policy(spec: &Value, path: &Path<'_>, errors: &mut ErrorList) -> PolicyTypes {
    let failure = spec.text("failurePolicy");
    errors.required_one_of(&path.child("failurePolicy"), failure, &FAILURE_POLICIES);
    if spec.has("paramKind") {
        param_kind(spec.field("paramKind"), &path.child("paramKind"), errors);
    }
    let (constraints, at) = (spec.field("matchConstraints"), path.child("matchConstraints"));
    if constraints.is_object() {
        rules::match_resources(constraints, &at, errors);
        if constraints.list("resourceRules").is_empty() {
            errors.required(&at.child("resourceRules"), "");
        }
    } else {
        errors.required(&at, "");
    }
    let mut types = PolicyTypes::new(spec.has("paramKind"));
    conditions(spec, path, &|name| types.outside(name), errors);
    let list = path.child("variables");
    for (index, variable) in spec.list("variables").iter().enumerate() {
        let at = list.index(index);
        let name = variable.text("name");
        if name.trim().is_empty() {
            errors.required(&at.child("name"), "name is not specified");
        } else if !names::c_identifier(name).is_empty() || cel::is_reserved(name) {
            errors.invalid(&at.child("name"), name, "must be a valid CEL identifier");
        }
        let made = expression(variable, "expression", &at, errors, |source| {
            compile(source, &|name| types.known(name))
        });
        types.declare(name, made.map_or(Type::Dyn, |program| program.result().clone()));
    }
    types
}

fn param_kind(of: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let (text, at) = (of.text("apiVersion"), path.child("apiVersion"));
    let (group, version) = text.split_once('/').unwrap_or(("", text));
    if text.is_empty() {
        errors.required(&at, "");
    } else if version.contains('/') {
        errors.invalid(&at, text, format!("unexpected GroupVersion string: {text}"));
    } else {
        let wrong = names::subdomain(group);
        if !group.is_empty() && !wrong.is_empty() {
            errors.invalid(&at, group, wrong.join(","));
        }
        let wrong = names::dns1035_label(version, false);
        if version.is_empty() {
            errors.invalid(&at, text, "version must be specified");
        } else if !wrong.is_empty() {
            errors.invalid(&at, version, wrong.join(","));
        }
    }
    let (kind, at) = (of.text("kind"), path.child("kind"));
    let wrong = names::dns1035_label(&kind.to_lowercase(), false);
    if kind.is_empty() {
        errors.required(&at, "");
    } else if !wrong.is_empty() {
        let detail = format!("may have mixed case, but should otherwise match: {}", wrong.join(","));
        errors.invalid(&at, kind, detail);
    }
}

fn validation(of: &Value, types: &PolicyTypes, path: &Path<'_>, errors: &mut ErrorList) {
    expression(of, "expression", path, errors, |source| compile_condition(source, &|name| types.known(name)));
    let text = of.text("messageExpression");
    if !text.is_empty() && text.trim().is_empty() {
        errors.invalid(&path.child("messageExpression"), text, "must be non-empty if specified");
    } else if !text.is_empty() {
        expression(of, "messageExpression", path, errors, |source| {
            let program = compile(source, &|name| types.in_message(name))?;
            match program.result() {
                Type::Text | Type::Dyn => Ok(program),
                _ => Err("must evaluate to string".to_owned()),
            }
        });
    }
    let (message, at) = (of.text("message"), path.child("message"));
    if !message.is_empty() && message.trim().is_empty() {
        errors.invalid(&at, message, "must be non-empty if specified");
    } else if message.trim().contains(['\n', '\r']) {
        errors.invalid(&at, message, "must not contain line breaks");
    }
    if of.has("reason") {
        errors.one_of(&path.child("reason"), of.text("reason"), &REASONS);
    }
}

fn annotation(of: &Value, policy: &str, types: &PolicyTypes, path: &Path<'_>, errors: &mut ErrorList) {
    let key = format!("{policy}/{}", of.text("key"));
    errors.invalid_all(&path.child("key"), &key, names::qualified(&key));
    let source = of.text("valueExpression").trim();
    if source.len() > MAX_VALUE_EXPRESSION {
        let detail = format!("must not exceed {MAX_VALUE_EXPRESSION} bytes in length");
        return errors.required(&path.child("valueExpression"), &detail);
    }
    expression(of, "valueExpression", path, errors, |source| {
        let program = compile(source, &|name| types.known(name))?;
        match program.result() {
            Type::Text | Type::Null | Type::Dyn => Ok(program),
            _ => Err("must evaluate to one of [string null_type]".to_owned()),
        }
    });
}

/// Rules for a policy that changes objects.
pub(super) fn mutating_policy(object: &Object) -> ErrorList {
    const OPERATIONS: [&str; 4] = ["*", "CONNECT", "CREATE", "UPDATE"];
    let mut errors = ErrorList::new();
    let spec = object.field("spec");
    let path = Path::new("spec");
    let types = policy(spec, &path, &mut errors);
    let at = path.child("matchConstraints");
    let at = at.child("resourceRules");
    for rule in spec.below(&["matchConstraints", "resourceRules"]).as_array().into_iter().flatten() {
        for operation in rule.list("operations").iter().filter_map(Value::as_str) {
            errors.one_of(&at.child("operations"), operation, &OPERATIONS);
        }
    }
    let list = path.child("mutations");
    if spec.list("mutations").is_empty() {
        errors.required(&list, "mutations must contain at least one item");
    }
    for (index, one) in spec.list("mutations").iter().enumerate() {
        mutation(one, &types, &list.index(index), &mut errors);
    }
    let policy = spec.text("reinvocationPolicy");
    errors.required_one_of(&path.child("reinvocationPolicy"), policy, &REINVOCATION_POLICIES);
    errors
}

fn mutation(of: &Value, types: &PolicyTypes, path: &Path<'_>, errors: &mut ErrorList) {
    let kind = of.text("patchType");
    let (own, other) = match kind {
        "JSONPatch" => ("jsonPatch", "applyConfiguration"),
        "ApplyConfiguration" => ("applyConfiguration", "jsonPatch"),
        _ => {
            return errors.required_one_of(
                &path.child("patchType"),
                kind,
                &["ApplyConfiguration", "JSONPatch"],
            );
        }
    };
    let at = path.child(own);
    if !of.has(own) {
        errors.required(&at, &format!("must be specified when patchType is {kind}"));
    } else if of.field(own).text("expression").trim().is_empty() {
        errors.required(&at.child("expression"), "");
    } else {
        expression(of.field(own), "expression", &at, errors, |source| {
            compile_mutation(source, kind == "JSONPatch", &|name| types.known(name))
        });
    }
    if of.has(other) {
        let detail = format!("must not be specified when patchType is {kind}");
        errors.invalid(&path.child(other), format!("{{{other}}}"), detail);
    }
}

fn conditions(of: &Value, path: &Path<'_>, known: &dyn Fn(&str) -> Option<Type>, errors: &mut ErrorList) {
    let list = path.child("matchConditions");
    let all = of.list("matchConditions");
    if all.len() > MAX_CONDITIONS {
        errors.add(api::FieldError::too_many(&list, all.len(), MAX_CONDITIONS));
        return;
    }
    let mut seen: Vec<&str> = Vec::new();
    for (index, condition) in all.iter().enumerate() {
        let at = list.index(index);
        let name = condition.text("name");
        if name.is_empty() {
            errors.required(&at.child("name"), "");
        } else {
            errors.invalid_all(&at.child("name"), name, names::qualified(name));
        }
        if seen.contains(&name) {
            errors.duplicate(&at.child("name"), name);
        }
        seen.push(name);
        if condition.text("expression").trim().is_empty() {
            errors.required(&at.child("expression"), "");
            continue;
        }
        expression(condition, "expression", &at, errors, |source| compile_condition(source, known));
    }
}

fn expression(
    of: &Value,
    field: &str,
    path: &Path<'_>,
    errors: &mut ErrorList,
    compile: impl Fn(&str) -> Result<Program, String>,
) -> Option<Program> {
    let source = of.text(field);
    let at = path.child(field);
    if source.trim().is_empty() {
        errors.required(&at, &format!("{field} is not specified"));
        return None;
    }
    compile(source.trim()).map_err(|why| errors.invalid(&at, source, why)).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(errors: &ErrorList) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    fn object(value: Value) -> Object {
        Object::from_value(value).expect("an object")
    }

    fn hook(changes: Value) -> Object {
        let mut hook = json!({
            "name": "a.b.io", "admissionReviewVersions": ["v1"], "sideEffects": "None",
            "clientConfig": {"url": "https://a/b"},
        });
        api::patch::merge_patch(&mut hook, changes);
        object(json!({"webhooks": [hook]}))
    }

    #[test]
    fn webhooks_are_checked() {
        assert_eq!(said(&webhooks(&hook(json!({})))), [""; 0]);
        let rule = |changes: Value| {
            let mut rule = json!({
                "operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"],
            });
            api::patch::merge_patch(&mut rule, changes);
            json!({"rules": [rule]})
        };
        let client = |config: Value| json!({"clientConfig": {"url": null, "service": config}});
        let table = [
            (
                json!({"name": "a.b"}),
                "name: Invalid value: \"a.b\": should be a domain with at least three segments separated by dots",
            ),
            (
                json!({"sideEffects": null}),
                "sideEffects: Required value: must specify one of None, NoneOnDryRun",
            ),
            (
                json!({"sideEffects": "Some"}),
                "sideEffects: Unsupported value: \"Some\": supported values: \"None\", \"NoneOnDryRun\"",
            ),
            (
                json!({"timeoutSeconds": 31}),
                "timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 seconds",
            ),
            (
                json!({"failurePolicy": "x"}),
                "failurePolicy: Unsupported value: \"x\": supported values: \"Fail\", \"Ignore\"",
            ),
            (
                json!({"admissionReviewVersions": []}),
                "admissionReviewVersions: Required value: must specify one of v1, v1beta1",
            ),
            (
                json!({"admissionReviewVersions": ["v9"]}),
                "admissionReviewVersions: Invalid value: [\"v9\"]: must include at least one of v1, v1beta1",
            ),
            (
                json!({"clientConfig": {"service": {"name": "a"}}}),
                "clientConfig: Required value: exactly one of url or service is required",
            ),
            (
                json!({"clientConfig": {"url": "http://a/"}}),
                "clientConfig.url: Invalid value: \"http\": 'https' is the only allowed URL scheme; desired format: https://host[/path]",
            ),
            (
                json!({"clientConfig": {"url": "https://u@a/?q"}}),
                "clientConfig.url: Invalid value: \"u\": user information is not permitted in the URL|webhooks[0].clientConfig.url: Invalid value: \"q\": query parameters are not permitted in the URL",
            ),
            (
                client(json!({"name": "a", "namespace": "b", "path": "x/b"})),
                "clientConfig.service.path: Invalid value: \"x/b\": must start with a '/'|webhooks[0].clientConfig.service.path: Invalid value: \"x/b\": segment[0] may not be empty",
            ),
            (
                rule(json!({"operations": ["*", "CREATE"]})),
                "rules[0].operations: Invalid value: [\"*\",\"CREATE\"]: if '*' is present, must not specify other operations",
            ),
            (
                rule(json!({"operations": ["x"]})),
                "rules[0].operations[0]: Unsupported value: \"x\": supported values: \"*\", \"CONNECT\", \"CREATE\", \"DELETE\", \"UPDATE\"",
            ),
            (rule(json!({"apiGroups": []})), "rules[0].apiGroups: Required value"),
            (
                rule(json!({"resources": ["a/*", "a/b"]})),
                "rules[0].resources[1]: Invalid value: \"a/b\": if 'a/*' is present, must not specify a/b",
            ),
            (
                rule(json!({"resources": ["*", "a"]})),
                "rules[0].resources: Invalid value: [\"*\",\"a\"]: if '*' is present, must not specify other resources without subresources",
            ),
            (
                rule(json!({"scope": "x"})),
                "rules[0].scope: Unsupported value: \"x\": supported values: \"*\", \"Cluster\", \"Namespaced\"",
            ),
        ];
        for (changes, wanted) in table {
            let found = said(&webhooks(&hook(changes.clone())));
            assert_eq!(found.join("|"), format!("webhooks[0].{wanted}"), "{changes}");
        }
    }

    #[test]
    fn conditions_have_to_compile() {
        let conditions = json!([
            {"name": "a", "expression": "request.operation == 'CREATE'"},
            {"name": "a", "expression": "object.x"},
            {"name": "", "expression": ""},
            {"name": "b", "expression": "request.nope"},
            {"name": "c", "expression": "1"},
        ]);
        assert_eq!(
            said(&webhooks(&hook(json!({"matchConditions": conditions})))),
            [
                "webhooks[0].matchConditions[1].name: Duplicate value: \"a\"",
                "webhooks[0].matchConditions[2].name: Required value",
                "webhooks[0].matchConditions[2].expression: Required value",
                "webhooks[0].matchConditions[3].expression: Invalid value: \"request.nope\": compilation failed: ERROR: <input>:1:8: undefined field 'nope'\n | request.nope\n | .......^",
                "webhooks[0].matchConditions[4].expression: Invalid value: \"1\": must evaluate to bool",
            ]
        );
    }

    fn policy_with(changes: Value) -> Object {
        let mut spec = json!({
            "failurePolicy": "Fail", "matchConstraints": {
                "matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {}, "resourceRules": [
                    {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]},
                ],
            },
        });
        api::patch::merge_patch(&mut spec, changes);
        object(json!({"metadata": {"name": "p"}, "spec": spec}))
    }

    #[test]
    fn policies_have_to_compile() {
        let good = json!({
            "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
            "variables": [{"name": "a", "expression": "1"}, {"name": "b", "expression": "variables.a + 1"}],
            "validations": [{"expression": "variables.b > 1 && params.x", "messageExpression": "string(variables.a)"}],
        });
        assert_eq!(said(&validating_policy(&policy_with(good))), [""; 0]);
        let bad = json!({
            "variables": [{"name": "a-b", "expression": "1"}, {"name": "b", "expression": "variables.c"}],
            "validations": [
                {"expression": "params == null"},
                {"expression": "true", "messageExpression": "authorizer.path('/').check('get').reason()"},
                {"expression": "true", "reason": "x", "message": "a\nb"},
            ],
            "auditAnnotations": [{"key": "k"}, {"key": "k", "valueExpression": "'v'"}],
        });
        let found = said(&validating_policy(&policy_with(bad)));
        let starts = [
            "spec.variables[0].name: Invalid value: \"a-b\": must be a valid CEL identifier",
            "spec.variables[1].expression: Invalid value: \"variables.c\": compilation failed: ERROR: <input>:1:1: undeclared reference to 'variables'",
            "spec.validations[0].expression: Invalid value: \"params == null\": compilation failed: ERROR: <input>:1:1: undeclared reference to 'params'",
            "spec.validations[1].messageExpression: Invalid value: \"authorizer.path('/').check('get').reason()\": compilation failed: ERROR: <input>:1:1: undeclared reference to 'authorizer'",
            "spec.validations[2].message: Invalid value: \"a\\nb\": must not contain line breaks",
            "spec.validations[2].reason: Unsupported value: \"x\"",
            "spec.auditAnnotations[0].valueExpression: Required value: valueExpression is not specified",
            "spec.auditAnnotations[1].key: Duplicate value: \"k\"",
        ];
        assert_eq!(found.len(), starts.len(), "{found:#?}");
        for (found, start) in found.iter().zip(starts) {
            assert!(found.starts_with(start), "{found}");
        }
        let found = said(&validating_policy(&object(json!({"spec": {}}))));
        assert_eq!(
            found,
            [
                "spec.failurePolicy: Required value",
                "spec.matchConstraints: Required value",
                "spec.validations: Required value: validations or auditAnnotations must contain at least one item",
                "spec.auditAnnotations: Required value: validations or auditAnnotations must contain at least one item",
            ]
        );
    }

    #[test]
    fn mutations_make_objects_or_patches() {
        let policy = |mutation: Value| {
            policy_with(json!({"reinvocationPolicy": "Never", "mutations": [mutation],
                "variables": [{"name": "n", "expression": "1"}]}))
        };
        let apply = |source: &str| json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": source}});
        let patch = |source: &str| json!({"patchType": "JSONPatch", "jsonPatch": {"expression": source}});
        for good in [
            apply("Object{spec: Object.spec{replicas: variables.n, ?other: optional.none()}}"),
            apply("has(object.spec) ? Object{} : Object{spec: Object.spec{}}"),
            patch(
                "[JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('a/b'), value: 'x'}]",
            ),
            patch("object.x ? [JSONPatch{op: 'remove', path: '/a'}] : []"),
        ] {
            assert_eq!(said(&mutating_policy(&policy(good.clone()))), [""; 0], "{good}");
        }
        let table = [
            (apply("1"), "applyConfiguration.expression: Invalid value: \"1\": must evaluate to Object"),
            (
                apply("Other{}"),
                "applyConfiguration.expression: Invalid value: \"Other{}\": compilation failed: ERROR: <input>:1:1: undeclared reference to 'Other' (in container '')\n | Other{}\n | ^",
            ),
            (
                patch("Object{}"),
                "jsonPatch.expression: Invalid value: \"Object{}\": must evaluate to list(JSONPatch)",
            ),
            (
                json!({"patchType": "x"}),
                "patchType: Unsupported value: \"x\": supported values: \"ApplyConfiguration\", \"JSONPatch\"",
            ),
            (
                json!({"patchType": "JSONPatch"}),
                "jsonPatch: Required value: must be specified when patchType is JSONPatch",
            ),
        ];
        for (mutation, wanted) in table {
            let found = said(&mutating_policy(&policy(mutation)));
            assert_eq!(found, [format!("spec.mutations[0].{wanted}")]);
        }
    }

    #[test]
    fn bindings_are_checked() {
        let binding = |spec: Value| object(json!({"spec": spec}));
        let good = json!({"policyName": "p", "validationActions": ["Deny", "Audit"]});
        assert_eq!(said(&validating_binding(&binding(good))), [""; 0]);
        let bad = json!({
            "paramRef": {"name": "a", "selector": {}, "parameterNotFoundAction": "x"},
            "validationActions": ["Deny", "Warn", "Deny"],
        });
        assert_eq!(
            said(&validating_binding(&binding(bad))),
            [
                "spec.policyName: Required value",
                "spec.paramRef.name: Forbidden: name and selector are mutually exclusive",
                "spec.paramRef.selector: Forbidden: name and selector are mutually exclusive",
                "spec.paramRef.parameterNotFoundAction: Unsupported value: \"x\": supported values: \"Deny\", \"Allow\"",
                "spec.validationActions[2]: Duplicate value: \"Deny\"",
                "spec.validationActions: Invalid value: [\"Deny\",\"Warn\",\"Deny\"]: must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)",
            ]
        );
    }
}
