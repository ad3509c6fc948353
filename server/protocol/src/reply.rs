//! What a shard sends to clients besides records.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use wscluster_ws::frame::{Opcode, server_frame};

use crate::request::Rejection;
use crate::{LostReason, Positions};

/// A message of a shard that is not a record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Reply {
    /// First message of a connection with the subprotocol `wscluster.v1`.
    Hello {
        /// Name of the shard.
        shard: String,
        /// Interval of the shard's pings, milliseconds.
        ping_ms: u64,
        /// Random id of the connection.
        session: String,
    },
    /// Answer to `subscribe`.
    SubscriptionAck(SubscriptionAck),
    /// Answer to `unsubscribe`.
    UnsubscriptionAck {
        /// The channels of the request.
        unsubscribed: Vec<String>,
        /// Subscriptions of the connection afterwards.
        count: usize,
    },
    /// Answer to `heartbeat`.
    Pong {
        /// Time of the shard, Unix milliseconds.
        ts: i64,
    },
    /// Messages of a channel were lost for all its subscribers; fresh state has to be fetched elsewhere.
    Gap {
        /// The channel.
        channel: String,
        /// The positions after which the channel continues.
        #[serde(default, skip_serializing_if = "Positions::is_empty")]
        positions: Positions,
    },
    /// A request was rejected; see [`crate::request::ErrorCode`].
    Error {
        /// A word for machines.
        code: String,
        /// The remedy, for people.
        message: String,
    },
    /// The old `reconnect` succeeded: the missed messages were sent before this one.
    ReconnectAck {
        /// `completed`.
        status: String,
        /// Number of messages that were sent again.
        messages_replayed: usize,
        /// A sentence for people.
        message: String,
    },
    /// The old `reconnect` failed; nothing was sent again.
    ReconnectError {
        /// The cause and the remedy, for people.
        message: String,
    },
}

/// Answer to `subscribe`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SubscriptionAck {
    /// The channels of the request.
    pub subscribed: Vec<String>,
    /// Subscriptions of the connection afterwards.
    pub count: usize,
    /// For each channel with a `since`: whether every missed message follows.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub recovered: BTreeMap<String, bool>,
    /// For each channel that was not recovered: the word of a [`LostReason`].
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub reason: BTreeMap<String, String>,
    /// The positions after which a channel begins, for channels whose client cannot know them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub positions: BTreeMap<String, Positions>,
}

impl SubscriptionAck {
    /// Adds a channel and the result of its recovery; `None` where the client asked for no recovery.
    pub fn add(&mut self, channel: String, recovered: Option<Result<(), LostReason>>) {
        if let Some(result) = recovered {
            self.recovered.insert(channel.clone(), result.is_ok());
            if let Err(reason) = result {
                self.reason.insert(channel.clone(), reason.as_str().to_owned());
            }
        }
        self.subscribed.push(channel);
    }
}

/// A reply with the `id` of its request as `ref`.
#[derive(Serialize)]
struct WithRef<'r> {
    #[serde(flatten)]
    reply: &'r Reply,
    #[serde(skip_serializing_if = "Option::is_none")]
    r#ref: Option<Value>,
}

impl Reply {
    /// The text frame of this reply to the request with this `id`.
    pub fn frame(&self, id: Option<Value>) -> Bytes {
        // Fails only for maps whose keys are not text.
        let text = serde_json::to_vec(&WithRef { reply: self, r#ref: id }).unwrap_or_default();
        server_frame(Opcode::Text, &text)
    }

    /// The error for a rejected request.
    pub fn rejected(rejection: &Rejection) -> Self {
        Self::Error { code: rejection.code.as_str().to_owned(), message: rejection.message.clone() }
    }

    /// The end of a `reconnect` after which `messages_replayed` messages were sent again.
    pub fn reconnected(messages_replayed: usize) -> Self {
        let message = format!("{messages_replayed} missed messages replayed");
        Self::ReconnectAck { status: "completed".to_owned(), messages_replayed, message }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::Position;

    use super::*;

    fn at(token: &str) -> Position {
        token.parse().unwrap()
    }

    fn all() -> Vec<(Reply, Value)> {
        let mut ack = SubscriptionAck { count: 2, ..SubscriptionAck::default() };
        ack.positions.insert("b".to_owned(), vec![at("ab-0-7"), at("ab-1-9")].into());
        ack.add("a".to_owned(), Some(Ok(())));
        ack.add("b".to_owned(), Some(Err(LostReason::TooOld)));
        vec![
            (
                Reply::Hello { shard: "prices-0".to_owned(), ping_ms: 20_000, session: "f0".to_owned() },
                json!({ "type": "hello", "shard": "prices-0", "ping_ms": 20_000, "session": "f0" }),
            ),
            (
                Reply::SubscriptionAck(ack),
                json!({
                    "type": "subscription_ack", "subscribed": ["a", "b"], "count": 2,
                    "recovered": { "a": true, "b": false }, "reason": { "b": "too_old" },
                    "positions": { "b": ["ab-0-7", "ab-1-9"] },
                }),
            ),
            (
                Reply::SubscriptionAck(SubscriptionAck::default()),
                json!({ "type": "subscription_ack", "subscribed": [], "count": 0 }),
            ),
            (
                Reply::UnsubscriptionAck { unsubscribed: vec!["a".to_owned()], count: 1 },
                json!({ "type": "unsubscription_ack", "unsubscribed": ["a"], "count": 1 }),
            ),
            (Reply::Pong { ts: 7 }, json!({ "type": "pong", "ts": 7 })),
            (
                Reply::Gap { channel: "a".to_owned(), positions: vec![at("ab-0-7")].into() },
                json!({ "type": "gap", "channel": "a", "positions": "ab-0-7" }),
            ),
            (
                Reply::Gap { channel: "a".to_owned(), positions: Positions::default() },
                json!({ "type": "gap", "channel": "a" }),
            ),
            (
                Reply::Error { code: "bad_json".to_owned(), message: "no".to_owned() },
                json!({ "type": "error", "code": "bad_json", "message": "no" }),
            ),
            (
                Reply::reconnected(3),
                json!({
                    "type": "reconnect_ack", "status": "completed", "messages_replayed": 3,
                    "message": "3 missed messages replayed",
                }),
            ),
            (
                Reply::ReconnectError { message: "too old".to_owned() },
                json!({ "type": "reconnect_error", "message": "too old" }),
            ),
        ]
    }

    #[test]
    fn every_reply_is_read_back_as_it_was_written() {
        for (reply, expected) in all() {
            assert_eq!(serde_json::to_value(&reply).unwrap(), expected);
            assert_eq!(serde_json::from_value::<Reply>(expected).unwrap(), reply);
        }
    }

    #[test]
    fn replies_repeat_the_id_of_their_request() {
        let frame = Reply::Pong { ts: 7 }.frame(Some(json!("a")));
        assert_eq!(
            serde_json::from_slice::<Value>(&frame[2..]).unwrap(),
            json!({ "type": "pong", "ts": 7, "ref": "a" })
        );
    }
}
