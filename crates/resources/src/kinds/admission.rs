//! Expressions in registrations of webhooks and in admission policies have to
//! compile, following `pkg/apis/admissionregistration/validation`.

use api::{ErrorList, Object, Path};
use serde_json::Value;

use crate::cel::admission::{PolicyTypes, compile, compile_condition, known};
use crate::cel::{Program, Type};
use crate::fields::Fields;
use crate::names;
use crate::report::Report;

/// How many conditions a webhook or a policy may have.
const MAX_CONDITIONS: usize = 64;

/// Checks the match conditions of webhooks.
pub(super) fn webhooks(object: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    let path = Path::new("webhooks");
    for (index, webhook) in object.field("webhooks").as_array().into_iter().flatten().enumerate() {
        conditions(webhook, &path.index(index), &known, &mut errors);
    }
    errors
}

/// Checks the expressions of a policy that validates.
pub(super) fn validating_policy(object: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    let spec = object.field("spec");
    let path = Path::new("spec");
    let mut types = PolicyTypes::new(spec.has("paramKind"));
    conditions(spec, &path, &|name| types.outside(name), &mut errors);
    let list = path.child("variables");
    for (index, variable) in spec.list("variables").iter().enumerate() {
        let at = list.index(index);
        let name = variable.text("name");
        if name.is_empty() {
            errors.required(&at.child("name"), "name is not specified");
        } else if !names::c_identifier(name).is_empty() {
            errors.invalid(&at.child("name"), name, "name is not a valid CEL identifier");
        }
        let made = expression(variable, "expression", &at, &mut errors, |source| {
            compile(source, &|name| types.known(name))
        });
        types.declare(name, made.map_or(Type::Dyn, |program| program.result().clone()));
    }
    let list = path.child("validations");
    for (index, one) in spec.list("validations").iter().enumerate() {
        let at = list.index(index);
        expression(one, "expression", &at, &mut errors, |source| {
            compile_condition(source, &|name| types.known(name))
        });
        if one.has("messageExpression") {
            expression(one, "messageExpression", &at, &mut errors, |source| {
                let program = compile(source, &|name| types.in_message(name))?;
                match program.result() {
                    Type::Text | Type::Dyn => Ok(program),
                    _ => Err("must evaluate to string".to_owned()),
                }
            });
        }
    }
    let list = path.child("auditAnnotations");
    for (index, one) in spec.list("auditAnnotations").iter().enumerate() {
        expression(one, "valueExpression", &list.index(index), &mut errors, |source| {
            let program = compile(source, &|name| types.known(name))?;
            match program.result() {
                Type::Text | Type::Null | Type::Dyn => Ok(program),
                _ => Err("must evaluate to one of [string null_type]".to_owned()),
            }
        });
    }
    errors
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

    #[test]
    fn conditions_have_to_compile() {
        let conditions = json!([
            {"name": "a", "expression": "request.operation == 'CREATE'"},
            {"name": "a", "expression": "object.x"},
            {"name": "", "expression": ""},
            {"name": "b", "expression": "request.nope"},
            {"name": "c", "expression": "1"},
        ]);
        let object =
            Object::from_value(json!({"webhooks": [{"matchConditions": conditions}]})).expect("an object");
        assert_eq!(
            said(&webhooks(&object)),
            [
                "webhooks[0].matchConditions[1].name: Duplicate value: \"a\"",
                "webhooks[0].matchConditions[2].name: Required value",
                "webhooks[0].matchConditions[2].expression: Required value: expression is not specified",
                "webhooks[0].matchConditions[3].expression: Invalid value: \"request.nope\": compilation failed: ERROR: <input>:1:8: undefined field 'nope'\n | request.nope\n | .......^",
                "webhooks[0].matchConditions[4].expression: Invalid value: \"1\": must evaluate to bool",
            ]
        );
    }

    #[test]
    fn policies_have_to_compile() {
        let policy = |spec: Value| Object::from_value(json!({"spec": spec})).expect("an object");
        let good = json!({
            "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
            "variables": [{"name": "a", "expression": "1"}, {"name": "b", "expression": "variables.a + 1"}],
            "validations": [{"expression": "variables.b > 1 && params.x", "messageExpression": "string(variables.a)"}],
        });
        assert_eq!(said(&validating_policy(&policy(good))), [""; 0]);
        let bad = json!({
            "variables": [{"name": "a-b", "expression": "1"}, {"name": "b", "expression": "variables.c"}],
            "validations": [
                {"expression": "params == null"},
                {"expression": "true", "messageExpression": "authorizer.path('/').check('get').reason()"},
            ],
        });
        let found = said(&validating_policy(&policy(bad)));
        let starts = [
            "spec.variables[0].name: Invalid value: \"a-b\": name is not a valid CEL identifier",
            "spec.variables[1].expression: Invalid value: \"variables.c\": compilation failed: ERROR: <input>:1:1: undeclared reference to 'variables'",
            "spec.validations[0].expression: Invalid value: \"params == null\": compilation failed: ERROR: <input>:1:1: undeclared reference to 'params'",
            "spec.validations[1].messageExpression: Invalid value: \"authorizer.path('/').check('get').reason()\": compilation failed: ERROR: <input>:1:1: undeclared reference to 'authorizer'",
        ];
        assert_eq!(found.len(), starts.len(), "{found:#?}");
        for (found, start) in found.iter().zip(starts) {
            assert!(found.starts_with(start), "{found}");
        }
    }
}
