//! TLS and authentication towards Kafka.
//!
//! These types only name where credentials are kept; they do not read Secrets, files or variables. No field takes a
//! password or a private key as text, because manifests are not kept secret.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Encryption and authentication. `tls` with `sasl` is Kafka's `SASL_SSL`, `tls` alone is `SSL`, and `sasl` alone is
/// `SASL_PLAINTEXT`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Security {
    /// Enables TLS. `{}` trusts the certificate authorities of the system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Enables SASL authentication.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sasl: Option<Sasl>,
}

/// TLS settings. `certificate` and `key` together enable authentication by client certificate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Tls {
    /// Trusted certificate authorities, in PEM format. Default: those of the system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<Credential>,
    /// Client certificate with its chain, in PEM format.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Credential>,
    /// Private key of `certificate`, in PEM format (PKCS#8).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<Credential>,
    /// Password of `key`, if it is encrypted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_password: Option<Credential>,
    /// Whether the certificate of a broker must match its host name (RFC 6125).
    pub verify_hostname: bool,
}

impl Default for Tls {
    fn default() -> Self {
        Self { ca: None, certificate: None, key: None, key_password: None, verify_hostname: true }
    }
}

/// SASL authentication (RFC 4422).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Sasl {
    /// SASL mechanism. Use `PLAIN` only with TLS: it sends the password unencrypted.
    pub mechanism: SaslMechanism,
    /// User name, for all mechanisms except OAUTHBEARER. Give exactly one of `username` and `usernameFrom`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub username: Option<String>,
    /// Where the user name is kept, for example in the Secret that holds the password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username_from: Option<Credential>,
    /// Where the password is kept, for all mechanisms except OAUTHBEARER.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Credential>,
    /// Source of the tokens, for OAUTHBEARER only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oauth: Option<OAuth>,
}

/// SASL mechanism. Use `PLAIN` only with TLS: it sends the password unencrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SaslMechanism {
    /// Sends name and password unencrypted (RFC 4616); use it only with TLS.
    #[serde(rename = "PLAIN")]
    Plain,
    /// Salted challenge-response with SHA-256 (RFC 7677).
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// Salted challenge-response with SHA-512.
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
    /// OAuth 2.0 bearer token (RFC 7628).
    #[serde(rename = "OAUTHBEARER")]
    OAuthBearer,
}

impl SaslMechanism {
    /// The name of the mechanism in Kafka's configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
            Self::OAuthBearer => "OAUTHBEARER",
        }
    }
}

/// Source of OAUTHBEARER tokens. Give exactly one field.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OAuth {
    /// A token that another process renews. It is read again before each authentication.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Credential>,
    /// Client credentials to obtain tokens with (RFC 6749 §4.4). Not implemented; shards refuse to start with them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<OAuthClient>,
}

/// Client credentials of an identity provider.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OAuthClient {
    /// URL of the token endpoint.
    #[schemars(length(max = 2048), regex(pattern = r"^https?://[^\s/]+(/\S*)?$"))]
    pub token_url: String,
    /// Client ID at the identity provider.
    #[schemars(length(min = 1, max = 255))]
    pub client_id: String,
    /// Where the client secret is kept.
    pub client_secret: Credential,
    /// Requested scopes, separated by spaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub scope: Option<String>,
    /// SASL extensions to send with the token (KIP-342), such as `logicalCluster`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub extensions: BTreeMap<String, String>,
}

/// Where a credential is kept. Give exactly one field.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Credential {
    /// Key of a Secret in the namespace of the `WsCluster`. Kubernetes only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
    /// Path of a file that the process can read. One trailing newline is ignored. The operator does not mount such
    /// files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub file: Option<String>,
    /// Environment variable of the process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128), regex(pattern = r"^[A-Za-z_][A-Za-z0-9_]*$"))]
    pub env: Option<String>,
}

/// Key of a Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Name of the Secret.
    #[schemars(length(max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
    /// Key in the Secret.
    #[schemars(length(max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub key: String,
}

/// Paths of all fields of type [`Credential`].
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
    /// The credentials that the manifest sets, with their paths.
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

/// Where a valid [`Credential`] is kept.
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
    /// Where it is kept; `None` unless exactly one field is set.
    pub fn origin(&self) -> Option<CredentialOrigin<'_>> {
        match (&self.secret_ref, &self.file, &self.env) {
            (Some(secret), None, None) => Some(CredentialOrigin::Secret(secret)),
            (None, Some(file), None) => Some(CredentialOrigin::File(file)),
            (None, None, Some(env)) => Some(CredentialOrigin::Env(env)),
            _ => None,
        }
    }
}
