//! Messages in both directions, as `docs/protocol.md` describes them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use wscluster_protocol::Position;

/// A message from a shard.
#[derive(Clone, Debug)]
pub enum Message<'a> {
    /// `hello`: the first message of the subprotocol.
    Hello {
        /// Name of the shard.
        shard: Cow<'a, str>,
        /// How often the shard pings.
        ping: Option<Duration>,
    },
    /// `subscription_ack`.
    Subscribed(SubscriptionAck),
    /// `pong`: the answer to a heartbeat.
    Pong,
    /// `gap`: messages of the channel were lost.
    Gap {
        /// The channel.
        channel: Cow<'a, str>,
        /// Positions after which the channel continues; empty if the shard does not know them.
        positions: Vec<Position>,
    },
    /// `error`: a request was rejected.
    Error {
        /// Code for programs.
        code: Option<String>,
        /// Text for people.
        message: Option<String>,
    },
    /// A Kafka record.
    Record(Record<'a>),
    /// Anything else, also text that is not JSON.
    Other,
}

/// The answer to `subscribe`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscriptionAck {
    /// Channels for which a recovery was requested, and whether it succeeded.
    pub recovered: BTreeMap<String, bool>,
    /// Why a recovery failed, by channel.
    pub reason: BTreeMap<String, String>,
    /// Positions after which the live messages of a channel begin.
    pub positions: BTreeMap<String, Vec<Position>>,
}

/// A record without its value.
#[derive(Clone, Debug)]
pub struct Record<'a> {
    /// The channel.
    pub channel: Cow<'a, str>,
    /// Position; `None` if this client cannot read it.
    pub position: Option<Position>,
    /// Position of the channel's previous message in the same partition.
    pub prev: Option<Position>,
    /// Kafka's timestamp, Unix milliseconds.
    pub ts: Option<i64>,
    /// Whether a recovery sent it.
    pub replayed: bool,
    /// `data` as it was sent. A JSON number may exceed every Rust type, so it is not parsed here.
    pub data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow, rename = "type", default)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    channel: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pos: Option<Cow<'a, str>>,
    #[serde(borrow)]
    prev: Option<Cow<'a, str>>,
    ts: Option<i64>,
    #[serde(default)]
    replayed: bool,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    shard: Option<Cow<'a, str>>,
    ping_ms: Option<u64>,
    #[serde(default)]
    recovered: BTreeMap<String, bool>,
    #[serde(default)]
    reason: BTreeMap<String, String>,
    #[serde(borrow)]
    positions: Option<&'a RawValue>,
    code: Option<String>,
    message: Option<String>,
}

impl<'a> Message<'a> {
    /// Parses a text message.
    pub fn parse(text: &'a str) -> Self {
        let Ok(wire) = serde_json::from_str::<Wire<'a>>(text) else { return Self::Other };
        let channel = wire.channel.unwrap_or_default();
        match &*wire.kind {
            "hello" => Self::Hello {
                shard: wire.shard.unwrap_or_default(),
                ping: wire.ping_ms.filter(|ms| *ms > 0).map(Duration::from_millis),
            },
            "subscription_ack" => {
                let positions = read::<BTreeMap<String, Value>>(wire.positions).unwrap_or_default();
                let positions = positions.into_iter().map(|(channel, at)| (channel, positions_of(&at)));
                Self::Subscribed(SubscriptionAck {
                    recovered: wire.recovered,
                    reason: wire.reason,
                    positions: positions.collect(),
                })
            }
            "pong" => Self::Pong,
            "gap" => {
                let positions = read::<Value>(wire.positions).as_ref().map(positions_of).unwrap_or_default();
                Self::Gap { channel, positions }
            }
            "error" => Self::Error { code: wire.code, message: wire.message },
            _ => match wire.pos {
                Some(pos) => Self::Record(Record {
                    channel,
                    position: pos.parse().ok(),
                    prev: wire.prev.and_then(|prev| prev.parse().ok()),
                    ts: wire.ts,
                    replayed: wire.replayed,
                    data: wire.data,
                }),
                None => Self::Other,
            },
        }
    }
}

fn positions_of(value: &Value) -> Vec<Position> {
    Position::from_json(value).unwrap_or_default()
}

fn read<'a, T: Deserialize<'a>>(raw: Option<&'a RawValue>) -> Option<T> {
    serde_json::from_str(raw?.get()).ok()
}

/// A `subscribe` request. A client that keeps positions always passes `since`, even an empty one: only then does the
/// answer contain the first positions.
pub fn subscribe<S: AsRef<str>>(channels: &[S], since: Option<Map<String, Value>>) -> String {
    let channels: Vec<&str> = channels.iter().map(AsRef::as_ref).collect();
    let mut data = json!({ "channels": channels });
    if let Some(since) = since {
        data["since"] = since.into();
    }
    json!({ "type": "subscribe", "data": data }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(token: &str) -> Position {
        token.parse().unwrap()
    }

    #[test]
    fn reads_a_record_whose_number_exceeds_every_type() {
        let text = r#"{"type":"t","channel":"a","pos":"1-0-5","prev":"1-0-4","data":1e999}"#;
        let Message::Record(record) = Message::parse(text) else { panic!("{text}") };
        assert_eq!((&*record.channel, record.position), ("a", Some(position("1-0-5"))));
        assert_eq!((record.prev, record.data.unwrap().get()), (Some(position("1-0-4")), "1e999"));
    }

    #[test]
    fn reads_answers() {
        let ack = r#"{"type":"subscription_ack","subscribed":["a","b"],"count":2,"recovered":{"a":true,"b":false},"reason":{"b":"too_old"},"positions":{"b":"7-1-5"}}"#;
        let Message::Subscribed(ack) = Message::parse(ack) else { panic!("{ack}") };
        assert_eq!(ack.recovered, BTreeMap::from([("a".to_owned(), true), ("b".to_owned(), false)]));
        assert_eq!(ack.reason, BTreeMap::from([("b".to_owned(), "too_old".to_owned())]));
        assert_eq!(ack.positions, BTreeMap::from([("b".to_owned(), vec![position("7-1-5")])]));
        assert!(matches!(Message::parse(r#"{"type":"pong","ts":5}"#), Message::Pong));
        let gap = |text| match Message::parse(text) {
            Message::Gap { channel, positions } => (channel.into_owned(), positions),
            other => panic!("{other:?}"),
        };
        assert_eq!(gap(r#"{"type":"gap","channel":"a"}"#), ("a".to_owned(), vec![]));
        let both = vec![position("7-1-5"), position("7-2-6")];
        assert_eq!(gap(r#"{"type":"gap","channel":"a","positions":["7-1-5","7-2-6"]}"#), ("a".to_owned(), both));
        let hello = Message::parse(r#"{"type":"hello","shard":"s-1","ping_ms":27000}"#);
        assert!(matches!(hello, Message::Hello { shard, ping: Some(ping) } if shard == "s-1" && ping.as_secs() == 27));
    }

    #[test]
    fn takes_other_text_for_nothing() {
        for other in ["", "[]", "12", "{", r#"{"type":3}"#, r#"{"type":"t"}"#] {
            assert!(matches!(Message::parse(other), Message::Other), "{other}");
        }
    }
}
