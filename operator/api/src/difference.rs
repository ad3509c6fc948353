//! The fields in which two documents differ, as text.

use serde_json::{Map, Value};

/// Maximum length of a displayed value, in characters.
const LONGEST: usize = 80;

/// Lists every field below `path` in which `current` differs from `wanted`, as `spec.capacity: 6000 → 5000`. A field
/// of `current` that `wanted` lacks is a difference only with `exact`; otherwise it is considered a filled-in
/// default.
pub fn differences(path: &str, current: &Value, wanted: &Value, exact: bool) -> Vec<String> {
    let mut found = Vec::new();
    collect(path, current, wanted, exact, &mut found);
    found
}

fn collect(path: &str, current: &Value, wanted: &Value, exact: bool, found: &mut Vec<String>) {
    match (current, wanted) {
        (Value::Object(current), Value::Object(wanted)) => {
            let removed = current.keys().filter(|name| exact && !wanted.contains_key(*name));
            for name in wanted.keys().chain(removed) {
                let below = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                collect(&below, at(current, name), at(wanted, name), exact, found);
            }
        }
        (Value::Array(current), Value::Array(wanted)) if current.len() == wanted.len() => {
            for (at, (current, wanted)) in current.iter().zip(wanted).enumerate() {
                let name = wanted["name"].as_str().map_or_else(|| at.to_string(), str::to_owned);
                collect(&format!("{path}[{name}]"), current, wanted, exact, found);
            }
        }
        // An absent value is the same as an empty map, list or string.
        (Value::Null, wanted) if is_empty(wanted) => {}
        (current, wanted) if current == wanted || same_number(current, wanted) => {}
        _ => found.push(format!("{path}: {} → {}", shown(current), shown(wanted))),
    }
}

fn at<'a>(object: &'a Map<String, Value>, name: &str) -> &'a Value {
    object.get(name).unwrap_or(&Value::Null)
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(is_empty),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

fn same_number(a: &Value, b: &Value) -> bool {
    a.as_f64().is_some_and(|a| b.as_f64() == Some(a))
}

fn shown(value: &Value) -> String {
    let text = match value {
        Value::Null => return "nothing".to_owned(),
        Value::String(text) => format!("{text:?}"),
        other => other.to_string(),
    };
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_every_field_with_both_values() {
        let (there, wanted) = (
            json!({ "shards": 2, "topics": [{ "name": "odin.trades", "channel": "a" }], "brokers": ["a", "b"], "paused": false }),
            json!({ "shards": 4, "topics": [{ "name": "odin.trades", "channel": "b" }], "brokers": ["a", "c"], "paused": false }),
        );
        assert_eq!(
            differences("spec", &there, &wanted, true),
            [r#"spec.brokers[1]: "b" → "c""#, "spec.shards: 2 → 4", r#"spec.topics[odin.trades].channel: "a" → "b""#]
        );
        assert!(differences("spec", &there, &there, true).is_empty());
    }

    #[test]
    fn a_filled_in_default_is_a_difference_only_if_exact() {
        let (there, wanted) = (json!({ "a": 1, "policy": "Always" }), json!({ "a": 1.0, "env": [], "resources": {} }));
        assert!(differences("", &there, &wanted, false).is_empty());
        assert_eq!(differences("", &there, &wanted, true), [r#"policy: "Always" → nothing"#]);
    }

    #[test]
    fn removed_fields_and_items_are_differences() {
        let (old, new) = (json!({ "spec": { "rack": "a" } }), json!({ "spec": {} }));
        assert_eq!(differences("", &old, &new, true), [r#"spec.rack: "a" → nothing"#]);
        assert_eq!(differences("", &json!([1, 2]), &json!([1]), true), [": [1,2] → [1]"]);
    }

    #[test]
    fn long_values_are_truncated() {
        let found = differences("", &json!({ "a": "x".repeat(200) }), &json!({ "a": 1 }), true);
        assert_eq!(found[0].chars().count(), 3 + 81 + 4);
    }
}
