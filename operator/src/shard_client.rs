//! Requests to the admin ports of shards.
//!
//! A silent shard costs its caller the timeout and nothing else. [`ShardClient`] is the interface, which tests replace.

use std::fmt::Debug;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::future::BoxFuture;
use hyper::StatusCode;
use wscluster_admin::client::{AdminClient, CallError};
use wscluster_admin::drain::{Drain, EvictRequest};
use wscluster_admin::health::ShardHealth;

/// The admin port of every shard.
const ADMIN_PORT: u16 = 9090;

const TIMEOUT: Duration = Duration::from_secs(2);
const MAX_BODY_BYTES: usize = 64 << 10;

/// A request to a shard failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ShardError {
    #[error(transparent)]
    Call(#[from] CallError),
    /// The answer is not one that a shard of a known version gives. It may come from another program.
    #[error("http://{address}/health answered {status} without the health of a shard: {reason}")]
    NoHealth { address: SocketAddr, status: StatusCode, reason: String },
    /// The shard of a test does not exist.
    #[cfg(test)]
    #[error("the shard does not exist")]
    Missing,
}

/// Requests to shards.
pub(crate) trait ShardClient: Debug + Send + Sync {
    fn health(&self, shard: IpAddr) -> BoxFuture<'_, Result<ShardHealth, ShardError>>;
    /// Starts a drain.
    fn drain(&self, shard: IpAddr, drain: Drain) -> BoxFuture<'_, Result<(), ShardError>>;
    /// Cancels a drain.
    fn undrain(&self, shard: IpAddr) -> BoxFuture<'_, Result<(), ShardError>>;
    /// Closes some connections while the shard continues to accept others.
    fn evict(&self, shard: IpAddr, eviction: EvictRequest) -> BoxFuture<'_, Result<(), ShardError>>;
}

/// Sends the requests by HTTP to the admin ports of pods.
#[derive(Clone, Debug)]
pub(crate) struct HttpShardClient {
    client: AdminClient,
    port: u16,
}

impl Default for HttpShardClient {
    fn default() -> Self {
        Self { client: AdminClient::new(TIMEOUT).max_body(MAX_BODY_BYTES), port: ADMIN_PORT }
    }
}

impl ShardClient for HttpShardClient {
    fn health(&self, shard: IpAddr) -> BoxFuture<'_, Result<ShardHealth, ShardError>> {
        let address = SocketAddr::from((shard, self.port));
        Box::pin(async move {
            let (status, body) = self.client.get(address, "/health").await?;
            // A shard answers with 200, whatever its health.
            let answer = if status == StatusCode::OK {
                serde_json::from_slice(&body).map_err(|error| error.to_string())
            } else {
                Err("the status is not 200".to_owned())
            };
            answer.map_err(|reason| ShardError::NoHealth { address, status, reason })
        })
    }

    fn drain(&self, shard: IpAddr, drain: Drain) -> BoxFuture<'_, Result<(), ShardError>> {
        let address = SocketAddr::from((shard, self.port));
        Box::pin(async move { Ok(self.client.begin_drain(address, &drain).await?) })
    }

    fn undrain(&self, shard: IpAddr) -> BoxFuture<'_, Result<(), ShardError>> {
        let address = SocketAddr::from((shard, self.port));
        Box::pin(async move { Ok(self.client.cancel_drain(address).await?) })
    }

    fn evict(&self, shard: IpAddr, eviction: EvictRequest) -> BoxFuture<'_, Result<(), ShardError>> {
        let address = SocketAddr::from((shard, self.port));
        Box::pin(async move { Ok(self.client.evict(address, &eviction).await?) })
    }
}

/// The health of a shard that all gateways know and whose Kafka source is connected.
#[cfg(test)]
pub(crate) fn health(state: wscluster_admin::health::State, connections: u32, capacity: u32) -> ShardHealth {
    use wscluster_admin::health::{Checks, KafkaCheck, KafkaStatus, Status, percent};
    let kafka = KafkaCheck { status: KafkaStatus::Connected, ..KafkaCheck::default() };
    ShardHealth {
        status: Status::Healthy,
        healthy: true,
        reason: None,
        state,
        shard: String::new(),
        incarnation: "i".to_owned(),
        revision: String::new(),
        connections,
        capacity,
        gateways: u32::MAX,
        available: capacity.saturating_sub(connections),
        utilization: percent(connections, capacity),
        checks: Checks { kafka, ..Checks::default() },
        uptime: 0.0,
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::{get, post};
    use serde_json::json;
    use wscluster_admin::health::{KafkaStatus, State};
    use wscluster_api::spec::RetryAfter;
    use wscluster_api::units::Span;

    use super::*;

    async fn server(routes: Router) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, routes).await });
        address
    }

    fn at(address: SocketAddr) -> HttpShardClient {
        HttpShardClient { port: address.port(), ..HttpShardClient::default() }
    }

    #[tokio::test]
    async fn reads_health_and_ignores_unknown_fields() {
        let mut answer = serde_json::to_value(health(State::Draining, 7, 9)).unwrap();
        answer["checks"]["kafka"] = json!({ "status": "disconnected", "lag": 3, "error": "refused" });
        answer["newer"] = json!(1);
        let text = answer.to_string();
        let address = server(Router::new().route("/health", get(async move || text))).await;
        let answer = at(address).health(address.ip()).await.unwrap();
        assert_eq!((answer.state, answer.connections, answer.capacity), (State::Draining, 7, 9));
        assert_eq!(answer.checks.kafka.status, KafkaStatus::Disconnected);
        assert_eq!(answer.checks.kafka.error.as_deref(), Some("refused"));
    }

    #[tokio::test]
    async fn an_answer_without_valid_health_is_an_error() {
        let ready = serde_json::to_value(health(State::Ready, 7, 9)).unwrap();
        let with = |state: &str| {
            let mut answer = ready.clone();
            answer["state"] = json!(state);
            answer.to_string()
        };
        for (status, text) in [
            (StatusCode::OK, "{}".to_owned()),
            (StatusCode::OK, with("resting")),
            (StatusCode::OK, with("")),
            (StatusCode::NOT_FOUND, json!({ "error": "no such path" }).to_string()),
            (StatusCode::BAD_GATEWAY, ready.to_string()),
        ] {
            let body = text.clone();
            let address = server(Router::new().route("/health", get(async move || (status, body)))).await;
            let error = at(address).health(address.ip()).await.unwrap_err().to_string();
            assert!(error.contains(&format!("answered {status} without the health of a shard")), "{text}: {error}");
        }
    }

    #[tokio::test]
    async fn sends_an_eviction() {
        let (send, mut received) = tokio::sync::mpsc::unbounded_channel();
        let take = async move |body: String| {
            send.send(body).unwrap();
            StatusCode::ACCEPTED
        };
        let address = server(Router::new().route("/evict", post(take))).await;
        let eviction = EvictRequest { count: 120, evict_rate: 5, retry_after: RetryAfter::default() };
        at(address).evict(address.ip(), eviction).await.unwrap();
        let body: serde_json::Value = serde_json::from_str(&received.recv().await.unwrap()).unwrap();
        let expected = json!({ "count": 120, "evictRate": 5, "retryAfter": { "min": "100ms", "max": "5s" } });
        assert_eq!(body, expected);
    }

    #[tokio::test]
    async fn sends_a_drain_in_the_units_of_the_manifest() {
        let (send, mut received) = tokio::sync::mpsc::unbounded_channel();
        let take = async move |body: String| {
            send.send(body).unwrap();
            StatusCode::ACCEPTED
        };
        let address = server(Router::new().route("/drain", post(take))).await;
        let drain = Drain { evict_rate: 50, deadline: Span::secs(90), retry_after: RetryAfter::default() };
        at(address).drain(address.ip(), drain).await.unwrap();
        let body: serde_json::Value = serde_json::from_str(&received.recv().await.unwrap()).unwrap();
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
