//! The client of the admin ports of shards: short requests with a timeout, one connection each.
//!
//! A silent shard costs its caller the timeout and nothing else. [`ShardClient`] is the interface, which tests
//! replace.

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

const TIMEOUT: Duration = Duration::from_secs(2);
const MAX_BODY_BYTES: usize = 64 << 10;

/// A request to a shard failed.
#[derive(Debug, thiserror::Error)]
#[error("failed to {method} http://{address}{path}: {reason}")]
pub(crate) struct ShardError {
    method: Method,
    address: SocketAddr,
    path: &'static str,
    reason: String,
}

#[cfg(test)]
impl ShardError {
    /// An error for tests that replace the client.
    pub(crate) fn of(reason: &str) -> Self {
        Self { method: Method::GET, address: ([0, 0, 0, 0], 0).into(), path: "", reason: reason.to_owned() }
    }
}

/// The state that a shard reports. An answer with another state is no answer: it comes from another program, or from
/// a shard that this operator does not understand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ShardState {
    Starting,
    Ready,
    Full,
    Draining,
}

/// The part of `GET /health` that the operator reads.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct ShardHealth {
    pub(crate) state: ShardState,
    /// Random ID of the process; changes with every start.
    #[serde(default)]
    pub(crate) incarnation: String,
    #[serde(default)]
    pub(crate) connections: u32,
    /// Connections that it may hold.
    #[serde(default)]
    pub(crate) capacity: u32,
    /// Gateways that route to it. Absent in answers of older shards.
    pub(crate) gateways: Option<u32>,
    /// Why the process is impaired.
    pub(crate) reason: Option<String>,
    #[serde(default)]
    pub(crate) checks: Checks,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Checks {
    pub(crate) kafka: KafkaHealth,
}

/// The Kafka source as a shard reports it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct KafkaHealth {
    pub(crate) status: KafkaStatus,
    /// The last error, while it lasts.
    pub(crate) error: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum KafkaStatus {
    Connected,
    /// Connected, and reading recent records for reconnecting clients.
    Filling,
    Disconnected,
    /// The shard has no source.
    #[default]
    None,
}

#[cfg(test)]
impl ShardHealth {
    pub(crate) fn of(state: ShardState, connections: u32, capacity: u32) -> Self {
        let kafka = KafkaHealth { status: KafkaStatus::Connected, error: None };
        let checks = Checks { kafka };
        Self { state, incarnation: "i".to_owned(), connections, capacity, gateways: None, reason: None, checks }
    }
}

/// A request to drain.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Drain {
    /// Connections to close per second.
    pub(crate) rate: u32,
    /// When this has passed, the shard closes the remaining connections at once.
    pub(crate) deadline: Duration,
    /// When clients may reconnect.
    pub(crate) retry_after: spec::RetryAfter,
}

/// A request to close some connections while the shard continues to accept others.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Eviction {
    /// Connections to close.
    pub(crate) count: u32,
    /// Connections to close per second.
    pub(crate) rate: u32,
    /// When clients may reconnect.
    pub(crate) retry_after: spec::RetryAfter,
}

/// Requests to shards.
pub(crate) trait ShardClient: Debug + Send + Sync {
    fn health(&self, shard: IpAddr) -> BoxFuture<'_, Result<ShardHealth, ShardError>>;
    /// Starts a drain.
    fn drain(&self, shard: IpAddr, drain: Drain) -> BoxFuture<'_, Result<(), ShardError>>;
    /// Cancels a drain.
    fn undrain(&self, shard: IpAddr) -> BoxFuture<'_, Result<(), ShardError>>;
    /// Closes some connections.
    fn evict(&self, shard: IpAddr, eviction: Eviction) -> BoxFuture<'_, Result<(), ShardError>>;
}

/// Sends the requests by HTTP to the admin ports of pods.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HttpShardClient {
    port: u16,
}

impl Default for HttpShardClient {
    fn default() -> Self {
        Self { port: ADMIN_PORT }
    }
}

impl ShardClient for HttpShardClient {
    fn health(&self, shard: IpAddr) -> BoxFuture<'_, Result<ShardHealth, ShardError>> {
        let address = (shard, self.port).into();
        Box::pin(async move {
            let (status, body) = call(Method::GET, address, "/health", None).await?;
            let failed = |reason| ShardError { method: Method::GET, address, path: "/health", reason };
            if !status.is_success() {
                return Err(failed(format!("answered {status}")));
            }
            let answer = serde_json::from_slice(&body);
            answer.map_err(|error| failed(format!("answered {status} without a valid health: {error}")))
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
    let reason = match tokio::time::timeout(TIMEOUT, exchange(&method, address, path, body)).await {
        Ok(Ok(answer)) => return Ok(answer),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {TIMEOUT:?}"),
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
        // The connection may end before the answer was read completely.
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

    fn at(address: SocketAddr) -> HttpShardClient {
        HttpShardClient { port: address.port() }
    }

    #[tokio::test]
    async fn reads_health_and_ignores_unknown_fields() {
        let text = r#"{"status":"degraded","state":"draining","incarnation":"i1","connections":7,"capacity":9,
            "uptime":1.5,"checks":{"cpu":{"percentage":1},"kafka":{"status":"disconnected","lag":3,"error":"refused"}}}"#;
        let address = server(Router::new().route("/health", get(async move || text))).await;
        let answer = at(address).health(address.ip()).await.unwrap();
        assert_eq!((answer.state, answer.connections, answer.capacity), (ShardState::Draining, 7, 9));
        assert_eq!(answer.checks.kafka.status, KafkaStatus::Disconnected);
        assert_eq!(answer.checks.kafka.error.as_deref(), Some("refused"));
    }

    #[tokio::test]
    async fn an_answer_without_valid_health_is_an_error() {
        let ready = r#"{"state":"ready","connections":7,"capacity":9}"#;
        for (status, text) in [
            (StatusCode::OK, "{}"),
            (StatusCode::OK, r#"{"state":"resting","connections":7}"#),
            (StatusCode::OK, r#"{"state":"","connections":0}"#),
            (StatusCode::NOT_FOUND, r#"{"error":"no such path"}"#),
            (StatusCode::BAD_GATEWAY, ready),
        ] {
            let address = server(Router::new().route("/health", get(async move || (status, text)))).await;
            let error = at(address).health(address.ip()).await.unwrap_err().to_string();
            assert!(error.contains(&format!("answered {status}")), "{text}: {error}");
        }
    }

    #[tokio::test]
    async fn sends_an_eviction() {
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
    async fn sends_a_drain_in_the_units_of_the_manifest() {
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
