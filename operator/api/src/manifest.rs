//! Reads a manifest file as people write it, and says everything that is wrong with it.
//!
//! In order: the file, its YAML, how many documents, kind and version, unknown fields and wrong types, then the rules. Each step
//! reports all it finds, with field, value and remedy; a `WsCluster` comes out only when nothing is wrong.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource as _;
use serde::Deserialize as _;
use serde_json::{Value, json};

use crate::validate::{Violation, violations_of};
use crate::{WsCluster, definition, schema};

/// Why a manifest cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The file cannot be read.
    #[error("failed to read {path}: {source}; give the path of a WsCluster manifest")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no YAML.
    #[error("failed to parse {path}: {reason}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        reason: String,
    },
    /// The file holds no document, or more than one.
    #[error("{path} holds {found}; it must hold exactly one document, a WsCluster")]
    Documents {
        /// The file.
        path: PathBuf,
        /// How many, and which.
        found: String,
    },
    /// The document is something else.
    #[error("{path} is not a WsCluster: {field} is {found}; write {field}: {expected}")]
    Kind {
        /// The file.
        path: PathBuf,
        /// `kind` or `apiVersion`.
        field: &'static str,
        /// What it is.
        found: String,
        /// What it should be.
        expected: String,
    },
    /// The file is a `WsCluster` that breaks rules.
    #[error("{path} is not valid:{}", list(violations))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The rules.
        violations: Vec<Violation>,
    },
}

fn list(violations: &[Violation]) -> String {
    violations.iter().fold(String::new(), |text, v| text + "\n  " + &v.to_string())
}

/// The `WsCluster` in the file at `path` (`-`: standard input), with defaults filled in and every rule checked.
pub fn read(path: &Path) -> Result<WsCluster, ManifestError> {
    let text =
        if path == Path::new("-") { std::io::read_to_string(std::io::stdin()) } else { std::fs::read_to_string(path) };
    parse(&text.map_err(|source| ManifestError::Read { path: path.into(), source })?, path)
}

/// [`read`] for text that is already at hand; `path` only names it in errors.
pub fn parse(text: &str, path: &Path) -> Result<WsCluster, ManifestError> {
    let mut value = document(text, path)?;
    expect(&value, "apiVersion", &WsCluster::api_version(&()), path)?;
    expect(&value, "kind", &WsCluster::kind(&()), path)?;
    prune_nulls(&mut value);
    let invalid = |violations| ManifestError::Invalid { path: path.into(), violations };
    let found = schema::check("", &value, &OBJECT);
    // Numbers out of range are reported below, together with the rules between fields.
    let cluster: WsCluster = match serde_path_to_error::deserialize(value) {
        Ok(cluster) => cluster,
        Err(_) if !found.is_empty() => return Err(invalid(found)),
        Err(e) => {
            let field = e.path().to_string();
            return Err(invalid(vec![Violation::new(field, "this value", e.into_inner().to_string())]));
        }
    };
    let mut all = found;
    for violation in violations_of(&cluster) {
        if !all.contains(&violation) {
            all.push(violation);
        }
    }
    if all.is_empty() { Ok(cluster) } else { Err(invalid(all)) }
}

/// The schema of the whole object, metadata included.
static OBJECT: LazyLock<Value> = LazyLock::new(|| {
    let mut settings = schemars::generate::SchemaSettings::openapi3();
    settings.inline_subschemas = true;
    let metadata = settings.into_generator().into_root_schema_for::<ObjectMeta>();
    let mut object = definition::schema().clone();
    object["properties"]["apiVersion"] = json!({ "type": "string" });
    object["properties"]["kind"] = json!({ "type": "string" });
    object["properties"]["metadata"] = metadata.to_value();
    object["properties"]["metadata"]["type"] = json!("object");
    object
});

/// The one document of `text`.
fn document(text: &str, path: &Path) -> Result<Value, ManifestError> {
    let parse_error = |e: serde_yaml::Error| ManifestError::Parse { path: path.into(), reason: reason(&e) };
    let mut documents = Vec::new();
    for document in serde_yaml::Deserializer::from_str(text) {
        // By way of YAML's own type, which refuses a key that is given twice.
        let mut document = serde_yaml::Value::deserialize(document).map_err(parse_error)?;
        document.apply_merge().map_err(parse_error)?;
        let document = serde_json::to_value(document).map_err(|e| ManifestError::Parse {
            path: path.into(),
            reason: format!("{e}; write every name as text"),
        })?;
        if !document.is_null() {
            documents.push(document);
        }
    }
    match documents.len() {
        1 => Ok(documents.remove(0)),
        0 => Err(ManifestError::Documents { path: path.into(), found: "no document".into() }),
        n => {
            let names = documents.iter().map(|d| match (d["kind"].as_str(), d["metadata"]["name"].as_str()) {
                (Some(kind), Some(name)) => format!("{kind} {name}"),
                (Some(kind), None) => kind.to_owned(),
                _ => "something without a kind".to_owned(),
            });
            let found = format!("{n} documents ({})", names.collect::<Vec<_>>().join(", "));
            Err(ManifestError::Documents { path: path.into(), found })
        }
    }
}

/// YAML's own type has no whole numbers beyond 64 bits, and says so in terms of Rust.
fn reason(error: &serde_yaml::Error) -> String {
    let text = error.to_string();
    let beyond =
        ["u128", "i128"].iter().find_map(|kind| text.split_once(&format!("` as {kind}, expected any YAML value")));
    match beyond.and_then(|(before, behind)| Some((before.rsplit_once('`')?.1, behind))) {
        Some((number, at)) => {
            format!("{number} is beyond every whole number that a field takes: write a smaller one{at}")
        }
        None => text,
    }
}

fn expect(value: &Value, field: &'static str, expected: &str, path: &Path) -> Result<(), ManifestError> {
    if value[field] == expected {
        return Ok(());
    }
    let found = match (&value[field], value) {
        (_, v) if !v.is_object() => "missing (this is no mapping)".to_owned(),
        (Value::Null, _) => "missing".to_owned(),
        (other, _) => other.to_string(),
    };
    Err(ManifestError::Kind { path: path.into(), field, found, expected: expected.to_owned() })
}

/// A null means "absent", as it does for the API server.
fn prune_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, v| !v.is_null());
            fields.values_mut().for_each(prune_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(prune_nulls),
        _ => {}
    }
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
