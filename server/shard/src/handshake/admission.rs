//! Admission: who the client is, and whether it may connect.
//!
//! Every client is admitted at once today. Checks of identity belong in [`admit`]: it may wait, within the time limit
//! of the handshake, and it may refuse with [`Refusal::Unauthorized`] or [`Refusal::Forbidden`]. It runs before a
//! slot is taken, so that a client that is refused, or whose check is slow, holds none.

use std::net::IpAddr;

use wscluster_ws::upgrade::{Refusal, UpgradeRequest};

/// The identity of a client, kept with its connection. Empty until clients are authenticated.
#[derive(Clone, Debug, Default)]
pub(crate) struct Principal {}

/// Identifies the client that sent `request` from `client`.
#[expect(clippy::unused_async, reason = "checks of identity will wait for keys and for other services")]
pub(super) async fn admit(_request: &UpgradeRequest<'_>, _client: IpAddr) -> Result<Principal, Refusal> {
    Ok(Principal::default())
}
