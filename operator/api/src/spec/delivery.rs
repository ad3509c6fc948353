//! How messages reach clients.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::{Size, Span};

/// How messages reach clients, and what happens to those that cannot follow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Delivery {
    /// Bytes that may wait for one client before `slowClient` applies.
    pub max_queue_bytes: Size,
    /// What happens to a client whose queue is full.
    pub slow_client: SlowClient,
    /// Time between two pings to a client.
    pub ping_interval: Span,
    /// Silence after which a client is taken for gone: no pong and no other frame for this long. More than `pingInterval`.
    pub pong_timeout: Span,
    /// Wait this long for more messages before writing to a socket; 0ms writes at once.
    pub coalesce: Span,
    /// Largest message a client may send (1009 above).
    pub max_message_bytes: Size,
    /// Channels one client may subscribe to (4101 above).
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_subscriptions: u32,
}

/// What happens to a client whose queue is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum SlowClient {
    /// Close with 4100; the client comes back with its position and misses nothing.
    #[default]
    Disconnect,
    /// Drop the oldest waiting messages; the client sees the gap in `prev`.
    DropOldest,
    /// Keep only the latest waiting message of each channel.
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
