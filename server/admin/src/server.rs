//! The admin HTTP server of a process: `/livez`, `/readyz`, `/health`, `/metrics`, and the routes that the process
//! adds.
//!
//! It runs on its own thread and runtime, so load on the data path never delays a health answer. Idle and half-sent
//! requests time out and make room for others, so they exhaust neither file descriptors nor places. If the thread
//! ends, probes fail, and the supervisor restarts the process.

mod credential;
mod guard;

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use wscluster_runtime::log_limit::LogLimit;
use wscluster_runtime::places::Places;

use self::guard::Guard;
use crate::access::Access;
use crate::drain::RefusalCode;
use crate::metrics;
use crate::token::TokenError;

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
    /// The token cannot be read.
    #[error(transparent)]
    Token(#[from] TokenError),
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

/// Refused calls that are logged.
static REFUSALS: LogLimit = LogLimit::new(10, Duration::from_secs(1));

/// Serves `part`, `registry` and the routes in `more` on `addr`; returns the bound address.
pub fn start(
    addr: SocketAddr,
    part: Arc<dyn AdminPart>,
    registry: Arc<Registry>,
    more: Router,
    access: &Access,
) -> Result<SocketAddr, AdminError> {
    let guard = Guard::new(access)?;
    let listener = wscluster_runtime::sockets::listen(addr, wscluster_runtime::sockets::Share::Exclusive)?;
    let bound = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let router = routes(part, registry).merge(more);
    thread::Builder::new().name("admin".into()).spawn(move || {
        let served: std::io::Result<()> = runtime.block_on(async {
            serve_within(&TcpListener::from_std(listener)?, &router, guard, LIMITS).await;
            Ok(())
        });
        if let Err(error) = served {
            tracing::error!(%error, "admin server ended");
        }
    })?;
    Ok(bound)
}

/// Serves probes and metrics in `router` without end.
pub async fn serve(listener: TcpListener, router: Router) -> Result<(), TokenError> {
    serve_within(&listener, &router, Guard::new(&Access::default())?, LIMITS).await;
    Ok(())
}

async fn serve_within(listener: &TcpListener, router: &Router, guard: Guard, limits: Limits) {
    let guard = Arc::new(guard);
    let places = Places::new(limits.connections);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.head);
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!(%error, "accept");
                // Its descriptor may be the one that was lacking.
                places.make_room();
                tokio::time::sleep(REST).await;
                continue;
            }
        };
        let Some(place) = places.take().map(Arc::new) else { continue };
        let router = TowerToHyperService::new(router.clone());
        let service = {
            let (guard, place) = (Arc::clone(&guard), Arc::clone(&place));
            service_fn(move |request: Request<Incoming>| {
                place.progress();
                let call = Call::of(&request, peer);
                let answer = match guard.refusal(&request, peer) {
                    Some(code) => Err(code),
                    None => Ok(router.call(request)),
                };
                let place = Arc::clone(&place);
                async move {
                    let (mut response, refusal) = match answer {
                        Err(code) => (guard::answer(code), Some(code)),
                        Ok(answer) => match tokio::time::timeout(limits.answer, answer).await {
                            Ok(Ok(response)) => (response, None),
                            Ok(Err(never)) => match never {},
                            Err(_) => (StatusCode::REQUEST_TIMEOUT.into_response(), None),
                        },
                    };
                    guard::harden(response.headers_mut());
                    if let Some(call) = call {
                        call.log(&response, refusal);
                    }
                    place.progress();
                    Ok::<_, std::convert::Infallible>(response)
                }
            })
        };
        let connection = http.serve_connection(TokioIo::new(stream), service);
        tokio::spawn(async move {
            tokio::select! {
                // An error ends only this connection.
                _ = connection => {}
                () = place.lost() => {}
            }
        });
        // During a flood of connections, heads that have arrived count before the next connection asks for room.
        tokio::task::yield_now().await;
    }
}

/// A call that may change something.
struct Call {
    peer: SocketAddr,
    method: Method,
    path: String,
}

impl Call {
    fn of(request: &Request<Incoming>, peer: SocketAddr) -> Option<Self> {
        let method = request.method();
        let path = || request.uri().path().chars().take(100).collect();
        (!guard::is_safe(method)).then(|| Self { peer, method: method.clone(), path: path() })
    }

    fn log(&self, response: &Response, refusal: Option<RefusalCode>) {
        let Self { peer, method, path } = self;
        let status = response.status().as_u16();
        if response.status().is_success() {
            tracing::info!(%peer, %method, path, status, "admin call accepted");
        } else if let Some(suppressed) = REFUSALS.admit() {
            tracing::warn!(%peer, %method, path, status, ?refusal, suppressed, "admin call refused");
        }
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
