//! Reads manifest files as users write them, and reports all mistakes in them.
//!
//! The checks, in order: the file, its YAML, the number of documents, kind and version, unknown fields and wrong
//! types, then the rules. Each step reports everything it finds, with field, value and remedy. Only a valid manifest
//! yields a `WsCluster`.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource as _;
use serde::Deserialize as _;
use serde_json::{Value, json};

use crate::validate::violations_of;
use crate::violation::Violation;
use crate::{WsCluster, definition, schema};

/// Why a manifest cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The file cannot be read.
    #[error("failed to read {path}: {source}; give the path of a WsCluster manifest")]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// The I/O error.
        source: std::io::Error,
    },
    /// The file is not valid YAML.
    #[error("failed to parse {path}: {reason}")]
    Parse {
        /// Path of the file.
        path: PathBuf,
        /// The error, with line and column.
        reason: String,
    },
    /// The file contains no document, or more than one.
    #[error("{path} contains {found}; it must contain exactly one document, a WsCluster")]
    Documents {
        /// Path of the file.
        path: PathBuf,
        /// Number and names of the documents.
        found: String,
    },
    /// The document is not a `WsCluster`.
    #[error("{path} is not a WsCluster: {field} is {found}; write {field}: {expected}")]
    Kind {
        /// Path of the file.
        path: PathBuf,
        /// `kind` or `apiVersion`.
        field: &'static str,
        /// Value of the field.
        found: String,
        /// Expected value.
        expected: String,
    },
    /// The `WsCluster` breaks rules.
    #[error("{path} is not valid:{}", list(violations))]
    Invalid {
        /// Path of the file.
        path: PathBuf,
        /// The broken rules.
        violations: Vec<Violation>,
    },
}

fn list(violations: &[Violation]) -> String {
    violations.iter().fold(String::new(), |text, v| text + "\n  " + &v.to_string())
}

/// Reads the `WsCluster` in the file at `path` (`-` for standard input), fills in defaults, and checks every rule.
pub fn read(path: &Path) -> Result<WsCluster, ManifestError> {
    let text =
        if path == Path::new("-") { std::io::read_to_string(std::io::stdin()) } else { std::fs::read_to_string(path) };
    parse(&text.map_err(|source| ManifestError::Read { path: path.into(), source })?, path)
}

/// Like [`read`], but from a string. `path` is used in errors only.
pub fn parse(text: &str, path: &Path) -> Result<WsCluster, ManifestError> {
    let mut value = document(text, path)?;
    expect(&value, "apiVersion", &WsCluster::api_version(&()), path)?;
    expect(&value, "kind", &WsCluster::kind(&()), path)?;
    prune_nulls(&mut value);
    let invalid = |violations| ManifestError::Invalid { path: path.into(), violations };
    let found = schema::check("", &value, &OBJECT);
    // Numbers out of range are reported below, together with rules between fields.
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

/// The only document in `text`.
fn document(text: &str, path: &Path) -> Result<Value, ManifestError> {
    let parse_error = |e: serde_yaml::Error| ManifestError::Parse { path: path.into(), reason: reason(&e) };
    let mut documents = Vec::new();
    for document in serde_yaml::Deserializer::from_str(text) {
        // `serde_yaml::Value` refuses duplicate keys.
        let mut document = serde_yaml::Value::deserialize(document).map_err(parse_error)?;
        document.apply_merge().map_err(parse_error)?;
        let document = serde_json::to_value(document).map_err(|e| ManifestError::Parse {
            path: path.into(),
            reason: format!("{e}; write every key as a string"),
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

/// `serde_yaml::Value` has no integers beyond 64 bits and reports them in terms of Rust types.
fn reason(error: &serde_yaml::Error) -> String {
    let text = error.to_string();
    let beyond =
        ["u128", "i128"].iter().find_map(|kind| text.split_once(&format!("` as {kind}, expected any YAML value")));
    match beyond.and_then(|(before, behind)| Some((before.rsplit_once('`')?.1, behind))) {
        Some((number, at)) => {
            format!("{number} is larger than any field permits: write a smaller number{at}")
        }
        None => text,
    }
}

fn expect(value: &Value, field: &'static str, expected: &str, path: &Path) -> Result<(), ManifestError> {
    if value[field] == expected {
        return Ok(());
    }
    let found = match (&value[field], value) {
        (_, v) if !v.is_object() => "missing (the document is not a mapping)".to_owned(),
        (Value::Null, _) => "missing".to_owned(),
        (other, _) => other.to_string(),
    };
    Err(ManifestError::Kind { path: path.into(), field, found, expected: expected.to_owned() })
}

/// Removes nulls, which mean "absent", as the API server does.
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
mod tests;
