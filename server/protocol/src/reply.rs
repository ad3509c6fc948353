//! What the shard says to clients besides records, as frames. Pure.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};
use wscluster_ws::frame::{Opcode, server_frame};

use super::request::Rejection;
use crate::Position;

/// Answer to `subscribe`.
#[derive(Debug, Default, Serialize)]
pub struct SubscriptionAck {
    r#type: &'static str,
    subscribed: Vec<String>,
    count: usize,
    /// Of the channels for which the client said what it last saw.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    recovered: BTreeMap<String, bool>,
    /// Of the channels that were not recovered.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    reason: BTreeMap<String, &'static str>,
    /// Behind which position the messages of a channel begin, where the client cannot know.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    positions: BTreeMap<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    r#ref: Option<Value>,
}

impl SubscriptionAck {
    /// An answer without channels yet.
    pub fn new(id: Option<Value>, positions: BTreeMap<String, Value>) -> Self {
        Self { r#type: "subscription_ack", r#ref: id, positions, ..Self::default() }
    }

    /// Adds a channel and how its recovery went, when one was asked for.
    pub fn add(&mut self, channel: String, recovered: Option<Result<(), &'static str>>) {
        if let Some(result) = recovered {
            self.recovered.insert(channel.clone(), result.is_ok());
            if let Err(reason) = result {
                self.reason.insert(channel.clone(), reason);
            }
        }
        self.subscribed.push(channel);
    }

    /// The frame; `count` is the number of subscriptions after it.
    pub fn frame(mut self, count: usize) -> Bytes {
        self.count = count;
        text(&serde_json::to_value(&self).unwrap_or_default(), None)
    }
}

/// Answer to `unsubscribe`.
pub fn unsubscription_ack(channels: &[String], count: usize, id: Option<Value>) -> Bytes {
    text(&json!({ "type": "unsubscription_ack", "unsubscribed": channels, "count": count }), id)
}

/// Answer to `heartbeat`.
pub fn pong(now_ms: i64, id: Option<Value>) -> Bytes {
    text(&json!({ "type": "pong", "ts": now_ms }), id)
}

/// Good end of an old `reconnect`.
pub fn reconnect_ack(replayed: usize, id: Option<Value>) -> Bytes {
    let message = format!("{replayed} missed messages replayed");
    text(
        &json!({ "type": "reconnect_ack", "status": "completed", "messages_replayed": replayed, "message": message }),
        id,
    )
}

/// Honest end of an old `reconnect`.
pub fn reconnect_error(message: &str, id: Option<Value>) -> Bytes {
    text(&json!({ "type": "reconnect_error", "message": message }), id)
}

/// Greets a client of the subprotocol `wscluster.v1`.
pub fn hello(shard: &str, ping_ms: u128, session: &str) -> Bytes {
    text(&json!({ "type": "hello", "shard": shard, "ping_ms": ping_ms, "session": session }), None)
}

/// Tells subscribers that messages of `channel` were lost, and behind which positions it goes on.
pub fn gap(channel: &str, positions: &[Position]) -> Bytes {
    let mut gap = json!({ "type": "gap", "channel": channel });
    if !positions.is_empty() {
        gap["positions"] = Position::to_json(positions);
    }
    text(&gap, None)
}

/// A rejected request.
pub fn error(rejection: &Rejection) -> Bytes {
    let Rejection { id, code, message } = rejection;
    text(&json!({ "type": "error", "code": code, "message": message }), id.clone())
}

fn text(message: &Value, id: Option<Value>) -> Bytes {
    let mut message = message.clone();
    if let Some(id) = id {
        message["ref"] = id;
    }
    server_frame(Opcode::Text, message.to_string().as_bytes())
}
