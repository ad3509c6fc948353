//! Every rule of a `WsCluster`, with the field, the value and the remedy, for people who have no API server at hand.
//!
//! Ranges and shapes come from the schema itself ([`crate::schema`]); rules between fields stand, beside their CEL text, in
//! [`crate::rules`]. What the API server refuses is refused here too. Here alone: templates that differ as text and still
//! collide, which CEL cannot decide.

use std::fmt;

use crate::{WsCluster, WsClusterSpec, definition, rules, schema};

/// One broken rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Path of the field, e.g. `spec.capacity`.
    pub field: String,
    /// What it holds.
    pub value: String,
    /// What would be right.
    pub remedy: String,
}

impl Violation {
    pub(crate) fn new(field: impl Into<String>, value: impl fmt::Display, remedy: impl Into<String>) -> Self {
        Self { field: field.into(), value: value.to_string(), remedy: remedy.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} is not allowed; {}", self.field, self.value, self.remedy)
    }
}

/// All rules that `spec` breaks; empty when it is good.
pub fn violations(spec: &WsClusterSpec) -> Vec<Violation> {
    let value = serde_json::to_value(spec).expect("a spec is plain data");
    let mut found = schema::check("spec", &value, definition::spec_schema());
    for rule in rules::all() {
        rule.check(spec, &mut found);
    }
    found
}

/// [`violations`] of the spec, and those of the name: it becomes part of the names of pods and Services.
pub fn violations_of(cluster: &WsCluster) -> Vec<Violation> {
    let mut found = rules::name(cluster.metadata.name.as_deref().unwrap_or_default()).into_iter().collect::<Vec<_>>();
    found.extend(violations(&cluster.spec));
    found
}
