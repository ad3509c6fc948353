//! Rules of TLS and SASL: which credentials must be given together. Messages never contain credentials.

use super::Rule;
use crate::WsClusterSpec;
use crate::spec::{CREDENTIALS, Credential, Sasl, SaslMechanism, Security, Tls};
use crate::violation::Violation;

const SECURITY: &str = "spec.source.kafka.security";

fn tls(spec: &WsClusterSpec) -> Option<&Tls> {
    spec.source.kafka.security.as_ref()?.tls.as_ref()
}

fn sasl(spec: &WsClusterSpec) -> Option<&Sasl> {
    spec.source.kafka.security.as_ref()?.sasl.as_ref()
}

/// The given credentials, with their paths.
fn credentials(spec: &WsClusterSpec) -> impl Iterator<Item = (&'static str, &Credential)> {
    spec.source.kafka.security.iter().flat_map(Security::credentials)
}

/// A rule that holds unless `wrong` returns a description of the mistake.
fn rule(
    place: &'static str,
    cel: &'static str,
    message: &'static str,
    wrong: impl Fn(&WsClusterSpec) -> Option<&'static str> + Send + Sync + 'static,
) -> Rule {
    Rule::new(place, cel, message, move |spec, found| {
        found.extend(wrong(spec).map(|given| Violation::new(place, given, message)));
    })
}

pub(super) fn rules() -> impl Iterator<Item = Rule> {
    let origin = "exactly one of secretRef, file and env must be given";
    let mut credential = Rule::new(
        CREDENTIALS[0],
        "[has(self.secretRef), has(self.file), has(self.env)].filter(given, given).size() == 1",
        origin,
        move |spec, found| {
            let wrong = credentials(spec).filter(|(_, c)| c.origin().is_none());
            found.extend(wrong.map(|(path, c)| {
                let none = *c == Credential::default();
                Violation::new(path, if none { "none" } else { "more than one" }, origin)
            }));
        },
    );
    credential.places = CREDENTIALS.to_vec();
    [
        credential,
        rule(
            SECURITY,
            "has(self.tls) || has(self.sasl)",
            "give tls (tls: {} trusts the certificate authorities of the system), sasl, or both",
            |spec| {
                let empty = spec.source.kafka.security.as_ref().is_some_and(|s| s.tls.is_none() && s.sasl.is_none());
                empty.then_some("security without tls and sasl")
            },
        ),
        rule(
            "spec.source.kafka.security.tls",
            "has(self.certificate) == has(self.key)",
            "certificate and key must be given together",
            |spec| match tls(spec).map(|t| (t.certificate.is_some(), t.key.is_some()))? {
                (true, false) => Some("certificate without key"),
                (false, true) => Some("key without certificate"),
                _ => None,
            },
        ),
        rule(
            "spec.source.kafka.security.tls",
            "!has(self.keyPassword) || has(self.key)",
            "keyPassword requires key",
            |spec| {
                tls(spec)
                    .and_then(|t| (t.key_password.is_some() && t.key.is_none()).then_some("keyPassword without key"))
            },
        ),
        rule(
            "spec.source.kafka.security.sasl",
            "self.mechanism == 'OAUTHBEARER' || (has(self.username) != has(self.usernameFrom) && has(self.password))",
            "PLAIN and SCRAM require password and exactly one of username and usernameFrom",
            |spec| {
                let sasl = sasl(spec).filter(|s| s.mechanism != SaslMechanism::OAuthBearer)?;
                match (sasl.username.is_some(), sasl.username_from.is_some(), sasl.password.is_some()) {
                    (true, true, _) => Some("both username and usernameFrom"),
                    (false, false, _) => Some("a mechanism without a user name"),
                    (_, _, false) => Some("a mechanism without a password"),
                    _ => None,
                }
            },
        ),
        rule(
            "spec.source.kafka.security.sasl",
            "self.mechanism != 'OAUTHBEARER' || !(has(self.username) || has(self.usernameFrom) || has(self.password))",
            "OAUTHBEARER permits neither username nor usernameFrom nor password: give only oauth",
            |spec| {
                let sasl = sasl(spec).filter(|s| s.mechanism == SaslMechanism::OAuthBearer)?;
                let named = sasl.username.is_some() || sasl.username_from.is_some();
                (named || sasl.password.is_some()).then_some("a user name or password")
            },
        ),
        rule(
            "spec.source.kafka.security.sasl",
            "(self.mechanism == 'OAUTHBEARER') == has(self.oauth)",
            "oauth must be given if mechanism is OAUTHBEARER, and only then",
            |spec| match sasl(spec).map(|s| (s.mechanism == SaslMechanism::OAuthBearer, s.oauth.is_some()))? {
                (true, false) => Some("OAUTHBEARER without oauth"),
                (false, true) => Some("oauth with another mechanism"),
                _ => None,
            },
        ),
        rule(
            "spec.source.kafka.security.sasl.oauth",
            "has(self.token) != has(self.client)",
            "exactly one of token and client must be given",
            |spec| match sasl(spec).and_then(|s| s.oauth.as_ref()).map(|o| (o.token.is_some(), o.client.is_some()))? {
                (true, true) => Some("both"),
                (false, false) => Some("neither"),
                _ => None,
            },
        ),
    ]
    .into_iter()
}
