//! Encryption and login towards the brokers: from the manifest's fields to librdkafka's properties.
//!
//! Secrets are read here and nowhere else, from a file, the environment, or the folder in which Kubernetes mounts them; no
//! error or log line holds one.

use std::error::Error;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use rdkafka::ClientConfig;
use rdkafka::client::OAuthToken;
use wscluster_api::spec::{Credential, CredentialOrigin, SaslMechanism, Security};

/// Where Secrets are mounted, as `NAME/KEY`.
const SECRETS_DIR: &str = "/etc/wscluster/secrets";
/// Environment variable that overrides it.
const SECRETS_DIR_VAR: &str = "WSCLUSTER_SECRETS_DIR";

/// A secret that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SecurityError {
    /// File.
    #[error("failed to read {field} from {path}: {source}")]
    File {
        /// The field of the manifest.
        field: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Environment.
    #[error("failed to read {field}: environment variable {variable} is not set")]
    Env {
        /// The field of the manifest.
        field: &'static str,
        /// The variable.
        variable: String,
    },
    /// Nothing said where it is.
    #[error("{field}: give exactly one of secretRef, file and env")]
    Origin {
        /// The field of the manifest.
        field: &'static str,
    },
    /// Not built in.
    #[error(
        "source.kafka.security.sasl.oauth.client: this build fetches no tokens; use oauth.token with a file that something \
         else renews"
    )]
    OAuthClient,
}

/// Sets what `security` asks for; returns where tokens come from, when login is by token.
pub(super) fn apply(config: &mut ClientConfig, security: &Security) -> Result<Option<TokenSource>, SecurityError> {
    let protocol = match (&security.tls, &security.sasl) {
        (None, None) => "plaintext",
        (Some(_), None) => "ssl",
        (None, Some(_)) => "sasl_plaintext",
        (Some(_), Some(_)) => "sasl_ssl",
    };
    config.set("security.protocol", protocol);
    if let Some(tls) = &security.tls {
        match &tls.ca {
            Some(ca) => config.set("ssl.ca.pem", read(ca, "source.kafka.security.tls.ca")?),
            // The library brings its own OpenSSL, which does not know where this system keeps its authorities.
            None => config.set("ssl.ca.location", "probe"),
        };
        for (property, credential, field) in [
            ("ssl.certificate.pem", &tls.certificate, "source.kafka.security.tls.certificate"),
            ("ssl.key.pem", &tls.key, "source.kafka.security.tls.key"),
            ("ssl.key.password", &tls.key_password, "source.kafka.security.tls.keyPassword"),
        ] {
            if let Some(credential) = credential {
                config.set(property, read(credential, field)?);
            }
        }
        config.set("ssl.endpoint.identification.algorithm", if tls.verify_hostname { "https" } else { "none" });
    }
    let Some(sasl) = &security.sasl else { return Ok(None) };
    config.set("sasl.mechanism", sasl.mechanism.as_str());
    if sasl.mechanism == SaslMechanism::OAuthBearer {
        return match sasl.oauth.as_ref().and_then(|oauth| oauth.token.clone()) {
            Some(token) => Ok(Some(TokenSource(token))),
            None => Err(SecurityError::OAuthClient),
        };
    }
    if let Some(username) = &sasl.username {
        config.set("sasl.username", username);
    }
    for (property, credential, field) in [
        ("sasl.username", &sasl.username_from, "source.kafka.security.sasl.usernameFrom"),
        ("sasl.password", &sasl.password, "source.kafka.security.sasl.password"),
    ] {
        if let Some(credential) = credential {
            config.set(property, read(credential, field)?);
        }
    }
    Ok(None)
}

/// The secret text; one trailing newline is no part of it.
fn read(credential: &Credential, field: &'static str) -> Result<String, SecurityError> {
    let path = match credential.origin() {
        None => return Err(SecurityError::Origin { field }),
        Some(CredentialOrigin::Env(variable)) => {
            return std::env::var(variable).map_err(|_| SecurityError::Env { field, variable: variable.to_owned() });
        }
        Some(CredentialOrigin::File(path)) => PathBuf::from(path),
        Some(CredentialOrigin::Secret(secret)) => {
            let dir = std::env::var_os(SECRETS_DIR_VAR).map_or_else(|| PathBuf::from(SECRETS_DIR), PathBuf::from);
            dir.join(&secret.name).join(&secret.key)
        }
    };
    let mut text = std::fs::read_to_string(&path).map_err(|source| SecurityError::File { field, path, source })?;
    if text.ends_with('\n') {
        text.pop();
    }
    Ok(text)
}

/// Where OAUTHBEARER tokens come from; read anew before each login.
#[derive(Clone, Debug)]
pub(super) struct TokenSource(Credential);

impl TokenSource {
    /// The token as it is now, with its lifetime and subject when it is a JWT (RFC 7519).
    pub(super) fn token(&self) -> Result<OAuthToken, Box<dyn Error>> {
        let token = read(&self.0, "source.kafka.security.sasl.oauth.token")?.trim().to_owned();
        let claims = claims(&token).unwrap_or_default();
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_millis() as i64);
        // Of a token that does not say when it ends, librdkafka must still be told: it then asks again well before.
        let lifetime_ms =
            claims.get("exp").and_then(serde_json::Value::as_f64).map_or(now_ms + 300_000, |s| (s * 1e3) as i64);
        let subject = claims.get("sub").and_then(serde_json::Value::as_str).unwrap_or("wscluster");
        Ok(OAuthToken { token, principal_name: subject.to_owned(), lifetime_ms })
    }
}

fn claims(token: &str) -> Option<serde_json::Value> {
    let payload = token.split('.').nth(1)?;
    let json = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
    serde_json::from_slice(&json).ok()
}

#[cfg(test)]
mod tests {
    use wscluster_api::spec::{Sasl, Tls};

    use super::*;

    fn file(dir: &tempfile::TempDir, name: &str, text: &str) -> Credential {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        Credential { file: Some(path.to_str().unwrap().to_owned()), ..Credential::default() }
    }

    fn sasl(mechanism: SaslMechanism) -> Sasl {
        Sasl { mechanism, username: None, username_from: None, password: None, oauth: None }
    }

    #[test]
    fn turns_the_manifest_into_properties() {
        let dir = tempfile::tempdir().unwrap();
        let tls = Tls { ca: Some(file(&dir, "ca", "CA\n")), verify_hostname: false, ..Tls::default() };
        let sasl = Sasl {
            username: Some("gw".into()),
            password: Some(file(&dir, "password", "secret\n")),
            ..sasl(SaslMechanism::ScramSha512)
        };
        let mut config = ClientConfig::new();
        apply(&mut config, &Security { tls: Some(tls), sasl: Some(sasl) }).unwrap();
        for (property, value) in [
            ("security.protocol", "sasl_ssl"),
            ("ssl.ca.pem", "CA"),
            ("ssl.endpoint.identification.algorithm", "none"),
            ("sasl.mechanism", "SCRAM-SHA-512"),
            ("sasl.username", "gw"),
            ("sasl.password", "secret"),
        ] {
            assert_eq!(config.get(property), Some(value), "{property}");
        }
    }

    #[test]
    fn names_the_field_whose_secret_is_missing() {
        let missing = Credential { file: Some("/nowhere/password".into()), ..Credential::default() };
        let sasl = Sasl { username: Some("gw".into()), password: Some(missing), ..sasl(SaslMechanism::Plain) };
        let security = Security { tls: None, sasl: Some(sasl) };
        let error = apply(&mut ClientConfig::new(), &security).unwrap_err().to_string();
        assert!(
            error.starts_with("failed to read source.kafka.security.sasl.password from /nowhere/password: "),
            "{error}"
        );
    }

    #[test]
    fn takes_lifetime_and_subject_from_a_jwt() {
        let dir = tempfile::tempdir().unwrap();
        let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(r#"{"sub":"shard","exp":2000000000}"#);
        let token = TokenSource(file(&dir, "token", &format!("e30.{claims}.\n"))).token().unwrap();
        assert_eq!((token.principal_name.as_str(), token.lifetime_ms), ("shard", 2_000_000_000_000));
    }
}
