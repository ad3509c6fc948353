//! What a shard says, as far as a tester cares. All subscribers of a channel get the same bytes, so a worker parses
//! each record once and recognises it afterwards: a comparison of bytes instead of a JSON parse per delivery.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use wscluster_protocol::Position;

use super::ground_truth::Nanos;

/// A message of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Delivery {
    /// Index of the channel; `None` when it is not one of the run's.
    pub(super) channel: Option<u32>,
    /// Where it stands.
    pub(super) position: Position,
    /// The position of the channel's previous message.
    pub(super) prev: Option<Position>,
    /// When it was published, and whether to the nanosecond or only to Kafka's millisecond.
    pub(super) published: Option<(Nanos, bool)>,
    /// Sent again for a client that came back.
    pub(super) replayed: bool,
}

/// A text message from the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// A record.
    Delivery(Delivery),
    /// `subscription_ack`, with channels that could not be recovered.
    Subscribed {
        /// Recovered channels.
        recovered: u32,
        /// Channels with `recovered: false`.
        unrecovered: Vec<String>,
        /// Behind which positions channels begin.
        positions: Vec<(String, Vec<Position>)>,
    },
    /// `pong`.
    Pong,
    /// `gap`: the server lost the thread of this channel, and goes on behind these positions.
    Gap(String, Vec<Position>),
    /// `error`.
    Error(String),
    /// Anything else.
    Other,
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow, rename = "type", default)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    channel: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pos: Option<Cow<'a, str>>,
    /// Where channels go on: in an answer, or behind a gap.
    #[serde(borrow)]
    positions: Option<&'a RawValue>,
    #[serde(borrow)]
    prev: Option<Cow<'a, str>>,
    ts: Option<i64>,
    #[serde(default)]
    replayed: bool,
    #[serde(default)]
    data: Stamp,
    #[serde(default)]
    recovered: BTreeMap<String, bool>,
    code: Option<String>,
}

/// `sent_ns` of a record that this tester published, whatever else `data` is.
#[derive(Default)]
struct Stamp(Option<Nanos>);

impl<'de> Deserialize<'de> for Stamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Stamp;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any JSON value")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Stamp, A::Error> {
                let mut stamp = Stamp(None);
                while let Some(key) = map.next_key::<Cow<'de, str>>()? {
                    if key == "sent_ns" {
                        stamp.0 = map.next_value::<serde_json::Value>()?.as_u64();
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(stamp)
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Stamp, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Stamp(None))
            }
            fn visit_bool<E>(self, _: bool) -> Result<Stamp, E> {
                Ok(Stamp(None))
            }
            fn visit_i64<E>(self, _: i64) -> Result<Stamp, E> {
                Ok(Stamp(None))
            }
            fn visit_u64<E>(self, _: u64) -> Result<Stamp, E> {
                Ok(Stamp(None))
            }
            fn visit_f64<E>(self, _: f64) -> Result<Stamp, E> {
                Ok(Stamp(None))
            }
            fn visit_str<E>(self, _: &str) -> Result<Stamp, E> {
                Ok(Stamp(None))
            }
            fn visit_unit<E>(self) -> Result<Stamp, E> {
                Ok(Stamp(None))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// Reads messages, remembering the last records.
#[derive(Debug)]
pub(super) struct Reader {
    channels: BTreeMap<String, u32>,
    seen: Vec<Option<(Box<[u8]>, Delivery)>>,
}

/// Records remembered: a few times what is under way at once.
const SEEN: usize = 1_024;

impl Reader {
    /// A reader for a run with these channels.
    pub(super) fn new(channels: &[String]) -> Self {
        let channels = channels.iter().cloned().zip(0..).collect();
        Self { channels, seen: vec![None; SEEN] }
    }

    /// What `text` says; what is no JSON object of the protocol is [`Message::Other`].
    pub(super) fn read(&mut self, text: &str) -> Message {
        let slot = slot(text.as_bytes());
        if let Some((bytes, delivery)) = &self.seen[slot]
            && **bytes == *text.as_bytes()
        {
            return Message::Delivery(*delivery);
        }
        let message = self.parse(text);
        if let Message::Delivery(delivery) = message {
            self.seen[slot] = Some((text.as_bytes().into(), delivery));
        }
        message
    }

    fn parse(&self, text: &str) -> Message {
        let Ok(wire) = serde_json::from_str::<Wire<'_>>(text) else { return Message::Other };
        let channel = wire.channel.unwrap_or_default();
        match &*wire.kind {
            "subscription_ack" => {
                let recovered = wire.recovered.values().filter(|recovered| **recovered).count() as u32;
                let lost = wire.recovered.into_iter().filter(|(_, recovered)| !recovered);
                let positions = read::<BTreeMap<String, Value>>(wire.positions).unwrap_or_default().into_iter();
                Message::Subscribed {
                    recovered,
                    unrecovered: lost.map(|(channel, _)| channel).collect(),
                    positions: positions
                        .filter_map(|(channel, pos)| Some((channel, Position::from_json(&pos)?)))
                        .collect(),
                }
            }
            "pong" => Message::Pong,
            "gap" => {
                let positions = read(wire.positions).and_then(|at| Position::from_json(&at));
                Message::Gap(channel.into_owned(), positions.unwrap_or_default())
            }
            "error" => Message::Error(wire.code.unwrap_or_else(|| "unnamed".to_owned())),
            _ => match wire.pos.and_then(|pos| pos.parse().ok()) {
                Some(position) => Message::Delivery(Delivery {
                    channel: self.channels.get(&*channel).copied(),
                    position,
                    prev: wire.prev.and_then(|prev| prev.parse().ok()),
                    published: match (wire.data.0, wire.ts) {
                        (Some(nanos), _) => Some((nanos, true)),
                        (None, Some(ts)) => u64::try_from(ts).ok().map(|ts| (ts.saturating_mul(1_000_000), false)),
                        (None, None) => None,
                    },
                    replayed: wire.replayed,
                }),
                None => Message::Other,
            },
        }
    }

    /// The index of a channel of the run.
    pub(super) fn channel(&self, name: &str) -> Option<u32> {
        self.channels.get(name).copied()
    }
}

fn read<'a, T: Deserialize<'a>>(raw: Option<&'a RawValue>) -> Option<T> {
    serde_json::from_str(raw?.get()).ok()
}

/// Where a text is remembered: a cheap mix of its bytes, read in words from the head, where positions are.
fn slot(bytes: &[u8]) -> usize {
    let words = bytes[..bytes.len().min(256)].as_chunks::<8>().0;
    let mix =
        |sum: u64, word: &[u8; 8]| (sum.rotate_left(5) ^ u64::from_le_bytes(*word)).wrapping_mul(0x517c_c1b7_2722_0a95);
    (words.iter().fold(bytes.len() as u64, mix) >> 40) as usize % SEEN
}

#[cfg(test)]
mod tests {
    use wscluster_protocol::{Draft, Epoch, Partition, Record};

    use super::*;

    fn position(offset: i64) -> Position {
        Position { partition: Partition { epoch: Epoch(7), number: 1 }, offset }
    }

    fn payload(offset: i64, data: &str) -> String {
        let draft = Draft { kind: "price:update", priority: 0, data: data.as_bytes() };
        let prev = Some(position(offset - 2));
        let record = Record::encode("B.trade".into(), position(offset), prev, 1_700_000_000_123, draft);
        String::from_utf8(record.payload().to_vec()).unwrap()
    }

    fn reader() -> Reader {
        Reader::new(&["A.trade".to_owned(), "B.trade".to_owned()])
    }

    #[test]
    fn reads_what_a_shard_encodes_also_the_second_time() {
        let mut reader = reader();
        for _ in 0..2 {
            for offset in 5..900 {
                let text = payload(offset, r#""data":{"sent_ns":1700000000123456789,"n":4}"#);
                let Message::Delivery(delivery) = reader.read(&text) else { panic!("{text}") };
                assert_eq!((delivery.channel, delivery.position), (Some(1), position(offset)));
                assert_eq!(delivery.prev, Some(position(offset - 2)));
                assert_eq!(delivery.published, Some((1_700_000_000_123_456_789, true)));
            }
        }
    }

    #[test]
    fn falls_back_to_kafkas_timestamp_for_foreign_data() {
        for data in ["[1,2]", "null", "\"x\"", "1.5", "-1", "true", r#"{"sent_ns":"soon"}"#, r#"{"a\"":{"b":[]}}"#] {
            let text = payload(9, &format!("\"data\":{data}"));
            let Message::Delivery(delivery) = reader().read(&text) else { panic!("{text}") };
            assert_eq!(delivery.published, Some((1_700_000_000_123_000_000, false)), "{data}");
        }
    }

    #[test]
    fn reads_answers() {
        let ack = r#"{"type":"subscription_ack","subscribed":["A.trade","B.trade"],"count":2,"recovered":{"A.trade":true,"B.trade":false},"reason":{"B.trade":"too_old"},"positions":{"B.trade":"7-1-5"}}"#;
        let positions = vec![("B.trade".to_owned(), vec![position(5)])];
        let unrecovered = vec!["B.trade".to_owned()];
        assert_eq!(reader().read(ack), Message::Subscribed { recovered: 1, unrecovered, positions });
        assert_eq!(reader().read(r#"{"type":"pong","ts":5}"#), Message::Pong);
        assert_eq!(reader().read(r#"{"type":"gap","channel":"A.trade"}"#), Message::Gap("A.trade".into(), vec![]));
        let gap = r#"{"type":"gap","channel":"A.trade","positions":["7-1-5","7-1-6"]}"#;
        assert_eq!(reader().read(gap), Message::Gap("A.trade".into(), vec![position(5), position(6)]));
        let error = r#"{"type":"error","code":"bad_request","message":"no"}"#;
        assert_eq!(reader().read(error), Message::Error("bad_request".into()));
        for other in ["", "[]", "12", "{", r#"{"type":3}"#, r#"{"pos":"x"}"#] {
            assert_eq!(reader().read(other), Message::Other, "{other}");
        }
    }
}
