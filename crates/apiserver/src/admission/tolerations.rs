//! Tolerations of pods, as several plugins add and judge them (upstream's
//! `pkg/util/tolerations`).

use serde_json::Value;

/// Two lists of tolerations as one, without those that another one includes.
pub(super) fn merged(own: &[Value], more: &[Value]) -> Vec<Value> {
    let all: Vec<&Value> = own.iter().chain(more).collect();
    let mut kept: Vec<Value> = Vec::new();
    for (index, one) in all.iter().enumerate() {
        let before = kept.iter().any(|other| includes(other, one));
        let later = all[index + 1..].iter().any(|other| other != one && includes(other, one));
        if !before && !later {
            kept.push((*one).clone());
        }
    }
    kept
}

/// Whether a toleration tolerates all that another one does, and for as long.
pub(super) fn includes(wide: &Value, narrow: &Value) -> bool {
    if wide == narrow {
        return true;
    }
    let text = |of: &'_ Value, field: &str| of[field].as_str().unwrap_or_default().to_owned();
    let (operator, effect) = (text(wide, "operator"), text(wide, "effect"));
    let any_key = text(wide, "key").is_empty() && operator == "Exists";
    if text(wide, "key") != text(narrow, "key") && !any_key {
        return false;
    }
    if !effect.is_empty() && effect != text(narrow, "effect") {
        return false;
    }
    let seconds = |of: &Value| of["tolerationSeconds"].as_i64();
    if effect == "NoExecute"
        && let Some(most) = seconds(wide)
        && seconds(narrow).is_none_or(|asked| asked > most)
    {
        return false;
    }
    match operator.as_str() {
        "Equal" | "" => text(narrow, "operator") == "Equal" && text(narrow, "value") == text(wide, "value"),
        "Exists" => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn one(key: &str, operator: &str, value: &str, effect: &str) -> Value {
        json!({"key": key, "operator": operator, "value": value, "effect": effect})
    }

    #[test]
    fn wide_tolerations_include_narrow_ones() {
        let narrow = one("a", "Equal", "b", "NoSchedule");
        for (wide, expected) in [
            (one("a", "Exists", "", "NoSchedule"), true),
            (one("", "Exists", "", ""), true),
            (one("a", "Equal", "b", ""), true),
            (one("a", "Equal", "c", ""), false),
            (one("a", "Exists", "", "NoExecute"), false),
            (one("c", "Exists", "", ""), false),
        ] {
            assert_eq!(includes(&wide, &narrow), expected, "{wide}");
        }
        let timed =
            |seconds: i64| json!({"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds});
        assert!(includes(&timed(5), &timed(4)) && !includes(&timed(4), &timed(5)));
    }

    #[test]
    fn the_wider_one_stays() {
        let narrow = [one("a", "Equal", "b", "NoSchedule")];
        let wide = [one("a", "Exists", "", "NoSchedule")];
        assert_eq!(merged(&narrow, &wide), wide);
        assert_eq!(merged(&wide, &[narrow.clone(), wide.clone()].concat()), wide);
        assert_eq!(merged(&[], &[narrow.clone(), narrow.clone()].concat()), narrow);
    }

    #[test]
    fn a_toleration_that_another_includes_goes() {
        let exists = |key: &str, effect: &str| json!({"key": key, "operator": "Exists", "effect": effect});
        let for_a_while = |seconds: i64| json!({"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds});
        let everything = json!({"operator": "Exists"});
        let equal = json!({"key": "a", "operator": "Equal", "value": "v", "effect": "NoSchedule"});
        let table = [
            (
                vec![exists("a", "NoSchedule")],
                vec![exists("a", "NoSchedule")],
                vec![exists("a", "NoSchedule")],
            ),
            (vec![equal.clone()], vec![exists("a", "NoSchedule")], vec![exists("a", "NoSchedule")]),
            (vec![everything.clone()], vec![equal.clone(), for_a_while(5)], vec![everything]),
            (vec![for_a_while(5)], vec![for_a_while(9)], vec![for_a_while(9)]),
            (vec![equal.clone()], vec![exists("b", "")], vec![equal, exists("b", "")]),
        ];
        for (own, more, expected) in table {
            assert_eq!(merged(&own, &more), expected, "{own:?} and {more:?}");
        }
    }
}
