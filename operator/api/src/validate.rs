//! Validates a `WsCluster` without an API server, with the field, the value and the remedy for each broken rule.
//!
//! The schema supplies ranges and shapes (the `schema` module checks them); rules between fields are in the `rules`
//! module, beside their CEL text. Everything that the API server refuses is refused here, too. In addition, channel
//! templates that differ as text and could still produce the same channel are refused, which CEL cannot decide.

use crate::{WsCluster, WsClusterSpec, definition, rules, schema};

pub use crate::violation::Violation;

/// All rules that `spec` breaks; empty if it is valid.
pub fn violations(spec: &WsClusterSpec) -> Vec<Violation> {
    let value = serde_json::to_value(spec).expect("a spec is plain data");
    let mut found = schema::check("spec", &value, definition::spec_schema());
    for rule in rules::all() {
        rule.check(spec, &mut found);
    }
    found
}

/// [`violations`] of the spec, and those of the name, which becomes part of the names of pods and Services.
pub fn violations_of(cluster: &WsCluster) -> Vec<Violation> {
    let mut found = rules::name(cluster.metadata.name.as_deref().unwrap_or_default()).into_iter().collect::<Vec<_>>();
    found.extend(violations(&cluster.spec));
    found
}
