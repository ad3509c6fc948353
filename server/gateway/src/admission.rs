//! Decides who may connect: a step between the head of a request and the choice of a shard.
//!
//! Today it admits every client at once. Checks of identity belong here: they may wait, and may refuse with a status
//! such as 401 or 403. The record of the handshake carries the principal.

use wscluster_ws::upgrade::Refusal;

use super::client::ClientRequest;

/// The identity of a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Principal {
    name: Option<String>,
}

impl Principal {
    /// Its name; `None` for an anonymous client.
    pub(crate) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }
}

/// Admits a client with this request, or refuses it.
#[expect(clippy::unused_async, reason = "checks of identity will wait")]
pub(crate) async fn admit(_request: &ClientRequest) -> Result<Principal, Refusal> {
    Ok(Principal::default())
}
