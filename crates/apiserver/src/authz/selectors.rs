//! What a list, watch or delete of many selects, as authorizers see it: a permission
//! may hold for what is selected only, such as a node's for its own pods.
//!
//! In reviews selectors are `fieldSelector` and `labelSelector` of the resource
//! attributes: requirements, or the raw text of a query. What cannot be read only makes
//! the request look wider.

use api::selector::{FieldTerm, Requirement, Test};
use api::{ErrorList, FieldError, FieldSelector, LabelSelector, Path};
use serde_json::{Map, Value, json};

/// The selectors of a review's resource attributes.
pub(crate) fn of_review(attributes: &Value) -> (LabelSelector, FieldSelector) {
    let labels = match raw(&attributes["labelSelector"]) {
        Some(text) => LabelSelector::parse(text).unwrap_or_default(),
        None => {
            let read = requirements(&attributes["labelSelector"]).filter_map(label_requirement);
            LabelSelector::of(read.collect())
        }
    };
    let fields = match raw(&attributes["fieldSelector"]) {
        Some(text) => FieldSelector::parse(text).unwrap_or_default(),
        None => {
            let read = requirements(&attributes["fieldSelector"]).filter_map(field_term);
            FieldSelector::of(read.collect())
        }
    };
    (labels, fields)
}

/// What is wrong with the selectors of a review's resource attributes.
pub(crate) fn validate(attributes: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let spec = Path::new("spec");
    let parent = spec.child("resourceAttributes");
    for field in ["fieldSelector", "labelSelector"] {
        let selector = &attributes[field];
        let path = parent.child(field);
        match (raw(selector), requirements(selector).next()) {
            (Some(text), Some(_)) => {
                let detail = "may not specified at the same time as requirements";
                errors.push(FieldError::invalid(&path.child("rawSelector"), text, detail));
            }
            (None, None) if !selector.is_null() => {
                let detail = format!(
                    "when spec.resourceAttributes.{field} is specified, requirements or rawSelector is required"
                );
                errors.push(FieldError::required(&path.child("requirements"), detail));
            }
            _ => {}
        }
    }
    errors
}

/// The selectors as a review has them; nothing for what selects everything.
pub(super) fn to_review(labels: &LabelSelector, fields: &FieldSelector) -> Map<String, Value> {
    let mut said = Map::new();
    let fields: Vec<Value> = fields.terms().iter().map(shown_term).collect();
    let labels: Vec<Value> = labels.requirements().iter().filter_map(shown_requirement).collect();
    for (name, requirements) in [("fieldSelector", fields), ("labelSelector", labels)] {
        if !requirements.is_empty() {
            said.insert(name.to_owned(), json!({"requirements": requirements}));
        }
    }
    said
}

fn raw(selector: &Value) -> Option<&str> {
    selector["rawSelector"].as_str().filter(|text| !text.is_empty())
}

fn requirements(selector: &Value) -> impl Iterator<Item = &Value> {
    selector["requirements"].as_array().into_iter().flatten()
}

fn values(requirement: &Value) -> Vec<String> {
    let values = requirement["values"].as_array().into_iter().flatten();
    values.filter_map(Value::as_str).map(str::to_owned).collect()
}

fn label_requirement(requirement: &Value) -> Option<Requirement> {
    let test = match requirement["operator"].as_str()? {
        "In" => Test::In(values(requirement)),
        "NotIn" => Test::NotIn(values(requirement)),
        "Exists" => Test::Exists,
        "DoesNotExist" => Test::DoesNotExist,
        _ => return None,
    };
    Some(Requirement { key: requirement["key"].as_str()?.to_owned(), test })
}

fn field_term(requirement: &Value) -> Option<FieldTerm> {
    let equal = match requirement["operator"].as_str()? {
        "In" => true,
        "NotIn" => false,
        _ => return None,
    };
    let [value] = <[String; 1]>::try_from(values(requirement)).ok()?;
    Some(FieldTerm { field: requirement["key"].as_str()?.to_owned(), equal, value })
}

fn shown_term(term: &FieldTerm) -> Value {
    json!({"key": term.field, "operator": if term.equal { "In" } else { "NotIn" }, "values": [term.value]})
}

fn shown_requirement(requirement: &Requirement) -> Option<Value> {
    let key = &requirement.key;
    Some(match &requirement.test {
        Test::In(values) => json!({"key": key, "operator": "In", "values": values}),
        Test::NotIn(values) => json!({"key": key, "operator": "NotIn", "values": values}),
        Test::Exists => json!({"key": key, "operator": "Exists"}),
        Test::DoesNotExist => json!({"key": key, "operator": "DoesNotExist"}),
        // Reviews have no words for these.
        Test::Greater(_) | Test::Less(_) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_come_and_go() {
        let attributes = json!({
            "fieldSelector": {"requirements": [
                {"key": "spec.nodeName", "operator": "In", "values": ["n"]},
                {"key": "metadata.name", "operator": "NotIn", "values": ["p"]},
            ]},
            "labelSelector": {"requirements": [
                {"key": "a", "operator": "In", "values": ["b", "c"]},
                {"key": "d", "operator": "DoesNotExist"},
            ]},
        });
        let (labels, fields) = of_review(&attributes);
        assert_eq!(fields.required("spec.nodeName"), Some("n"));
        assert_eq!(labels.to_string(), "a in (b,c),!d");
        assert_eq!(Value::from(to_review(&labels, &fields)), attributes);
        let raw =
            json!({"fieldSelector": {"rawSelector": "a=b"}, "labelSelector": {"rawSelector": "a in (b"}});
        let (labels, fields) = of_review(&raw);
        assert!(labels.is_everything() && fields.required("a") == Some("b"));
        assert!(to_review(&LabelSelector::everything(), &FieldSelector::default()).is_empty());
    }

    #[test]
    fn one_form_of_a_selector_is_given() {
        let both = json!({"rawSelector": "a=b", "requirements": [{"key": "a", "operator": "Exists"}]});
        let told = validate(&json!({"fieldSelector": both, "labelSelector": {}}));
        let told: Vec<String> = told.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "spec.resourceAttributes.fieldSelector.rawSelector: Invalid value: \"a=b\": may not specified at the same time as requirements",
                "spec.resourceAttributes.labelSelector.requirements: Required value: when spec.resourceAttributes.labelSelector is specified, requirements or rawSelector is required",
            ]
        );
        assert!(validate(&json!({"verb": "get"})).is_empty());
    }
}
