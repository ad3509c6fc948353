//! How a broker is trusted and how these clients log in.
//!
//! Types only: nothing here reads a Secret, a file or a variable. No field takes a password or a private key as text, since a
//! manifest is no place for one.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Encryption and login towards the brokers. TLS with SASL is `SASL_SSL` in Kafka's words, TLS alone `SSL`, SASL alone
/// `SASL_PLAINTEXT`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Security {
    /// Encryption. `{}` trusts the public certificate authorities of the system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Login.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sasl: Option<Sasl>,
}

/// Encryption, and with `certificate` and `key` also login by a client certificate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Tls {
    /// Certificate authorities to trust, PEM. Absent: those of the system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<Credential>,
    /// Client certificate with its chain, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Credential>,
    /// Private key of `certificate`, PEM (PKCS#8).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<Credential>,
    /// Password of `key`, where it is encrypted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_password: Option<Credential>,
    /// Whether a broker's certificate must carry the name it is dialled by (RFC 6125).
    pub verify_hostname: bool,
}

impl Default for Tls {
    fn default() -> Self {
        Self { ca: None, certificate: None, key: None, key_password: None, verify_hostname: true }
    }
}

/// Login by SASL (RFC 4422).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Sasl {
    /// How to log in.
    pub mechanism: SaslMechanism,
    /// User name, as text; all but OAUTHBEARER. Exactly one of `username` and `usernameFrom`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub username: Option<String>,
    /// User name, where it is kept beside the password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username_from: Option<Credential>,
    /// Password; all but OAUTHBEARER.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Credential>,
    /// Where tokens come from; OAUTHBEARER only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oauth: Option<OAuth>,
}

/// How to log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SaslMechanism {
    /// Name and password as they are (RFC 4616): only with TLS, or they can be read on the wire.
    #[serde(rename = "PLAIN")]
    Plain,
    /// Salted challenge and response (RFC 7677).
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// The same with SHA-512.
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
    /// A bearer token (RFC 7628).
    #[serde(rename = "OAUTHBEARER")]
    OAuthBearer,
}

impl SaslMechanism {
    /// The name that Kafka knows it by.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
            Self::OAuthBearer => "OAUTHBEARER",
        }
    }
}

/// Where OAUTHBEARER tokens come from: exactly one of its fields.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OAuth {
    /// A token that something else renews; read again before each login.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Credential>,
    /// Client credentials that are traded for a token (RFC 6749 §4.4).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<OAuthClient>,
}

/// Client credentials of an identity provider.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OAuthClient {
    /// Token endpoint, `https://…`.
    #[schemars(length(max = 2048), regex(pattern = r"^https?://[^\s/]+(/\S*)?$"))]
    pub token_url: String,
    /// Client id.
    #[schemars(length(min = 1, max = 255))]
    pub client_id: String,
    /// Client secret.
    pub client_secret: Credential,
    /// Scopes to ask for, separated by spaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub scope: Option<String>,
    /// SASL extensions sent with the token (KIP-342), such as `logicalCluster`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub extensions: BTreeMap<String, String>,
}

/// Where a secret text is kept: exactly one of its fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Credential {
    /// A key of a Secret in the namespace of the `WsCluster`; Kubernetes only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
    /// A file that the process can read; one trailing newline is ignored. The operator mounts none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub file: Option<String>,
    /// An environment variable of the process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128), regex(pattern = r"^[A-Za-z_][A-Za-z0-9_]*$"))]
    pub env: Option<String>,
}

/// A key of a Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Name of the Secret.
    #[schemars(length(max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
    /// Key inside the Secret.
    #[schemars(length(max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub key: String,
}

/// Where a spec may have a [`Credential`].
pub(crate) const CREDENTIALS: [&str; 8] = [
    "spec.source.kafka.security.tls.ca",
    "spec.source.kafka.security.tls.certificate",
    "spec.source.kafka.security.tls.key",
    "spec.source.kafka.security.tls.keyPassword",
    "spec.source.kafka.security.sasl.usernameFrom",
    "spec.source.kafka.security.sasl.password",
    "spec.source.kafka.security.sasl.oauth.token",
    "spec.source.kafka.security.sasl.oauth.client.clientSecret",
];

impl Security {
    /// The credentials that are given, each with its path in the manifest.
    pub fn credentials(&self) -> impl Iterator<Item = (&'static str, &Credential)> {
        let (tls, sasl) = (self.tls.as_ref(), self.sasl.as_ref());
        let oauth = sasl.and_then(|s| s.oauth.as_ref());
        let given = [
            tls.and_then(|t| t.ca.as_ref()),
            tls.and_then(|t| t.certificate.as_ref()),
            tls.and_then(|t| t.key.as_ref()),
            tls.and_then(|t| t.key_password.as_ref()),
            sasl.and_then(|s| s.username_from.as_ref()),
            sasl.and_then(|s| s.password.as_ref()),
            oauth.and_then(|o| o.token.as_ref()),
            oauth.and_then(|o| o.client.as_ref()).map(|c| &c.client_secret),
        ];
        CREDENTIALS.into_iter().zip(given).filter_map(|(path, credential)| Some((path, credential?)))
    }
}

/// Where a [`Credential`] is kept, once the rules hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialOrigin<'a> {
    /// A key of a Secret.
    Secret(&'a SecretRef),
    /// A file.
    File(&'a str),
    /// An environment variable.
    Env(&'a str),
}

impl Credential {
    /// Where it is kept; none when no field is given or more than one.
    pub fn origin(&self) -> Option<CredentialOrigin<'_>> {
        match (&self.secret_ref, &self.file, &self.env) {
            (Some(secret), None, None) => Some(CredentialOrigin::Secret(secret)),
            (None, Some(file), None) => Some(CredentialOrigin::File(file)),
            (None, None, Some(env)) => Some(CredentialOrigin::Env(env)),
            _ => None,
        }
    }
}
