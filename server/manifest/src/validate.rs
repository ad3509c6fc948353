//! `wscluster validate`: lists every error of manifests, with field, value and remedy.
//!
//! It checks what a shard, a gateway and `wscluster local` check when they start, and that librdkafka accepts each
//! property of `spec.source.kafka.properties`. It reads no credential and connects to nothing.

use std::fmt;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rdkafka::ClientConfig;
use serde::Serialize;
use serde_yaml::Value;
use wscluster_api::manifest::{self, ManifestError};
use wscluster_api::validate::Violation;
use wscluster_runtime::args::Output;
use wscluster_runtime::exit::{USAGE, report};

const EXAMPLES: &str = "\
Examples:
  wscluster validate -f cluster.yaml
  wscluster validate -f staging.yaml production.yaml --output json
  # standard input
  wscluster init - | wscluster validate -f -

Exit codes: 0 all are valid, 2 at least one is not, or wrong command line.";

/// Arguments of `wscluster validate`.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Manifests to check; `-` is standard input.
    #[arg(long, short, value_name = "FILE", num_args = 1.., required = true)]
    file: Vec<PathBuf>,
    /// Format of the result on standard output.
    #[arg(long, short, default_value = "text", value_name = "FORMAT")]
    output: Output,
}

/// The result of `--output json`.
#[derive(Debug, Serialize)]
struct Report {
    /// Whether all manifests are valid.
    valid: bool,
    /// One entry per file, in the order given.
    manifests: Vec<Checked>,
}

#[derive(Debug, Serialize)]
struct Checked {
    /// Path as given; `-` for standard input.
    file: String,
    valid: bool,
    errors: Vec<Problem>,
}

/// One error. `field`, `value` and `remedy` are null where the file as a whole is at fault.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Problem {
    /// Path of the field, such as `spec.capacity`.
    field: Option<String>,
    value: Option<String>,
    remedy: Option<String>,
    /// The sentence that text output prints.
    message: String,
}

impl Problem {
    fn of_file(error: &ManifestError) -> Self {
        Self { message: error.to_string(), ..Self::default() }
    }

    fn of_field(file: impl fmt::Display, violation: Violation) -> Self {
        let message = format!("{file}: {violation}");
        let Violation { field, value, remedy } = violation;
        Self { field: Some(field), value: Some(value), remedy: Some(remedy), message }
    }
}

/// Checks the manifests. Exit codes: 0 all are valid, 2 at least one is not.
pub fn run(args: &Args) -> ExitCode {
    let manifests: Vec<_> = args.file.iter().map(|path| check(path, text(path))).collect();
    let result = Report { valid: manifests.iter().all(|checked| checked.valid), manifests };
    let mut out = std::io::stdout().lock();
    // A reader that closed the pipe needs no more; the exit code still has the result.
    match args.output {
        Output::Json => {
            let _ = writeln!(out, "{}", serde_json::to_string(&result).expect("all keys are text"));
        }
        Output::Text => {
            for checked in &result.manifests {
                if checked.valid {
                    let _ = writeln!(out, "{}: valid", checked.file);
                }
                checked.errors.iter().for_each(|problem| report(&problem.message));
            }
        }
    }
    if result.valid { ExitCode::SUCCESS } else { ExitCode::from(USAGE) }
}

fn text(path: &Path) -> std::io::Result<String> {
    if path == Path::new("-") { std::io::read_to_string(std::io::stdin()) } else { std::fs::read_to_string(path) }
}

fn check(path: &Path, text: std::io::Result<String>) -> Checked {
    let file = path.display().to_string();
    let (violations, whole) = match text {
        Err(source) => (Vec::new(), Some(ManifestError::Read { path: path.into(), source })),
        Ok(text) => match manifest::parse(&text, path) {
            Ok(_) => (properties(&text), None),
            Err(ManifestError::Invalid { mut violations, .. }) => {
                violations.extend(properties(&text));
                (violations, None)
            }
            Err(ManifestError::Kind { field, found, expected, .. }) => {
                let remedy = format!("write {field}: {expected}");
                (vec![Violation { field: field.to_owned(), value: found, remedy }], None)
            }
            Err(error) => (Vec::new(), Some(error)),
        },
    };
    let mut errors: Vec<_> = violations.into_iter().map(|found| Problem::of_field(&file, found)).collect();
    errors.extend(whole.as_ref().map(Problem::of_file));
    Checked { file, valid: errors.is_empty(), errors }
}

/// The properties of the manifest `text` that librdkafka does not accept.
///
/// They are read from the YAML itself, so that a manifest with other errors gets these errors too.
fn properties(text: &str) -> Vec<Violation> {
    let value: Value = serde_yaml::from_str(text).unwrap_or_default();
    let Some(properties) = value["spec"]["source"]["kafka"]["properties"].as_mapping() else { return Vec::new() };
    let refusal = |(name, value): (&Value, &Value)| {
        let (name, value) = (name.as_str()?, value.as_str()?);
        let error = ClientConfig::new().set(name, value).create_native_config().err()?;
        Some(Violation {
            field: format!("spec.source.kafka.properties.{name}"),
            value: format!("{value:?}"),
            remedy: format!("librdkafka refuses it ({error}); see its CONFIGURATION.md for names and values"),
        })
    };
    properties.iter().filter_map(refusal).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str) -> Checked {
        let path = Path::new("cluster.yaml");
        check(path, Ok(text.to_owned()))
    }

    fn manifest(spec: &str) -> String {
        format!(
            "apiVersion: wscluster.dev/v1alpha1\nkind: WsCluster\nmetadata: {{ name: prices }}\nspec:\n  source:\n    \
             kafka:\n      topics: [{{ name: t, channel: \"{{key}}\" }}]\n{spec}"
        )
    }

    #[test]
    fn lists_every_error_with_field_value_and_remedy() {
        assert!(checked(&manifest("")).valid);
        let errors = checked(&manifest("  capacity: 0\n  shards: 2000\n")).errors;
        let fields: Vec<_> = errors.iter().map(|problem| problem.field.as_deref().unwrap()).collect();
        assert_eq!(fields, ["spec.capacity", "spec.shards"]);
        assert_eq!(errors[0].value.as_deref(), Some("0"));
        assert!(errors[0].remedy.is_some());
        assert!(errors[0].message.starts_with("cluster.yaml: spec.capacity: 0 is not allowed; "), "{errors:?}");
    }

    #[test]
    fn lists_every_property_that_librdkafka_refuses() {
        let text = manifest("      properties: { no.such: \"1\", fetch.wait.max.ms: soon, fetch.min.bytes: \"1\" }\n");
        let fields: Vec<_> = checked(&text).errors.into_iter().filter_map(|problem| problem.field).collect();
        let path = "spec.source.kafka.properties";
        assert_eq!(fields, [format!("{path}.no.such"), format!("{path}.fetch.wait.max.ms")]);
        let errors = checked(&format!("{text}  capacity: 0\n")).errors;
        assert_eq!(errors.len(), 3, "{errors:?}");
    }

    #[test]
    fn names_the_field_of_another_kind() {
        let errors = checked("apiVersion: v1\nkind: Secret\n").errors;
        assert_eq!(errors[0].field.as_deref(), Some("apiVersion"));
        assert_eq!(errors[0].remedy.as_deref(), Some("write apiVersion: wscluster.dev/v1alpha1"));
    }

    #[test]
    fn reports_a_file_that_cannot_be_read() {
        let path = Path::new("/nowhere/cluster.yaml");
        let errors = check(path, text(path)).errors;
        assert!(errors[0].message.starts_with("failed to read /nowhere/cluster.yaml: No such file"), "{errors:?}");
    }

    #[test]
    fn reports_a_file_that_holds_no_manifest() {
        for text in ["", "a: [", "a: 1\n---\nb: 2\n"] {
            let checked = checked(text);
            assert!(!checked.valid && checked.errors[0].field.is_none(), "{text:?}: {checked:?}");
            assert!(checked.errors[0].message.contains("cluster.yaml"), "{checked:?}");
        }
    }
}
