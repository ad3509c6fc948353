//! Rules of TLS and SASL: which credentials go together. No message repeats what a credential holds.

use super::Rule;
use crate::WsClusterSpec;
use crate::spec::{CREDENTIALS, Credential, Sasl, SaslMechanism, Security, Tls};
use crate::validate::Violation;

const SECURITY: &str = "spec.source.kafka.security";

fn tls(spec: &WsClusterSpec) -> Option<&Tls> {
    spec.source.kafka.security.as_ref()?.tls.as_ref()
}

fn sasl(spec: &WsClusterSpec) -> Option<&Sasl> {
    spec.source.kafka.security.as_ref()?.sasl.as_ref()
}

/// The credentials that are given, each with its path.
fn credentials(spec: &WsClusterSpec) -> impl Iterator<Item = (&'static str, &Credential)> {
    spec.source.kafka.security.iter().flat_map(Security::credentials)
}

/// A rule that holds unless `wrong` says what is given instead.
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
                Violation::new(path, if none { "none of them" } else { "more than one of them" }, origin)
            }));
        },
    );
    credential.places = CREDENTIALS.to_vec();
    [
        credential,
        rule(
            SECURITY,
            "has(self.tls) || has(self.sasl)",
            "give tls (tls: {} trusts public authorities), sasl, or both",
            |spec| {
                let empty = spec.source.kafka.security.as_ref().is_some_and(|s| s.tls.is_none() && s.sasl.is_none());
                empty.then_some("security without tls and sasl")
            },
        ),
        rule(
            "spec.source.kafka.security.tls",
            "has(self.certificate) == has(self.key)",
            "certificate and key must be given together: they are the two halves of a client certificate",
            |spec| match tls(spec).map(|t| (t.certificate.is_some(), t.key.is_some()))? {
                (true, false) => Some("certificate without key"),
                (false, true) => Some("key without certificate"),
                _ => None,
            },
        ),
        rule(
            "spec.source.kafka.security.tls",
            "!has(self.keyPassword) || has(self.key)",
            "keyPassword needs key, which it decrypts",
            |spec| {
                tls(spec)
                    .and_then(|t| (t.key_password.is_some() && t.key.is_none()).then_some("keyPassword without key"))
            },
        ),
        rule(
            "spec.source.kafka.security.sasl",
            "self.mechanism == 'OAUTHBEARER' || (has(self.username) != has(self.usernameFrom) && has(self.password))",
            "PLAIN and SCRAM need password and exactly one of username and usernameFrom",
            |spec| {
                let sasl = sasl(spec).filter(|s| s.mechanism != SaslMechanism::OAuthBearer)?;
                match (sasl.username.is_some(), sasl.username_from.is_some(), sasl.password.is_some()) {
                    (true, true, _) => Some("both username and usernameFrom"),
                    (false, false, _) => Some("a login without a user name"),
                    (_, _, false) => Some("a login without a password"),
                    _ => None,
                }
            },
        ),
        rule(
            "spec.source.kafka.security.sasl",
            "self.mechanism != 'OAUTHBEARER' || !(has(self.username) || has(self.usernameFrom) || has(self.password))",
            "OAUTHBEARER takes neither user name nor password: give oauth alone",
            |spec| {
                let sasl = sasl(spec).filter(|s| s.mechanism == SaslMechanism::OAuthBearer)?;
                let named = sasl.username.is_some() || sasl.username_from.is_some();
                (named || sasl.password.is_some()).then_some("a user name or password")
            },
        ),
        rule(
            "spec.source.kafka.security.sasl",
            "(self.mechanism == 'OAUTHBEARER') == has(self.oauth)",
            "oauth must be given with OAUTHBEARER, and with nothing else",
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
                (true, true) => Some("both of them"),
                (false, false) => Some("none of them"),
                _ => None,
            },
        ),
    ]
    .into_iter()
}
