//! Decides who may connect: a step between the head of a request and the choice of a shard.
//!
//! Today it checks only the `Origin` of browsers. Checks of identity, such as one of a token, belong here too:
//! [`Credentials::read`] takes what they need from the request, [`admit`] decides. It may wait, and may refuse with
//! [`Refusal::Unauthorized`] or [`Refusal::Forbidden`]. The record of the handshake carries the principal. The shard
//! decides again (`server/shard/src/handshake/admission.rs`), because clients may reach it directly.

use std::net::IpAddr;

use wscluster_ws::upgrade::{Refusal, UpgradeRequest};

use super::settings::Settings;

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

/// What [`admit`] needs of a request, whose own bytes are overwritten by then. Nothing yet.
#[derive(Debug)]
pub(crate) struct Credentials {}

impl Credentials {
    /// Reads the credentials of the client at `_client`, and refuses a request that needs no further check.
    pub(crate) fn read(settings: &Settings, request: &UpgradeRequest<'_>, _client: IpAddr) -> Result<Self, Refusal> {
        request.check_origin(&settings.allowed_origins)?;
        Ok(Self {})
    }
}

/// Identifies the client with these credentials, or refuses it.
#[expect(clippy::unused_async, reason = "checks of identity will wait for keys and for other services")]
pub(crate) async fn admit(_settings: &Settings, _credentials: &Credentials) -> Result<Principal, Refusal> {
    Ok(Principal::default())
}
