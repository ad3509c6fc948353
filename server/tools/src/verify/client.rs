//! One WebSocket client of the deployment under test. It records which shard holds it.

use std::time::Duration;

use serde_json::Value;
use tokio::time::timeout;
use wscluster_client::handshake::{HandshakeError, Refusal, header_lines};
use wscluster_client::{Connection, Endpoint, EndpointError, Incoming, subscribe};

/// Where to connect, and how.
#[derive(Clone, Debug)]
pub(crate) struct Entrance {
    /// A gateway or a shard.
    pub(crate) endpoint: Endpoint,
    /// `Origin` to send, if the deployment requires one.
    pub(crate) origin: Option<String>,
    /// Time limit for each step.
    pub(crate) limit: Duration,
}

/// Why a client is not served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// Another answer than 101.
    #[error("{0} refused the upgrade: {1}")]
    Refused(String, Refusal),
    /// No TCP connection, or no valid answer to the upgrade.
    #[error("failed to connect to {0}: {1}")]
    Handshake(String, HandshakeError),
    /// The connection ended after its 101.
    #[error("{0} closed the connection after its 101: {1}")]
    Closed(String, String),
    /// A message did not arrive in time.
    #[error("{0}: no {1} within {2:?}")]
    Late(String, &'static str, Duration),
}

/// A connected client.
#[derive(Debug)]
pub(crate) struct Client {
    /// Name of the shard that holds the client, from its `hello`.
    pub(crate) shard: String,
    entrance: Entrance,
    connection: Connection,
}

impl Client {
    /// Connects and waits for the `hello` of the shard.
    pub(crate) async fn open(entrance: &Entrance) -> Result<Self, ClientError> {
        let at = || entrance.endpoint.host.clone();
        let opened = Connection::open(&entrance.endpoint, &entrance.headers(), entrance.limit).await;
        let connection = opened.map_err(|error| match error {
            HandshakeError::Refused(refusal) => ClientError::Refused(at(), refusal),
            error => ClientError::Handshake(at(), error),
        })?;
        let mut client = Self { shard: String::new(), entrance: entrance.clone(), connection };
        let hello = client.wait("hello message", |message| message["type"] == "hello").await?;
        hello["shard"].as_str().unwrap_or_default().clone_into(&mut client.shard);
        Ok(client)
    }

    /// Subscribes to `channel` and waits for the acknowledgement.
    pub(crate) async fn subscribe(&mut self, channel: &str) -> Result<(), ClientError> {
        let request = subscribe(&[channel], None);
        self.connection.send(&request).await.map_err(|error| self.closed(&error))?;
        self.wait("subscription_ack", |message| message["type"] == "subscription_ack").await.map(drop)
    }

    /// The next message that `fits`. Other messages are skipped.
    pub(crate) async fn wait(
        &mut self,
        what: &'static str,
        fits: impl Fn(&Value) -> bool,
    ) -> Result<Value, ClientError> {
        let limit = self.entrance.limit;
        let found = timeout(limit, async {
            loop {
                match self.connection.next().await {
                    Ok(Incoming::Text(text)) => match serde_json::from_str::<Value>(&text) {
                        Ok(message) if fits(&message) => return Ok(message),
                        _ => {}
                    },
                    Ok(Incoming::Close { code, reason }) => {
                        let code = code.map_or_else(|| "no code".to_owned(), |code| code.to_string());
                        return Err(self.closed(&format!("{code} {reason}")));
                    }
                    Ok(_) => {}
                    Err(error) => return Err(self.closed(&error)),
                }
            }
        });
        match found.await {
            Ok(found) => found,
            Err(_) => Err(ClientError::Late(self.entrance.endpoint.host.clone(), what, limit)),
        }
    }

    /// Closes the connection (RFC 6455 §7) and waits until the server has ended it, so that its slot is free.
    pub(crate) async fn close(self) {
        self.connection.close(self.entrance.limit).await;
    }

    fn closed(&self, error: &dyn std::fmt::Display) -> ClientError {
        ClientError::Closed(self.entrance.endpoint.host.clone(), error.to_string())
    }
}

impl Entrance {
    /// The same for the server at `address`, `HOST:PORT`.
    pub(crate) fn at(&self, address: &str) -> Result<Self, EndpointError> {
        let Endpoint { host, .. } = Endpoint::of_authority(address)?;
        let path = self.endpoint.path.clone();
        Ok(Self { endpoint: Endpoint { host, path }, ..self.clone() })
    }

    /// The header lines of an upgrade.
    pub(crate) fn headers(&self) -> String {
        // `Target::new` has checked the origin.
        self.origin.as_deref().and_then(|origin| header_lines([("Origin", origin)]).ok()).unwrap_or_default()
    }
}
