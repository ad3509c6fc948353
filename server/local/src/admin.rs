//! The admin server of a run: `/health` and `/metrics` for the run as a whole, and the page for browsers.

use std::net::SocketAddr;
use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use wscluster_admin::health::Status;
use wscluster_admin::{self, Access, AdminError, AdminHosts, AdminPart};

use super::page::PageLink;
use super::state::{SharedState, with};

/// Restarts by child. A child that is removed loses its series.
pub(crate) type Restarts = Family<[(&'static str, String); 1], Counter>;

struct Run(SharedState);

impl AdminPart for Run {
    fn health(&self) -> serde_json::Value {
        let health = with(&self.0, |state| state.health());
        serde_json::to_value(health).expect("it has text keys and numbers only")
    }

    fn ready(&self) -> Result<(), String> {
        with(&self.0, |state| match state.status() {
            Status::Unhealthy => Err(state.reasons().join("\n")),
            Status::Healthy | Status::Degraded => Ok(()),
        })
    }
}

/// Starts the server on `addr`. Returns its address and the counters of restarts.
pub(crate) fn start(
    addr: SocketAddr,
    state: SharedState,
    page: PageLink,
    hosts: AdminHosts,
) -> Result<(SocketAddr, Restarts), AdminError> {
    let access = Access { hosts, token_file: None };
    let restarts = Restarts::default();
    let mut registry = Registry::default();
    registry.register("wscluster_local_restarts", "Restarts of a child process", restarts.clone());
    Ok((wscluster_admin::start(addr, Arc::new(Run(state)), Arc::new(registry), page.routes(), &access)?, restarts))
}
