//! TLS and login to the brokers: the manifest's fields as librdkafka properties.

use std::error::Error;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use rdkafka::ClientConfig;
use rdkafka::client::OAuthToken;
use wscluster_api::spec::{Credential, SaslMechanism, Security};

use super::credentials::{CredentialError, read};

/// The security settings of the manifest cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SecurityError {
    /// A credential cannot be read.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// OAuth by client id and secret is not built in.
    #[error(
        "source.kafka.security.sasl.oauth.client: this build fetches no tokens; use oauth.token with a file that something \
         else renews"
    )]
    OAuthClient,
}

/// Sets the properties for `security`. Returns the source of tokens when the login is by token.
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
            // A vendored OpenSSL does not know the paths of this system's certificate authorities.
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

/// Source of OAUTHBEARER tokens, read before each login.
#[derive(Clone, Debug)]
pub(super) struct TokenSource(Credential);

impl TokenSource {
    /// The current token, with its expiry and subject if it is a JWT (RFC 7519).
    pub(super) fn token(&self) -> Result<OAuthToken, Box<dyn Error>> {
        let token = read(&self.0, "source.kafka.security.sasl.oauth.token")?.trim().to_owned();
        let claims = claims(&token).unwrap_or_default();
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_millis() as i64);
        // librdkafka needs an expiry to know when to ask again; for a token without one, it asks every few minutes.
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
    fn manifest_fields_become_properties() {
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
    fn error_names_the_field_of_a_missing_secret() {
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
    fn expiry_and_subject_come_from_a_jwt() {
        let dir = tempfile::tempdir().unwrap();
        let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(r#"{"sub":"shard","exp":2000000000}"#);
        let token = TokenSource(file(&dir, "token", &format!("e30.{claims}.\n"))).token().unwrap();
        assert_eq!((token.principal_name.as_str(), token.lifetime_ms), ("shard", 2_000_000_000_000));
    }
}
