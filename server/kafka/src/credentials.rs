//! Reads credentials: the only place of this crate that reads a secret, from a file, the environment, or a mounted
//! Secret. No error and no log line contains one.
//!
//! Passwords and keys are read once, when a client of the brokers is made; tokens are read before each login. To
//! follow files that change, watch the path that [`path_of`] returns and make the client anew.

use std::path::PathBuf;

use wscluster_api::spec::{Credential, CredentialOrigin};

/// Directory in which Secrets are mounted, as `NAME/KEY`.
const SECRETS_DIR: &str = "/etc/wscluster/secrets";
/// Environment variable that overrides [`SECRETS_DIR`].
const SECRETS_DIR_VAR: &str = "WSCLUSTER_SECRETS_DIR";

/// A credential cannot be read. `field` is the field of the manifest.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// The file cannot be read, or is not UTF-8.
    #[error("failed to read {field} from {path}: {source}")]
    File {
        /// The field of the manifest.
        field: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The environment variable is not set.
    #[error("failed to read {field}: environment variable {variable} is not set")]
    Env {
        /// The field of the manifest.
        field: &'static str,
        /// The variable.
        variable: String,
    },
    /// The manifest names no origin, or several.
    #[error("{field}: give exactly one of secretRef, file and env")]
    Origin {
        /// The field of the manifest.
        field: &'static str,
    },
}

/// Reads `credential`, which stands in `field` of the manifest, without one trailing newline.
pub(crate) fn read(credential: &Credential, field: &'static str) -> Result<String, CredentialError> {
    let origin = credential.origin().ok_or(CredentialError::Origin { field })?;
    if let CredentialOrigin::Env(variable) = origin {
        return std::env::var(variable).map_err(|_| CredentialError::Env { field, variable: variable.to_owned() });
    }
    let path = path_of(&origin).ok_or(CredentialError::Origin { field })?;
    let mut text = std::fs::read_to_string(&path).map_err(|source| CredentialError::File { field, path, source })?;
    if text.ends_with('\n') {
        text.pop();
    }
    Ok(text)
}

/// The file that holds a credential; `None` for the environment.
fn path_of(origin: &CredentialOrigin<'_>) -> Option<PathBuf> {
    match origin {
        CredentialOrigin::Env(_) => None,
        CredentialOrigin::File(path) => Some(PathBuf::from(path)),
        CredentialOrigin::Secret(secret) => {
            let dir = std::env::var_os(SECRETS_DIR_VAR).map_or_else(|| PathBuf::from(SECRETS_DIR), PathBuf::from);
            Some(dir.join(&secret.name).join(&secret.key))
        }
    }
}
