//! Admission: who the client is, and whether it may connect.
//!
//! Today it checks only the `Origin` of browsers. Checks of identity belong in [`admit`] too: it may wait, within the
//! time limit of the handshake, and it may refuse with [`Refusal::Unauthorized`] or [`Refusal::Forbidden`]. It runs
//! before a slot is taken, so that a client that is refused, or whose check is slow, holds none. The gateway decides
//! first (`server/gateway/src/admission.rs`).

use std::net::IpAddr;

use wscluster_ws::upgrade::{Refusal, UpgradeRequest};

use crate::settings::Settings;

/// The identity of a client, kept with its connection. Empty until clients are authenticated.
#[derive(Clone, Debug, Default)]
pub(crate) struct Principal {}

/// Identifies the client that sent `request` from the address `_client`, or refuses it.
#[expect(clippy::unused_async, reason = "checks of identity will wait for keys and for other services")]
pub(super) async fn admit(
    settings: &Settings,
    request: &UpgradeRequest<'_>,
    _client: IpAddr,
) -> Result<Principal, Refusal> {
    request.check_origin(&settings.allowed_origins)?;
    Ok(Principal::default())
}
