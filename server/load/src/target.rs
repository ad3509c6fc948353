//! A server under test: an endpoint and its address, resolved once before the run.

use std::net::{SocketAddr, ToSocketAddrs as _};

use serde::{Deserialize, Serialize};
use wscluster_client::{Endpoint, EndpointError};

/// A resolved endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LoadTarget {
    /// Address to connect to.
    pub(super) addr: SocketAddr,
    /// `Host` header and path.
    pub(super) endpoint: Endpoint,
}

/// A target that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum TargetError {
    /// Not a URL or address of a WebSocket server.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// The name does not resolve.
    #[error("failed to resolve {host}: {source}")]
    Resolve {
        /// Host and port.
        host: String,
        /// Why.
        source: std::io::Error,
    },
}

impl LoadTarget {
    /// The target of a URL; without a path it is `/ws`.
    pub(super) fn of_url(url: &str) -> Result<Self, TargetError> {
        Self::resolve(Endpoint::of_url(url)?)
    }

    /// A shard, `HOST:PORT`.
    pub(super) fn of_shard(addr: &str) -> Result<Self, TargetError> {
        Self::resolve(Endpoint::of_authority(addr)?)
    }

    fn resolve(endpoint: Endpoint) -> Result<Self, TargetError> {
        let host = endpoint.address();
        let resolve = |source| TargetError::Resolve { host: host.clone(), source };
        let addr = host.to_socket_addrs().map_err(resolve)?.next();
        let addr = addr.ok_or_else(|| resolve(std::io::Error::other("no address")))?;
        Ok(Self { addr, endpoint })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolves_urls_and_shards() {
        let target = LoadTarget::of_url("ws://127.0.0.1:8080/ws?token=x").unwrap();
        assert_eq!(target.addr, "127.0.0.1:8080".parse().unwrap());
        assert_eq!(target.endpoint.path, "/ws?token=x");
        assert_eq!(LoadTarget::of_url("ws://[::1]:9/x").unwrap().addr, "[::1]:9".parse().unwrap());
        assert_eq!(LoadTarget::of_url("ws://127.0.0.1").unwrap().addr.port(), 80);
        assert_eq!(LoadTarget::of_url("ws://[::1]").unwrap().addr.port(), 80);
        assert_eq!(LoadTarget::of_shard("127.0.0.1:4001").unwrap().endpoint.path, "/ws");
    }
}
