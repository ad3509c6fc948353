//! Where clients connect: a `ws://` URL or shards named directly, resolved once before the run.

use std::net::{SocketAddr, ToSocketAddrs as _};

use serde::{Deserialize, Serialize};

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Target {
    /// Address to connect to.
    pub(super) addr: SocketAddr,
    /// Value of the `Host` header.
    pub(super) host: String,
    /// Request target, e.g. `/ws`.
    pub(super) path: String,
}

/// Why a target cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum TargetError {
    /// Another scheme.
    #[error("{0:?} is not a ws:// URL; write e.g. ws://127.0.0.1:8080/ws (TLS, wss://, ends before the gateway)")]
    Scheme(String),
    /// No host or port in it.
    #[error("{0:?} has no host and port; write e.g. 127.0.0.1:8080")]
    Authority(String),
    /// The name does not resolve.
    #[error("failed to resolve {host}: {source}")]
    Resolve {
        /// Host and port.
        host: String,
        /// Why.
        source: std::io::Error,
    },
}

impl Target {
    /// The endpoint of a URL; without a path it is `/ws`.
    pub(super) fn of_url(url: &str) -> Result<Self, TargetError> {
        let rest = url.strip_prefix("ws://").ok_or_else(|| TargetError::Scheme(url.to_owned()))?;
        let (authority, path) = rest.find(['/', '?']).map_or((rest, ""), |at| rest.split_at(at));
        let path = match path {
            "" => "/ws".to_owned(),
            query if query.starts_with('?') => format!("/{query}"),
            path => path.to_owned(),
        };
        if path.bytes().any(|b| b <= b' ' || b == b'#' || b >= 0x7f) {
            return Err(TargetError::Authority(url.to_owned()));
        }
        Self::new(authority, path)
    }

    /// The endpoint of a shard.
    pub(super) fn of_shard(addr: &str) -> Result<Self, TargetError> {
        Self::new(addr, "/ws".to_owned())
    }

    fn new(authority: &str, path: String) -> Result<Self, TargetError> {
        if authority.is_empty() || authority.starts_with(':') || authority.contains(['@', ' ', '\r', '\n']) {
            return Err(TargetError::Authority(authority.to_owned()));
        }
        let with_port = match authority.rsplit_once(':') {
            Some((_, port)) if port.parse::<u16>().is_ok() => authority.to_owned(),
            Some((host, _)) if !host.ends_with(']') && !authority.ends_with(']') => {
                return Err(TargetError::Authority(authority.to_owned()));
            }
            _ => format!("{authority}:80"),
        };
        let resolve = |source| TargetError::Resolve { host: with_port.clone(), source };
        let addr = with_port.to_socket_addrs().map_err(resolve)?.next();
        let addr = addr.ok_or_else(|| resolve(std::io::Error::other("no address")))?;
        Ok(Self { addr, host: authority.to_owned(), path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_urls() {
        let target = Target::of_url("ws://127.0.0.1:8080/ws?token=x").unwrap();
        assert_eq!(target.addr, "127.0.0.1:8080".parse().unwrap());
        assert_eq!((target.host.as_str(), target.path.as_str()), ("127.0.0.1:8080", "/ws?token=x"));
        assert_eq!(Target::of_url("ws://127.0.0.1:8080").unwrap().path, "/ws");
        assert_eq!(Target::of_url("ws://127.0.0.1:8080/").unwrap().path, "/");
        assert_eq!(Target::of_url("ws://[::1]:9/x").unwrap().addr, "[::1]:9".parse().unwrap());
        assert_eq!(Target::of_url("ws://127.0.0.1").unwrap().addr.port(), 80);
        assert_eq!(Target::of_url("ws://[::1]").unwrap().addr.port(), 80);
    }

    #[test]
    fn refuses_what_is_no_target_and_says_what_is() {
        for bad in ["http://x/", "wss://x/ws", "127.0.0.1:80"] {
            assert!(Target::of_url(bad).unwrap_err().to_string().contains("ws://127.0.0.1:8080/ws"), "{bad}");
        }
        for bad in ["ws://", "ws://:80/", "ws://127.0.0.1:99999/", "ws://a b/", "ws://127.0.0.1:80/a b"] {
            assert!(Target::of_url(bad).is_err(), "{bad}");
        }
    }
}
