//! The admin server of a run: `/health` and `/metrics` for the run as a whole, and a page that shows messages in a
//! browser.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::Query;
use axum::response::{Html, IntoResponse as _, Redirect};
use axum::routing::get;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use wscluster_admin::health::Status;
use wscluster_admin::{self, Access, AdminError, AdminPart};

use super::state::{SharedState, with};

/// A page without further files, the same as in the docs.
const PAGE: &str = include_str!("../../../docs/demo.html");

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
    page: &PageLink,
    access: Access,
) -> Result<(SocketAddr, Restarts), AdminError> {
    let restarts = Restarts::default();
    let mut registry = Registry::default();
    registry.register("wscluster_local_restarts", "Restarts of a child process", restarts.clone());
    let target = page.path();
    let home = async move |Query(query): Query<Vec<(String, String)>>| {
        if query.iter().any(|(name, _)| name == "ws") {
            Html(PAGE).into_response()
        } else {
            Redirect::temporary(&target).into_response()
        }
    };
    let more = Router::new().route("/", get(home));
    Ok((wscluster_admin::start(addr, Arc::new(Run(state)), Arc::new(registry), more, access)?, restarts))
}

/// The query string to which a request for the page without one is redirected.
#[derive(Clone, Debug)]
pub(crate) struct PageLink {
    /// The WebSocket URL to connect to.
    pub(crate) ws: String,
    /// The channels to subscribe to.
    pub(crate) channels: Vec<String>,
}

impl PageLink {
    fn path(&self) -> String {
        format!("/?ws={}&channels={}", escape(&self.ws), escape(&self.channels.join(",")))
    }
}

/// Everything except unreserved characters (RFC 3986 §2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// `text` for a query.
fn escape(text: &str) -> PercentEncode<'_> {
    utf8_percent_encode(text, RESERVED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_survives_any_channel_name() {
        let page = PageLink { ws: "ws://127.0.0.1:1/ws".into(), channels: vec!["a&b=c".into(), "d é".into()] };
        assert_eq!(page.path(), "/?ws=ws%3A%2F%2F127.0.0.1%3A1%2Fws&channels=a%26b%3Dc%2Cd%20%C3%A9");
    }
}
