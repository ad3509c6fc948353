//! Talks to the admin port of one shard: short requests with a time limit, one connection each.
//!
//! A shard that is silent costs its caller the limit and nothing more. [`Reach`] is what is asked of shards, however they are reached.

use std::fmt::Debug;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::json;
use wscluster_api::spec;

/// The admin port of every shard.
const ADMIN_PORT: u16 = 9090;

const WITHIN: Duration = Duration::from_secs(2);
const MAX_BODY_BYTES: usize = 64 << 10;

/// Why a shard did not answer as it should.
#[derive(Debug, thiserror::Error)]
#[error("failed to {method} http://{address}{path}: {reason}")]
pub struct ShardError {
    method: Method,
    address: SocketAddr,
    path: &'static str,
    reason: String,
}

#[cfg(test)]
impl ShardError {
    /// For a shard that is reached in another way.
    pub(crate) fn of(reason: &str) -> Self {
        Self { method: Method::GET, address: ([0, 0, 0, 0], 0).into(), path: "", reason: reason.to_owned() }
    }
}

/// What a shard may say of itself, always with a 200. An answer that says anything else comes from somebody else, or from a shard
/// that nobody here understands: it is none.
const STATES: [&str; 4] = ["starting", "ready", "full", "draining"];

/// What `GET /health` says, as far as the operator reads it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Answer {
    /// `starting`, `ready`, `full` or `draining`.
    pub state: String,
    /// Changes with every start of the process.
    pub incarnation: String,
    /// Live connections.
    pub connections: u32,
    /// Connections it may hold.
    pub capacity: u32,
    /// Gateways that send clients to it; absent in what older shards say.
    pub gateways: Option<u32>,
    /// What the process itself lacks.
    pub reason: Option<String>,
    /// Details.
    pub checks: Checks,
}

/// Details of [`Answer`].
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Checks {
    /// The source.
    pub kafka: Kafka,
}

/// The source as a shard sees it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Kafka {
    /// `connected`, `filling`, `disconnected` or `none`.
    pub status: String,
    /// The last error, until it is over.
    pub error: Option<String>,
}

/// A drain as a shard is asked for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Drain {
    /// Connections that it closes per second.
    pub rate: u32,
    /// After this long it closes the rest at once.
    pub deadline: Duration,
    /// When clients may come back.
    pub retry_after: spec::RetryAfter,
}

/// Connections that a shard is asked to let go while it takes others.
#[derive(Clone, Debug, PartialEq)]
pub struct Eviction {
    /// How many.
    pub count: u32,
    /// Of them, a second.
    pub rate: u32,
    /// When clients may come back.
    pub retry_after: spec::RetryAfter,
}

/// What is asked of shards.
pub trait Reach: Debug + Send + Sync {
    /// How are you?
    fn health(&self, shard: IpAddr) -> BoxFuture<'_, Result<Answer, ShardError>>;
    /// Move your connections away.
    fn drain(&self, shard: IpAddr, drain: Drain) -> BoxFuture<'_, Result<(), ShardError>>;
    /// Do not, after all.
    fn undrain(&self, shard: IpAddr) -> BoxFuture<'_, Result<(), ShardError>>;
    /// Let some of your connections go.
    fn evict(&self, shard: IpAddr, eviction: Eviction) -> BoxFuture<'_, Result<(), ShardError>>;
}

/// By HTTP, at the admin port of pods.
#[derive(Clone, Copy, Debug)]
pub struct Http {
    port: u16,
}

impl Default for Http {
    fn default() -> Self {
        Self { port: ADMIN_PORT }
    }
}

impl Reach for Http {
    fn health(&self, shard: IpAddr) -> BoxFuture<'_, Result<Answer, ShardError>> {
        let address = (shard, self.port).into();
        Box::pin(async move {
            let (status, body) = call(Method::GET, address, "/health", None).await?;
            let failed = |why: &str| ShardError {
                method: Method::GET,
                address,
                path: "/health",
                reason: format!("answered {status} with no health: {why}"),
            };
            let answer: Answer = serde_json::from_slice(&body).map_err(|error| failed(&error.to_string()))?;
            if !status.is_success() || !STATES.contains(&&*answer.state) {
                return Err(failed(&format!("the state is {:?}", answer.state)));
            }
            Ok(answer)
        })
    }

    fn drain(&self, shard: IpAddr, drain: Drain) -> BoxFuture<'_, Result<(), ShardError>> {
        let deadline = wscluster_api::units::Span(drain.deadline);
        let body = json!({ "evictRate": drain.rate, "deadline": deadline, "retryAfter": drain.retry_after });
        Box::pin(accepted(Method::POST, (shard, self.port).into(), "/drain", Some(body.to_string())))
    }

    fn undrain(&self, shard: IpAddr) -> BoxFuture<'_, Result<(), ShardError>> {
        Box::pin(accepted(Method::DELETE, (shard, self.port).into(), "/drain", None))
    }

    fn evict(&self, shard: IpAddr, eviction: Eviction) -> BoxFuture<'_, Result<(), ShardError>> {
        let Eviction { count, rate, retry_after } = eviction;
        let body = json!({ "count": count, "evictRate": rate, "retryAfter": retry_after });
        Box::pin(accepted(Method::POST, (shard, self.port).into(), "/evict", Some(body.to_string())))
    }
}

async fn accepted(
    method: Method,
    address: SocketAddr,
    path: &'static str,
    body: Option<String>,
) -> Result<(), ShardError> {
    let (status, answer) = call(method.clone(), address, path, body).await?;
    if status.is_success() {
        return Ok(());
    }
    let reason = format!("answered {status}: {}", String::from_utf8_lossy(&answer).trim());
    Err(ShardError { method, address, path, reason })
}

async fn call(
    method: Method,
    address: SocketAddr,
    path: &'static str,
    body: Option<String>,
) -> Result<(StatusCode, Bytes), ShardError> {
    let reason = match tokio::time::timeout(WITHIN, exchange(&method, address, path, body)).await {
        Ok(Ok(answer)) => return Ok(answer),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {WITHIN:?}"),
    };
    Err(ShardError { method, address, path, reason })
}

async fn exchange(
    method: &Method,
    address: SocketAddr,
    path: &str,
    body: Option<String>,
) -> Result<(StatusCode, Bytes), Box<dyn std::error::Error + Send + Sync>> {
    let stream = tokio::net::TcpStream::connect(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::builder().method(method).uri(path).header(HOST, address.to_string());
    let request = match body {
        Some(body) => request.header(CONTENT_TYPE, "application/json").body(Full::new(Bytes::from(body)))?,
        None => request.body(Full::default())?,
    };
    let exchange = async {
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_BODY_BYTES).collect().await?.to_bytes();
        Ok((status, body))
    };
    tokio::pin!(exchange);
    tokio::select! {
        answer = &mut exchange => answer,
        // The connection may end before its answer was read out.
        ended = connection => { ended?; exchange.await }
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::{get, post};

    use super::*;

    async fn server(routes: Router) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, routes).await });
        address
    }

    fn at(address: SocketAddr) -> Http {
        Http { port: address.port() }
    }

    #[tokio::test]
    async fn reads_what_a_shard_says_and_ignores_the_rest() {
        let text = r#"{"status":"degraded","state":"draining","incarnation":"i1","connections":7,"capacity":9,
            "uptime":1.5,"checks":{"cpu":{"percentage":1},"kafka":{"status":"disconnected","lag":3,"error":"refused"}}}"#;
        let address = server(Router::new().route("/health", get(async move || text))).await;
        let answer = at(address).health(address.ip()).await.unwrap();
        assert_eq!((&*answer.state, answer.connections, answer.capacity), ("draining", 7, 9));
        assert_eq!(answer.checks.kafka.error.as_deref(), Some("refused"));
    }

    #[tokio::test]
    async fn what_is_no_health_is_no_answer() {
        let ready = r#"{"state":"ready","connections":7,"capacity":9}"#;
        for (status, text) in [
            (StatusCode::OK, "{}"),
            (StatusCode::OK, r#"{"state":"resting","connections":7}"#),
            (StatusCode::NOT_FOUND, r#"{"error":"no such path"}"#),
            (StatusCode::BAD_GATEWAY, ready),
        ] {
            let address = server(Router::new().route("/health", get(async move || (status, text)))).await;
            let error = at(address).health(address.ip()).await.unwrap_err().to_string();
            assert!(error.contains(&format!("answered {status} with no health")), "{text}: {error}");
        }
    }

    #[tokio::test]
    async fn asks_for_an_eviction_of_so_many() {
        let (said, mut heard) = tokio::sync::mpsc::unbounded_channel();
        let take = async move |body: String| {
            said.send(body).unwrap();
            StatusCode::ACCEPTED
        };
        let address = server(Router::new().route("/evict", post(take))).await;
        let eviction = Eviction { count: 120, rate: 5, retry_after: spec::RetryAfter::default() };
        at(address).evict(address.ip(), eviction).await.unwrap();
        let body: serde_json::Value = serde_json::from_str(&heard.recv().await.unwrap()).unwrap();
        let expected = json!({ "count": 120, "evictRate": 5, "retryAfter": { "min": "100ms", "max": "5s" } });
        assert_eq!(body, expected);
    }

    #[tokio::test]
    async fn asks_for_a_drain_as_the_manifest_says_it() {
        let (said, mut heard) = tokio::sync::mpsc::unbounded_channel();
        let take = async move |body: String| {
            said.send(body).unwrap();
            StatusCode::ACCEPTED
        };
        let address = server(Router::new().route("/drain", post(take))).await;
        let wanted = Drain { rate: 50, deadline: Duration::from_secs(90), retry_after: spec::RetryAfter::default() };
        at(address).drain(address.ip(), wanted).await.unwrap();
        let body: serde_json::Value = serde_json::from_str(&heard.recv().await.unwrap()).unwrap();
        let expected = json!({ "evictRate": 50, "deadline": "90s", "retryAfter": { "min": "100ms", "max": "5s" } });
        assert_eq!(body, expected);
        let error = at(address).undrain(address.ip()).await.unwrap_err().to_string();
        assert!(error.contains("answered 405"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn gives_up_on_a_silent_shard() {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = silent.local_addr().unwrap();
        let error = at(address).health(address.ip()).await.unwrap_err().to_string();
        assert!(error.contains("no answer within 2s"), "{error}");
    }
}
