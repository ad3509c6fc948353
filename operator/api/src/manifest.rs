//! Reads a manifest file as people write it, and says what is wrong with it.

use std::path::{Path, PathBuf};

use crate::WsCluster;
use crate::validate::{Violation, violations};

/// Why a manifest cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The file cannot be read.
    #[error("failed to read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no `WsCluster`.
    #[error("failed to parse {path}: {reason}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why, with the remedy.
        reason: String,
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

/// The `WsCluster` in the file at `path`, with defaults filled in and every rule checked.
pub fn read(path: &Path) -> Result<WsCluster, ManifestError> {
    let text = std::fs::read_to_string(path).map_err(|source| ManifestError::Read { path: path.into(), source })?;
    parse(&text, path)
}

/// [`read`] for text that is already at hand; `path` only names it in errors.
pub fn parse(text: &str, path: &Path) -> Result<WsCluster, ManifestError> {
    let cluster: WsCluster =
        serde_yaml::from_str(text).map_err(|e| ManifestError::Parse { path: path.into(), reason: e.to_string() })?;
    match violations(&cluster.spec) {
        v if v.is_empty() => Ok(cluster),
        violations => Err(ManifestError::Invalid { path: path.into(), violations }),
    }
}

fn list(violations: &[Violation]) -> String {
    violations.iter().fold(String::new(), |text, violation| text + "\n  " + &violation.to_string())
}
