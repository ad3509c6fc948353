//! A broken rule of a manifest.

use std::fmt;

/// A field of a manifest that breaks a rule, with the remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Path of the field, such as `spec.capacity`.
    pub field: String,
    /// Its value, for messages. Never a credential.
    pub value: String,
    /// What to write instead.
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
