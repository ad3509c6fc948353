//! Decides whether a live object contains everything that is wanted.
//!
//! The API server fills in defaults, drops empty values, normalizes quantities, and keeps what others have added to
//! maps and to lists whose items have a key. None of that is a difference. Additions to, or inside, any other list
//! are.

use serde_json::Value;

/// Lists that several field managers may add to (`x-kubernetes-list-type: map` in Kubernetes' types).
const SHARED_LISTS: [&str; 8] = [
    "containers",
    "env",
    "imagePullSecrets",
    "ownerReferences",
    "ports",
    "topologySpreadConstraints",
    "volumeMounts",
    "volumes",
];

/// Whether `live` contains all of `wanted`.
pub(super) fn contains(live: &Value, wanted: &Value) -> bool {
    at("", live, wanted)
}

/// [`contains`] for the value of the field `name`.
fn at(name: &str, live: &Value, wanted: &Value) -> bool {
    match (live, wanted) {
        (_, wanted) if is_empty(wanted) => is_empty(live) || live.is_object(),
        (Value::Object(live), Value::Object(wanted)) if matches!(name, "limits" | "requests") => {
            let amount = |value: Option<&Value>| value.and_then(Value::as_str).and_then(quantity);
            wanted
                .iter()
                .all(|(key, wanted)| live.get(key) == Some(wanted) || amount(live.get(key)) == amount(Some(wanted)))
        }
        (Value::Object(live), Value::Object(wanted)) => {
            wanted.iter().all(|(key, wanted)| at(key, live.get(key).unwrap_or(&Value::Null), wanted))
        }
        (Value::Array(live), Value::Array(wanted)) if is_shared(name, wanted) => {
            wanted.iter().all(|wanted| live.iter().any(|live| at("", live, wanted)))
        }
        (Value::Array(live), Value::Array(wanted)) => {
            let same = |(live, wanted)| at("", live, wanted) && at("", wanted, live);
            live.len() == wanted.len() && live.iter().zip(wanted).all(same)
        }
        _ => live == wanted,
    }
}

/// Whether the API server drops this value.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Ports of a network policy have no names; an added one is a difference.
fn is_shared(name: &str, wanted: &[Value]) -> bool {
    SHARED_LISTS.contains(&name) && (name != "ports" || wanted.iter().all(|port| port["name"].is_string()))
}

/// A quantity in billionths, so that `1000m` equals `1` and `1024Mi` equals `1Gi`. `None` if it is not a quantity.
fn quantity(text: &str) -> Option<i128> {
    const UNIT: i128 = 1_000_000_000;
    let end = text.find(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | '+' | '-')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let factor = match suffix {
        "n" => 1,
        "u" => 1_000,
        "m" => 1_000_000,
        "" => UNIT,
        "k" => UNIT * 1_000,
        "M" => UNIT * 1_000_000,
        "G" => UNIT * 1_000_000_000,
        "T" => UNIT * 1_000_000_000_000,
        "P" => UNIT * 1_000_000_000_000_000,
        "Ki" => UNIT << 10,
        "Mi" => UNIT << 20,
        "Gi" => UNIT << 30,
        "Ti" => UNIT << 40,
        "Pi" => UNIT << 50,
        exponent => UNIT.checked_mul(10_i128.checked_pow(exponent.strip_prefix(['e', 'E'])?.parse().ok()?)?)?,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    Some(digits.checked_mul(factor)? / 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn defaults_and_additions_of_others_are_no_difference() {
        let wanted = json!({
            "metadata": { "labels": { "a": "b" } },
            "spec": {
                "containers": [{ "name": "shard", "env": [{ "name": "A", "value": "1" }], "ports": [{ "name": "ws", "containerPort": 8080 }] }],
                "replicas": 3,
            },
        });
        let live = json!({
            "metadata": { "labels": { "a": "b", "theirs": "x" }, "resourceVersion": "7" },
            "spec": {
                "containers": [
                    { "name": "sidecar" },
                    {
                        "name": "shard", "terminationMessagePath": "/dev/termination-log",
                        "env": [{ "name": "B", "value": "2" }, { "name": "A", "value": "1" }],
                        "ports": [{ "name": "ws", "containerPort": 8080, "protocol": "TCP" }],
                    },
                ],
                "replicas": 3, "revisionHistoryLimit": 10,
            },
            "status": {},
        });
        assert!(contains(&live, &wanted));
    }

    #[test]
    fn a_changed_or_missing_field_is_a_difference() {
        let wanted = json!({ "spec": { "replicas": 3, "args": ["a", "b"], "automount": false, "env": [{ "name": "A", "value": "1" }] } });
        for (path, value) in [
            ("/spec/replicas", json!(4)),
            ("/spec/replicas", Value::Null),
            ("/spec/args", json!(["a", "b", "c"])),
            ("/spec/args", json!(["b", "a"])),
            ("/spec/automount", json!(true)),
            ("/spec/automount", Value::Null),
            ("/spec/env", json!([{ "name": "A", "value": "2" }])),
            ("/spec/env", json!([])),
            ("/spec", Value::Null),
        ] {
            let mut live = wanted.clone();
            *live.pointer_mut(path).unwrap() = value;
            assert!(!contains(&live, &wanted), "{live}");
        }
    }

    #[test]
    fn an_added_rule_is_a_difference() {
        let wanted = json!({ "ingress": [{ "ports": [{ "port": 9090 }], "from": [{ "podSelector": {} }] }] });
        assert!(contains(&wanted, &wanted));
        let mut wider = wanted.clone();
        wider["ingress"].as_array_mut().unwrap().push(json!({}));
        assert!(!contains(&wider, &wanted));
        let mut wider = wanted.clone();
        wider["ingress"][0]["ports"].as_array_mut().unwrap().push(json!({ "port": 22 }));
        assert!(!contains(&wider, &wanted));
        let open = json!({ "ingress": [{ "ports": [{ "port": 9090 }] }] });
        assert!(!contains(&open, &wanted) && !contains(&wanted, &open));
    }

    #[test]
    fn an_empty_value_may_be_missing() {
        let wanted = json!({ "tolerations": [], "env": [{ "name": "A", "value": "" }], "selector": {} });
        assert!(contains(&json!({ "env": [{ "name": "A" }] }), &wanted));
        assert!(!contains(&json!({ "env": [{ "name": "A", "value": "x" }] }), &wanted));
        assert!(!contains(&json!({ "env": [{ "name": "A" }], "tolerations": [{}] }), &wanted));
    }

    #[test]
    fn quantities_are_compared_by_value() {
        let resources = |cpu: &str| json!({ "requests": { "cpu": cpu } });
        for (live, wanted) in
            [("1", "1000m"), ("1Gi", "1024Mi"), ("1500m", "1.5"), ("1k", "1e3"), ("2", "2.0"), ("100m", "0.1")]
        {
            assert!(contains(&resources(live), &resources(wanted)), "{wanted} is {live}");
        }
        for (live, wanted) in [("1", "1001m"), ("1G", "1Gi"), ("1", "one"), ("-1", "1")] {
            assert!(!contains(&resources(live), &resources(wanted)), "{wanted} is not {live}");
        }
        assert!(!contains(&json!({ "requests": {} }), &resources("1")));
    }
}
