//! The admin HTTP server of a process: `/livez`, `/readyz`, `/health`, `/metrics`, and the routes that the process
//! adds.
//!
//! It runs on its own thread and runtime, so load on the data path never delays a health answer. Idle and half-sent
//! requests time out, so they cannot exhaust file descriptors. If the thread ends, probes fail, and the supervisor
//! restarts the process.

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
use tokio::sync::Semaphore;

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
    /// Connections at a time; further ones wait in the kernel's backlog.
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
            serve(&TcpListener::from_std(listener)?, &router, LIMITS).await;
            Ok(())
        });
        if let Err(error) = served {
            tracing::error!(%error, "admin server ended");
        }
    })?;
    Ok(bound)
}

/// Serves without end.
async fn serve(listener: &TcpListener, router: &Router, limits: Limits) {
    let room = Arc::new(Semaphore::new(limits.connections));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.head);
    // The semaphore is never closed.
    while let Ok(permit) = Arc::clone(&room).acquire_owned().await {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "accept");
                tokio::time::sleep(REST).await;
                continue;
            }
        };
        let router = TowerToHyperService::new(router.clone());
        let service = service_fn(move |request| {
            let answer = router.call(request);
            async move {
                let late = |_| Ok(StatusCode::REQUEST_TIMEOUT.into_response());
                tokio::time::timeout(limits.answer, answer).await.unwrap_or_else(late)
            }
        });
        let connection = http.serve_connection(TokioIo::new(stream), service);
        tokio::spawn(async move {
            // An error ends only this connection.
            let _ = connection.await;
            drop(permit);
        });
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
mod tests {
    use axum::body::Bytes;
    use axum::routing::post;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;

    async fn start(limits: Limits) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let router = Router::new().route("/", get(async || "ok")).route("/", post(async |_: Bytes| "ok"));
        tokio::spawn(async move { serve(&listener, &router, limits).await });
        addr
    }

    /// Sends `what`, and reads the answer to its end.
    async fn exchange(addr: SocketAddr, what: &str) -> String {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(what.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await;
        ended.expect("the server holds the connection").unwrap();
        String::from_utf8(answer).unwrap()
    }

    #[tokio::test]
    async fn closes_idle_connections_and_half_sent_requests() {
        let limits = Limits { head: Duration::from_millis(50), answer: Duration::from_millis(50), ..LIMITS };
        let addr = start(limits).await;
        for half in ["", "GET / HTTP/1.1\r\nHost: a\r\n"] {
            assert!(!exchange(addr, half).await.contains("200 OK"), "{half:?}");
        }
        let half = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab";
        assert!(exchange(addr, half).await.starts_with("HTTP/1.1 408 "));
        // After an answer the connection is idle, and closed too.
        assert!(exchange(addr, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.starts_with("HTTP/1.1 200 "));
    }

    #[tokio::test]
    async fn serves_a_limited_number_of_connections_and_then_the_next() {
        let addr = start(Limits { connections: 1, head: Duration::from_millis(50), ..LIMITS }).await;
        let _silent = TcpStream::connect(addr).await.unwrap();
        let answer = exchange(addr, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
        assert!(answer.ends_with("\r\n\r\nok"), "{answer}");
    }
}
