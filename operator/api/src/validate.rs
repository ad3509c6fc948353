//! Every rule of a spec, with the field, the value and the remedy; the same rules stand in the schema and in CEL.

use std::fmt;

use crate::WsClusterSpec;

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

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} is not allowed; {}", self.field, self.value, self.remedy)
    }
}

/// All rules that `spec` breaks; empty when it is good.
pub fn violations(spec: &WsClusterSpec) -> Vec<Violation> {
    let mut found = Vec::new();
    if spec.capacity == 0 {
        found.push(Violation {
            field: "spec.capacity".into(),
            value: "0".into(),
            remedy: "give the connections one shard may hold, 1 to 1000000".into(),
        });
    }
    found
}
