//! The admin HTTP server of a part: `/livez`, `/readyz`, `/health`, `/metrics`, and what the part adds.
//!
//! It runs on a thread and a runtime of its own, so that load on the data path never starves a health answer.

pub mod client;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse as _;
use axum::routing::get;
use prometheus_client::registry::Registry;

/// What a part tells about itself.
pub trait Part: Send + Sync + 'static {
    /// The JSON of `GET /health`.
    fn health(&self) -> serde_json::Value;
    /// `Err` with the reason while the part should get no new traffic.
    fn ready(&self) -> Result<(), String>;
}

/// Why the admin server cannot run.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The port.
    #[error(transparent)]
    Listen(#[from] crate::net::ListenError),
    /// The runtime or thread.
    #[error("failed to start the admin server: {0}")]
    Start(#[from] std::io::Error),
}

/// Serves `part`, `registry` and the routes in `more` on `addr`; returns the address it got.
pub fn start(
    addr: SocketAddr,
    part: Arc<dyn Part>,
    registry: Arc<Registry>,
    more: Router,
) -> Result<SocketAddr, AdminError> {
    let listener: TcpListener = crate::net::listen(addr, crate::net::Share::Exclusive)?;
    let bound = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let router = routes(part, registry).merge(more);
    thread::Builder::new().name("admin".into()).spawn(move || {
        let served = runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            axum::serve(listener, router).await
        });
        if let Err(error) = served {
            tracing::error!(%error, "admin server ended");
        }
    })?;
    Ok(bound)
}

fn routes(part: Arc<dyn Part>, registry: Arc<Registry>) -> Router {
    let ready = Arc::clone(&part);
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route(
            "/readyz",
            get(move || async move {
                match ready.ready() {
                    Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
                    Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
                }
            }),
        )
        .route("/health", get(move || async move { axum::Json(part.health()) }))
        .route(
            "/metrics",
            get(move || async move {
                let mut text = String::new();
                match prometheus_client::encoding::text::encode(&mut text, &registry) {
                    Ok(()) => ([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response(),
                    Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
                }
            }),
        )
}

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
