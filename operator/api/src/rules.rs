//! Rules between fields. Each rule exists twice, side by side: as CEL for the API server, and as code for everything
//! else.
//!
//! The `definition` module writes the CEL into the schema, and the `validate` module runs the code. A test compares
//! the verdicts of both on the examples in `tests/cases.yaml`.

mod kafka;
mod limits;
mod security;
mod service;

use serde_json::{Value, json};

use crate::WsClusterSpec;
use crate::violation::Violation;

/// The code of a rule.
type Check = Box<dyn Fn(&WsClusterSpec, &mut Vec<Violation>) + Send + Sync>;

/// A rule in both forms, with the schema nodes that it belongs to.
pub(crate) struct Rule {
    places: Vec<&'static str>,
    cel: String,
    message: String,
    check: Check,
}

impl Rule {
    fn new(
        place: &'static str,
        cel: impl Into<String>,
        message: impl Into<String>,
        check: impl Fn(&WsClusterSpec, &mut Vec<Violation>) + Send + Sync + 'static,
    ) -> Self {
        Self { places: vec![place], cel: cel.into(), message: message.into(), check: Box::new(check) }
    }

    /// Paths of the schema nodes with this rule, such as `spec.source.kafka.topics[]`.
    pub(crate) fn places(&self) -> &[&'static str] {
        &self.places
    }

    /// An entry of `x-kubernetes-validations`.
    pub(crate) fn to_json(&self) -> Value {
        json!({ "rule": self.cel, "message": self.message })
    }

    /// Adds the violations of `spec` to `found`.
    pub(crate) fn check(&self, spec: &WsClusterSpec, found: &mut Vec<Violation>) {
        (self.check)(spec, found);
    }
}

/// Every rule, in the order of the spec.
pub(crate) fn all() -> impl Iterator<Item = Rule> {
    [name_rule()]
        .into_iter()
        .chain(limits::rules())
        .chain(kafka::rules())
        .chain(security::rules())
        .chain(service::rules())
}

/// Longest name of a cluster: with the suffixes of pods and revisions it must stay below 63 characters, the limit of
/// a label.
const LONGEST_NAME: usize = 40;

fn name_rule() -> Rule {
    let cel = format!(
        "size(self.metadata.name) <= {LONGEST_NAME} && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')"
    );
    let message = format!("metadata.name becomes part of Service names: {}", name_remedy());
    Rule::new("", cel, message, |_, _| {})
}

fn name_remedy() -> String {
    format!("use at most {LONGEST_NAME} characters of a-z, 0-9 and -, a letter first, no - last (RFC 1035)")
}

/// The violation of the name of a cluster, if there is one.
pub(crate) fn name(name: &str) -> Option<Violation> {
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let good = name.len() <= LONGEST_NAME
        && name.chars().all(legal)
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && !name.ends_with('-');
    let shown = if name.is_empty() { "a missing name".to_owned() } else { name.to_owned() };
    (!good).then(|| Violation::new("metadata.name", shown, name_remedy()))
}

#[cfg(test)]
mod tests;
