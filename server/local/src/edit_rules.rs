//! Which edits of the manifest a run can apply, and the list of fields that an edit changes.

use wscluster_api::{WsCluster, WsClusterSpec, differences};

/// An edit of a field that cannot change during a run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} {from} → {to} needs a restart, because {why}; set it back, or end this run and start it again")]
pub(crate) struct FixedField {
    field: &'static str,
    from: String,
    to: String,
    why: &'static str,
}

/// Fields of the manifest that arguments override.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Overrides {
    /// `--port`.
    pub(crate) port: bool,
    /// `--brokers`.
    pub(crate) brokers: bool,
}

/// Checks that a run of `before` can become one of `after`.
pub(crate) fn applicable(before: &WsCluster, after: &WsCluster, overrides: Overrides) -> Result<(), FixedField> {
    let name = |cluster: &WsCluster| cluster.metadata.name.clone().unwrap_or_default();
    if name(before) != name(after) {
        return Err(fixed("metadata.name", name(before), name(after), "shards are named after it"));
    }
    let port = |cluster: &WsCluster| cluster.spec.gateway.service.port.to_string();
    if !overrides.port && port(before) != port(after) {
        return Err(fixed("spec.gateway.service.port", port(before), port(after), "clients are connected to it"));
    }
    let (old, new) = (&before.spec.source.kafka.brokers, &after.spec.source.kafka.brokers);
    if !overrides.brokers && old.is_empty() != new.is_empty() {
        let named = |brokers: &[String]| if brokers.is_empty() { "none".to_owned() } else { brokers.join(",") };
        let why = "the embedded broker and another Kafka hold different records";
        return Err(fixed("spec.source.kafka.brokers", named(old), named(new), why));
    }
    Ok(())
}

fn fixed(field: &'static str, from: String, to: String, why: &'static str) -> FixedField {
    FixedField { field, from, to, why }
}

/// Every field that differs, as `spec.shards: 2 → 4`.
pub(crate) fn changes(before: &WsClusterSpec, after: &WsClusterSpec) -> Vec<String> {
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
    fn rejects_edits_that_need_a_restart() {
        let before = cluster(|_| {});
        let named = |cluster: &mut Value| cluster["spec"]["source"]["kafka"]["brokers"] = json!(["kafka:9092"]);
        let port = |cluster: &mut Value| cluster["spec"]["gateway"] = json!({ "service": { "port": 9000 } });
        let renamed = cluster(|cluster| cluster["metadata"]["name"] = "trades".into());
        let none = Overrides::default();
        let error = applicable(&before, &renamed, none).unwrap_err().to_string();
        assert!(error.contains("metadata.name prices → trades") && error.contains("start it again"), "{error}");
        let error = applicable(&before, &cluster(port), none).unwrap_err().to_string();
        assert!(error.contains("spec.gateway.service.port 8080 → 9000"), "{error}");
        let error = applicable(&before, &cluster(named), none).unwrap_err().to_string();
        assert!(error.contains("spec.source.kafka.brokers none → kafka:9092"), "{error}");
        // Overridden fields may change.
        let overrides = Overrides { port: true, brokers: true };
        assert_eq!(applicable(&before, &cluster(port), overrides), Ok(()));
        assert_eq!(applicable(&before, &cluster(named), overrides), Ok(()));
        let other = cluster(|cluster| cluster["spec"]["source"]["kafka"]["brokers"] = json!(["other:9092"]));
        assert_eq!(
            applicable(&cluster(named), &other, none),
            Ok(()),
            "other brokers may be other names of the same Kafka"
        );
        assert_eq!(applicable(&before, &cluster(|cluster| cluster["spec"]["shards"] = 9.into()), none), Ok(()));
    }
}
