//! Where a client connects: `ws://HOST[:PORT][/PATH]`.

use serde::{Deserialize, Serialize};

/// Host, port and path of a WebSocket URL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Value of the `Host` header: host, and port as far as it was given.
    pub host: String,
    /// Request target, e.g. `/ws`.
    pub path: String,
}

/// A URL or address that a client cannot connect to.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// Another scheme.
    #[error(
        "{0:?} is not a ws:// URL; write e.g. ws://127.0.0.1:8080/ws (plain ws:// only: TLS ends before the gateway)"
    )]
    Scheme(String),
    /// No usable host, port or path.
    #[error("{0:?} has no usable host and port; write e.g. 127.0.0.1:8080")]
    Authority(String),
}

impl Endpoint {
    /// The endpoint of a URL; the path is `/ws` if the URL has none.
    pub fn of_url(url: &str) -> Result<Self, EndpointError> {
        let rest = url.strip_prefix("ws://").ok_or_else(|| EndpointError::Scheme(url.to_owned()))?;
        let (authority, path) = rest.find(['/', '?']).map_or((rest, ""), |at| rest.split_at(at));
        let path = match path {
            "" => "/ws".to_owned(),
            query if query.starts_with('?') => format!("/{query}"),
            path => path.to_owned(),
        };
        if path.bytes().any(|b| b <= b' ' || b == b'#' || b >= 0x7f) {
            return Err(EndpointError::Authority(url.to_owned()));
        }
        Self::new(authority, path)
    }

    /// Path `/ws` at `authority`, `HOST[:PORT]`.
    pub fn of_authority(authority: &str) -> Result<Self, EndpointError> {
        Self::new(authority, "/ws".to_owned())
    }

    fn new(authority: &str, path: String) -> Result<Self, EndpointError> {
        let bad = || EndpointError::Authority(authority.to_owned());
        if authority.is_empty() || authority.starts_with(':') || authority.contains(['@', ' ', '\r', '\n']) {
            return Err(bad());
        }
        match authority.rsplit_once(':') {
            Some((_, port)) if port.parse::<u16>().is_ok() => {}
            Some((host, _)) if !host.ends_with(']') && !authority.ends_with(']') => return Err(bad()),
            _ => {}
        }
        Ok(Self { host: authority.to_owned(), path })
    }

    /// `HOST:PORT` to connect to; the default port is 80.
    pub fn address(&self) -> String {
        match self.host.rsplit_once(':') {
            Some((_, port)) if port.parse::<u16>().is_ok() => self.host.clone(),
            _ => format!("{}:80", self.host),
        }
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ws://{}{}", self.host, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_urls() {
        let endpoint = Endpoint::of_url("ws://127.0.0.1:8080/ws?token=x").unwrap();
        assert_eq!(endpoint.address(), "127.0.0.1:8080");
        assert_eq!((endpoint.host.as_str(), endpoint.path.as_str()), ("127.0.0.1:8080", "/ws?token=x"));
        assert_eq!(endpoint.to_string(), "ws://127.0.0.1:8080/ws?token=x");
        assert_eq!(Endpoint::of_url("ws://127.0.0.1:8080").unwrap().path, "/ws");
        assert_eq!(Endpoint::of_url("ws://127.0.0.1:8080/").unwrap().path, "/");
        assert_eq!(Endpoint::of_url("ws://[::1]:9/x").unwrap().address(), "[::1]:9");
        assert_eq!(Endpoint::of_url("ws://127.0.0.1").unwrap().address(), "127.0.0.1:80");
        assert_eq!(Endpoint::of_url("ws://[::1]").unwrap().address(), "[::1]:80");
    }

    #[test]
    fn refuses_other_urls_and_shows_a_good_one() {
        for bad in ["http://x/", "wss://x/ws", "127.0.0.1:80"] {
            assert!(Endpoint::of_url(bad).unwrap_err().to_string().contains("ws://127.0.0.1:8080/ws"), "{bad}");
        }
        for bad in ["ws://", "ws://:80/", "ws://127.0.0.1:99999/", "ws://a b/", "ws://127.0.0.1:80/a b"] {
            assert!(Endpoint::of_url(bad).is_err(), "{bad}");
        }
    }
}
