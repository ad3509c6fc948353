//! Checks the fields of a health answer that dashboards and scripts read, and their types. It checks the raw JSON,
//! because the serde types would accept a missing field.

use serde::Deserialize as _;
use serde_json::Value;
use wscluster_admin::health::{Status, ViewState};

use super::report::Finding;

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// A whole number, 0 or more.
    Count,
    Number,
    Bool,
    Text,
    Status,
    State,
}

const TOP: [(&str, Kind); 12] = [
    ("/status", Kind::Status),
    ("/healthy", Kind::Bool),
    ("/checks/capacity/current", Kind::Count),
    ("/checks/capacity/max", Kind::Count),
    ("/checks/capacity/percentage", Kind::Number),
    ("/checks/cpu/percentage", Kind::Number),
    ("/checks/memory/percentage", Kind::Number),
    ("/checks/memory/bytes", Kind::Count),
    ("/checks/kafka/status", Kind::Text),
    ("/checks/kafka/lag", Kind::Count),
    ("/imbalance_percent", Kind::Number),
    ("/uptime", Kind::Number),
];

const SHARD: [(&str, Kind); 8] = [
    ("/id", Kind::Text),
    ("/address", Kind::Text),
    ("/state", Kind::State),
    ("/connections", Kind::Count),
    ("/max_connections", Kind::Count),
    ("/available_slots", Kind::Count),
    ("/utilization", Kind::Number),
    ("/age_ms", Kind::Count),
];

impl Kind {
    fn fits(self, value: &Value) -> bool {
        match self {
            Self::Count => value.is_u64(),
            Self::Number => value.is_number(),
            Self::Bool => value.is_boolean(),
            Self::Text => value.as_str().is_some_and(|text| !text.is_empty()),
            Self::Status => Status::deserialize(value).is_ok(),
            Self::State => ViewState::deserialize(value).is_ok(),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Count => "a whole number",
            Self::Number => "a number",
            Self::Bool => "true or false",
            Self::Text => "text that is not empty",
            Self::Status => "healthy, degraded or unhealthy",
            Self::State => "starting, ready, full, draining or unreachable",
        }
    }
}

/// Checks that `health` has every field with its type.
pub(crate) fn check(health: &Value) -> Finding {
    let mut wrong = Vec::new();
    let mut look = |value: &Value, at: &str, fields: &[(&str, Kind)]| {
        for (path, kind) in fields {
            match value.pointer(path) {
                None => wrong.push(format!("{at}{} is missing", dotted(path))),
                Some(found) if !kind.fits(found) => {
                    wrong.push(format!("{at}{} is {found}, not {}", dotted(path), kind.name()));
                }
                Some(_) => {}
            }
        }
    };
    look(health, "", &TOP);
    let shards = health["shards"].as_array();
    for (at, shard) in shards.into_iter().flatten().enumerate() {
        look(shard, &format!(".shards[{at}]"), &SHARD);
    }
    if shards.is_none_or(Vec::is_empty) {
        wrong.push(".shards has no entry".into());
    }
    if wrong.is_empty() {
        let count = TOP.len() + SHARD.len() * shards.map_or(0, Vec::len);
        return Finding::ok("health", format!("{count} fields present with their types, status {}", health["status"]));
    }
    let remedy = "use the admin address of a gateway or of `wscluster local`; the health of a shard has no .shards";
    Finding::failed("health", wrong.join("; "), remedy)
}

/// `/checks/cpu` as `.checks.cpu`, as jq writes it.
fn dotted(path: &str) -> String {
    path.replace('/', ".")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::verify::report::Verdict;

    fn health() -> Value {
        let checks = wscluster_admin::health::Checks {
            kafka: wscluster_admin::health::KafkaCheck {
                status: wscluster_admin::health::KafkaStatus::Connected,
                ..Default::default()
            },
            ..Default::default()
        };
        json!({
            "status": "healthy", "healthy": true, "checks": checks, "imbalance_percent": 0.0, "uptime": 1.5,
            "shards": [{ "id": "prices-0", "address": "127.0.0.1:1", "state": "ready", "connections": 3,
                "max_connections": 10, "available_slots": 7, "utilization": 30.0, "age_ms": 5 }]
        })
    }

    #[test]
    fn accepts_the_answer_of_a_gateway() {
        let finding = check(&health());
        assert_eq!(finding.verdict, Verdict::Ok, "{finding}");
        assert!(finding.detail.starts_with("20 fields"), "{finding}");
    }

    #[test]
    fn names_missing_fields_and_wrong_types() {
        let mut health = health();
        health["checks"]["capacity"]["current"] = json!(1.5);
        health["shards"][0].as_object_mut().unwrap().remove("connections");
        health["status"] = json!("fine");
        assert_eq!(
            check(&health).detail,
            ".status is \"fine\", not healthy, degraded or unhealthy; .checks.capacity.current is 1.5, not a whole \
             number; .shards[0].connections is missing"
        );
    }

    #[test]
    fn refuses_an_answer_without_shards() {
        let mut health = health();
        health["shards"] = json!([]);
        assert_eq!(check(&health).detail, ".shards has no entry");
    }
}
