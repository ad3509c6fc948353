//! What an edit changes, in words, and what it may not change while a run goes on.

use wscluster_api::{WsCluster, WsClusterSpec, differences};

/// Why an edit cannot be applied to a run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} {from} → {to} needs a new start, because {why}; set it back, or end this run and start it again")]
pub struct FixedField {
    field: &'static str,
    from: String,
    to: String,
    why: &'static str,
}

/// What the command line has decided, whatever the manifest says.
#[derive(Clone, Copy, Debug, Default)]
pub struct Given {
    /// `--port`.
    pub port: bool,
    /// `--brokers`.
    pub brokers: bool,
}

/// Whether a run of `before` can become one of `after`.
pub fn applicable(before: &WsCluster, after: &WsCluster, given: Given) -> Result<(), FixedField> {
    let name = |cluster: &WsCluster| cluster.metadata.name.clone().unwrap_or_default();
    if name(before) != name(after) {
        return Err(fixed("metadata.name", name(before), name(after), "its shards are named after it"));
    }
    let port = |cluster: &WsCluster| cluster.spec.gateway.service.port.to_string();
    if !given.port && port(before) != port(after) {
        return Err(fixed("spec.gateway.service.port", port(before), port(after), "its clients are connected there"));
    }
    let (old, new) = (&before.spec.source.kafka.brokers, &after.spec.source.kafka.brokers);
    if !given.brokers && old.is_empty() != new.is_empty() {
        let named = |brokers: &[String]| if brokers.is_empty() { "none".to_owned() } else { brokers.join(",") };
        let why = "an embedded broker and another Kafka do not hold the same records";
        return Err(fixed("spec.source.kafka.brokers", named(old), named(new), why));
    }
    Ok(())
}

fn fixed(field: &'static str, from: String, to: String, why: &'static str) -> FixedField {
    FixedField { field, from, to, why }
}

/// Every field that differs, as `spec.shards: 2 → 4`.
pub fn changes(before: &WsClusterSpec, after: &WsClusterSpec) -> Vec<String> {
    let value = |spec| serde_json::to_value(spec).expect("it has text keys only");
    differences("spec", &value(before), &value(after), true)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use super::*;

    fn cluster(edit: impl FnOnce(&mut Value)) -> WsCluster {
        let mut cluster = json!({
            "apiVersion": "wscluster.dev/v1alpha1", "kind": "WsCluster", "metadata": { "name": "prices" },
            "spec": { "source": { "kafka": { "topics": [{ "name": "odin.trades", "channel": "{key}.trade" }] } } },
        });
        edit(&mut cluster);
        wscluster_api::manifest::parse(&cluster.to_string(), Path::new("cluster.yaml")).unwrap()
    }

    #[test]
    fn names_every_field_that_differs() {
        let after = cluster(|cluster| {
            cluster["spec"]["shards"] = 4.into();
            cluster["spec"]["autoscale"] = json!({ "min": 1, "max": 3 });
        });
        let changes = changes(&cluster(|_| {}).spec, &after.spec);
        assert!(changes[0].starts_with("spec.autoscale: nothing → {"), "{changes:?}");
        assert_eq!(changes[1..], ["spec.shards: 1 → 4"]);
    }

    #[test]
    fn refuses_what_needs_a_new_start() {
        let before = cluster(|_| {});
        let named = |cluster: &mut Value| cluster["spec"]["source"]["kafka"]["brokers"] = json!(["kafka:9092"]);
        let port = |cluster: &mut Value| cluster["spec"]["gateway"] = json!({ "service": { "port": 9000 } });
        let renamed = cluster(|cluster| cluster["metadata"]["name"] = "trades".into());
        let none = Given::default();
        let error = applicable(&before, &renamed, none).unwrap_err().to_string();
        assert!(error.contains("metadata.name prices → trades") && error.contains("start it again"), "{error}");
        let error = applicable(&before, &cluster(port), none).unwrap_err().to_string();
        assert!(error.contains("spec.gateway.service.port 8080 → 9000"), "{error}");
        let error = applicable(&before, &cluster(named), none).unwrap_err().to_string();
        assert!(error.contains("spec.source.kafka.brokers none → kafka:9092"), "{error}");
        // What the command line has decided may say anything.
        let given = Given { port: true, brokers: true };
        assert_eq!(applicable(&before, &cluster(port), given), Ok(()));
        assert_eq!(applicable(&before, &cluster(named), given), Ok(()));
        let other = cluster(|cluster| cluster["spec"]["source"]["kafka"]["brokers"] = json!(["other:9092"]));
        assert_eq!(applicable(&cluster(named), &other, none), Ok(()), "one Kafka by two names");
        assert_eq!(applicable(&before, &cluster(|cluster| cluster["spec"]["shards"] = 9.into()), none), Ok(()));
    }
}
