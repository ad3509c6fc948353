//! Delivery of messages to clients.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::{Size, Span};

/// How shards deliver messages, and what they do with slow clients.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Delivery {
    /// Outgoing bytes that may be queued for one client. When the queue is full, `slowClient` applies.
    pub max_queue_bytes: Size,
    /// What happens when the queue of a client is full. `disconnect`: the connection is closed with code 4100; the
    /// client can reconnect and resume from its last position. `dropOldest`: the oldest queued messages are dropped;
    /// the client detects the gap by `prev`. `conflate`: only the newest queued message of each channel is kept.
    pub slow_client: SlowClient,
    /// Time between two WebSocket pings to a client.
    pub ping_interval: Span,
    /// A client that sends neither a pong nor any other frame for this long is disconnected. Must be longer than
    /// `pingInterval`.
    pub pong_timeout: Span,
    /// How long a shard waits for further messages before it writes to a socket. Longer values mean fewer, larger
    /// writes; `0s` writes at once.
    pub coalesce: Span,
    /// Largest message that a client may send. A larger one closes the connection with code 1009.
    pub max_message_bytes: Size,
    /// Channels that one client may subscribe to. Exceeding it closes the connection with code 4101.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_subscriptions: u32,
}

/// What happens when the queue of a client is full. `disconnect`: the connection is closed with code 4100; the client
/// can reconnect and resume from its last position. `dropOldest`: the oldest queued messages are dropped; the client
/// detects the gap by `prev`. `conflate`: only the newest queued message of each channel is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum SlowClient {
    /// Close with code 4100. The client can resume from its last position.
    #[default]
    Disconnect,
    /// Drop the oldest queued messages. The client detects the gap by `prev`.
    DropOldest,
    /// Keep only the newest queued message of each channel.
    Conflate,
}

impl Default for Delivery {
    fn default() -> Self {
        Self {
            max_queue_bytes: Size(256 << 10),
            slow_client: SlowClient::default(),
            ping_interval: Span::secs(27),
            pong_timeout: Span::secs(30),
            coalesce: Span::millis(0),
            max_message_bytes: Size(64 << 10),
            max_subscriptions: 1_000,
        }
    }
}
