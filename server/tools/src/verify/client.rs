//! One WebSocket client of the deployment, which knows the shard that holds it.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::http::header::{ORIGIN, SEC_WEBSOCKET_PROTOCOL};
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

/// Where to connect, and how.
#[derive(Clone, Debug)]
pub struct Door {
    /// `host:port`.
    pub authority: String,
    /// Path of the upgrade.
    pub path: String,
    /// `Origin` to send, where the deployment asks for one.
    pub origin: Option<String>,
    /// Time for each step.
    pub within: Duration,
}

/// Why a client is not served. Each step has a name of its own.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No TCP connection.
    #[error("failed to connect to {0}: {1}")]
    Connect(String, String),
    /// An answer other than 101.
    #[error("{0} refused the upgrade: {1}{2}")]
    Refused(String, u16, String),
    /// No valid answer to the upgrade.
    #[error("{0} did not answer the upgrade as RFC 6455 asks: {1}")]
    Upgrade(String, String),
    /// Upgraded, and then not served.
    #[error("{0} closed the connection after its 101: {1}")]
    Closed(String, String),
    /// Something did not come in time.
    #[error("{0}: no {1} within {2:?}")]
    Late(String, &'static str, Duration),
}

/// A client that is connected.
#[derive(Debug)]
pub struct Client {
    /// The shard that holds it, as it calls itself.
    pub shard: String,
    door: Door,
    socket: WebSocketStream<TcpStream>,
}

impl Client {
    /// Connects and waits for the shard's greeting.
    pub async fn open(door: &Door) -> Result<Self, ClientError> {
        let at = || door.authority.clone();
        let within = door.within;
        let tcp = match timeout(within, TcpStream::connect(&door.authority)).await {
            Ok(Ok(tcp)) => tcp,
            Ok(Err(error)) => return Err(ClientError::Connect(at(), error.to_string())),
            Err(_) => return Err(ClientError::Late(at(), "TCP connection", within)),
        };
        let invalid = |error: &dyn std::fmt::Display| ClientError::Upgrade(at(), error.to_string());
        let url = format!("ws://{}{}", door.authority, door.path);
        let mut request = url.into_client_request().map_err(|error| invalid(&error))?;
        request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("wscluster.v1"));
        if let Some(origin) = &door.origin {
            let origin = HeaderValue::from_str(origin).map_err(|error| invalid(&error))?;
            request.headers_mut().insert(ORIGIN, origin);
        }
        let socket = match timeout(within, tokio_tungstenite::client_async(request, tcp)).await {
            Ok(Ok((socket, _))) => socket,
            Ok(Err(WsError::Http(answer))) => {
                let reason = answer.headers().get("x-wscluster-reason").and_then(|value| value.to_str().ok());
                let reason = reason.map_or_else(String::new, |reason| format!(" {reason}"));
                return Err(ClientError::Refused(at(), answer.status().as_u16(), reason));
            }
            Ok(Err(error)) => return Err(invalid(&error)),
            Err(_) => return Err(ClientError::Late(at(), "answer to the upgrade", within)),
        };
        let mut client = Self { shard: String::new(), door: door.clone(), socket };
        let hello = client.wait("hello message", |message| message["type"] == "hello").await?;
        hello["shard"].as_str().unwrap_or_default().clone_into(&mut client.shard);
        Ok(client)
    }

    /// Subscribes to `channel` and waits for the acknowledgement.
    pub async fn subscribe(&mut self, channel: &str) -> Result<(), ClientError> {
        let request = json!({ "type": "subscribe", "data": { "channels": [channel] } });
        self.socket.send(Message::text(request.to_string())).await.map_err(|error| self.closed(&error))?;
        self.wait("subscription_ack", |message| message["type"] == "subscription_ack").await.map(drop)
    }

    /// The next message that `fits`; others are passed over.
    pub async fn wait(&mut self, what: &'static str, fits: impl Fn(&Value) -> bool) -> Result<Value, ClientError> {
        let within = self.door.within;
        let found = timeout(within, async {
            loop {
                match self.socket.next().await {
                    Some(Ok(Message::Text(text))) => match serde_json::from_str::<Value>(&text) {
                        Ok(message) if fits(&message) => return Ok(message),
                        _ => {}
                    },
                    Some(Ok(Message::Close(Some(frame)))) => {
                        return Err(self.closed(&format!("{} {}", u16::from(frame.code), frame.reason)));
                    }
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Err(self.closed(&error)),
                    None => return Err(self.closed(&"end of stream")),
                }
            }
        });
        match found.await {
            Ok(found) => found,
            Err(_) => Err(ClientError::Late(self.door.authority.clone(), what, within)),
        }
    }

    /// Says goodbye (RFC 6455 §7) and waits for the answer, so that its slot is free for sure.
    pub async fn close(mut self) {
        let within = self.door.within;
        let _ = timeout(within, async {
            if self.socket.close(None).await.is_ok() {
                while let Some(Ok(_)) = self.socket.next().await {}
            }
        })
        .await;
    }

    fn closed(&self, error: &dyn std::fmt::Display) -> ClientError {
        ClientError::Closed(self.door.authority.clone(), error.to_string())
    }
}
