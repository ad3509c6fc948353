//! What a caller of `/drain` and `/evict` must show.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use axum::http::{HeaderMap, header};

use crate::drain::RefusalCode;
use crate::token::{Token, TokenError};

/// What calls that change something must show.
#[derive(Clone, Debug)]
pub(super) enum Credential {
    /// This secret.
    Token(Token),
    /// Nothing, on the machine of the process.
    ThisMachine,
    /// Nothing: network policies decide who reaches a pod.
    Anywhere,
}

impl Credential {
    /// The token in `token_file`; without one, what is usual where this process runs.
    pub(super) fn new(token_file: Option<&Path>) -> Result<Self, TokenError> {
        Ok(match token_file {
            Some(path) => Self::Token(Token::read(path)?),
            // The kubelet sets it in every container.
            None if std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() => Self::Anywhere,
            None => Self::ThisMachine,
        })
    }

    /// Why a call of `peer` with these fields is refused, if it is.
    pub(super) fn refusal(&self, peer: SocketAddr, headers: &HeaderMap) -> Option<RefusalCode> {
        match self {
            Self::Token(token) => {
                let is_good = bearer(headers).is_some_and(|presented| token.is(presented));
                (!is_good).then_some(RefusalCode::NoCredential)
            }
            Self::ThisMachine => (!is_this_machine(peer.ip())).then_some(RefusalCode::OtherMachine),
            Self::Anywhere => None,
        }
    }
}

/// The secret of `Authorization: Bearer TOKEN`.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.as_bytes().split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(token)
}

fn is_this_machine(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn accepts_only_the_token_itself() {
        let token = Token::random();
        let peer = "127.0.0.1:1".parse().unwrap();
        let refusal = |value: Option<String>| {
            let value = value.map(|value| (header::AUTHORIZATION, HeaderValue::from_str(&value).unwrap()));
            Credential::Token(token.clone()).refusal(peer, &value.into_iter().collect())
        };
        let secret = token.reveal();
        for good in [format!("Bearer {secret}"), format!("bearer {secret}")] {
            assert_eq!(refusal(Some(good)), None);
        }
        for bad in [
            "Bearer ".to_owned(),
            secret.to_owned(),
            format!("Bearer {secret}0"),
            format!("Basic {secret}"),
            "é".into(),
        ] {
            assert_eq!(refusal(Some(bad.clone())), Some(RefusalCode::NoCredential), "{bad}");
        }
        assert_eq!(refusal(None), Some(RefusalCode::NoCredential));
    }

    #[test]
    fn without_a_token_only_this_machine_may_call() {
        let refusal = |peer: &str| Credential::ThisMachine.refusal(peer.parse().unwrap(), &HeaderMap::new());
        for own in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert_eq!(refusal(own), None, "{own}");
        }
        for other in ["10.0.0.1:1", "[2001:db8::1]:1", "[::ffff:10.0.0.1]:1"] {
            assert_eq!(refusal(other), Some(RefusalCode::OtherMachine), "{other}");
        }
    }
}
