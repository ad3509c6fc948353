//! The admin HTTP server of a process: `/livez`, `/readyz`, `/health`, `/metrics`, and the routes that the process
//! adds.
//!
//! It runs on its own thread and runtime, so load on the data path never delays a health answer. Idle and half-sent
//! requests time out and make room for others, so they exhaust neither file descriptors nor places. If the thread
//! ends, probes fail, and the supervisor restarts the process.

mod connections;

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse as _;
use axum::routing::get;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;

use self::connections::Connections;
use crate::metrics;

/// What a process reports about itself.
pub trait AdminPart: Send + Sync + 'static {
    /// The JSON of `GET /health`.
    fn health(&self) -> serde_json::Value;
    /// A gateway of this name polled the health, because it routes clients here.
    fn asked_by(&self, _gateway: &str) {}
    /// `Err` with the reason while the process should get no new traffic.
    fn ready(&self) -> Result<(), String>;
}

/// Header field of a gateway's `GET /health`: its incarnation.
pub const GATEWAY_HEADER: &str = "wscluster-gateway";

/// Why the admin server cannot run.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The port cannot be used.
    #[error(transparent)]
    Listen(#[from] wscluster_runtime::sockets::ListenError),
    /// The runtime or the thread did not start.
    #[error("failed to start the admin server: {0}")]
    Start(#[from] std::io::Error),
}

/// Limits on the clients of the admin port.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Connections at a time; for a further one, another makes room.
    connections: usize,
    /// Time for the head of a request, and between two requests on a connection.
    head: Duration,
    /// Time for the body of a request and for computing its answer.
    answer: Duration,
}

/// Above what the gateways, operators, probes and scrapers of a cluster need.
const LIMITS: Limits = Limits { connections: 256, head: Duration::from_secs(10), answer: Duration::from_secs(10) };

/// Pause after a failed accept: its cause, a shortage of descriptors, does not pass at once.
const REST: Duration = Duration::from_millis(100);

/// Serves `part`, `registry` and the routes in `more` on `addr`; returns the bound address.
pub fn start(
    addr: SocketAddr,
    part: Arc<dyn AdminPart>,
    registry: Arc<Registry>,
    more: Router,
) -> Result<SocketAddr, AdminError> {
    let listener = wscluster_runtime::sockets::listen(addr, wscluster_runtime::sockets::Share::Exclusive)?;
    let bound = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let router = routes(part, registry).merge(more);
    thread::Builder::new().name("admin".into()).spawn(move || {
        let served: std::io::Result<()> = runtime.block_on(async {
            serve(TcpListener::from_std(listener)?, router).await;
            Ok(())
        });
        if let Err(error) = served {
            tracing::error!(%error, "admin server ended");
        }
    })?;
    Ok(bound)
}

/// Serves `router` without end.
pub async fn serve(listener: TcpListener, router: Router) {
    serve_within(&listener, &router, LIMITS).await;
}

async fn serve_within(listener: &TcpListener, router: &Router, limits: Limits) {
    let connections = Connections::new(limits.connections);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.head);
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "accept");
                // Its descriptor may be the one that was lacking.
                connections.make_room();
                tokio::time::sleep(REST).await;
                continue;
            }
        };
        let place = Arc::new(connections.place());
        let router = TowerToHyperService::new(router.clone());
        let service = {
            let place = Arc::clone(&place);
            service_fn(move |request| {
                place.progress();
                let (answer, place) = (router.call(request), Arc::clone(&place));
                async move {
                    let late = |_| Ok(StatusCode::REQUEST_TIMEOUT.into_response());
                    let answer = tokio::time::timeout(limits.answer, answer).await.unwrap_or_else(late);
                    place.progress();
                    answer
                }
            })
        };
        let connection = http.serve_connection(TokioIo::new(stream), service);
        tokio::spawn(async move {
            tokio::select! {
                // An error ends only this connection.
                _ = connection => {}
                () = place.taken() => {}
            }
        });
        // During a flood of connections, heads that have arrived count before the next connection asks for room.
        tokio::task::yield_now().await;
    }
}

fn routes(part: Arc<dyn AdminPart>, registry: Arc<Registry>) -> Router {
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
        .route(
            "/health",
            get(move |headers: HeaderMap| async move {
                if let Some(gateway) = headers.get(GATEWAY_HEADER).and_then(|name| name.to_str().ok()) {
                    part.asked_by(gateway);
                }
                axum::Json(part.health())
            }),
        )
        .route("/metrics", get(move |headers: HeaderMap| async move { metrics::respond(&headers, &registry) }))
}

#[cfg(test)]
mod tests;
