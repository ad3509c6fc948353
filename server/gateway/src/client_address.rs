//! Determines the address of a client: for `X-Forwarded-For`, and for whatever depends on it later.

use std::net::{IpAddr, SocketAddr};

use wscluster_ws::upgrade::UpgradeRequest;

/// The address of the client that sent `request` over a connection from `peer`: that of the peer. Rules for proxies
/// that are trusted to name another address belong here.
pub(crate) fn client_address(peer: SocketAddr, _request: &UpgradeRequest<'_>) -> IpAddr {
    peer.ip()
}
