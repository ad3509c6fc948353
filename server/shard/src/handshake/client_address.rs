//! The address of a client: the only place that determines it.

use std::net::{IpAddr, SocketAddr};

use wscluster_ws::upgrade::UpgradeRequest;

/// The address of the client that sent `request` over a connection from `peer`.
///
/// This is the address of the connection, which behind a gateway is the gateway's. The last value of
/// `X-Forwarded-For` comes from the gateway, but a client that connects directly can send any value, so using it
/// needs a list of trusted peers.
pub(super) fn client_address(peer: SocketAddr, _request: &UpgradeRequest<'_>) -> IpAddr {
    peer.ip().to_canonical()
}
