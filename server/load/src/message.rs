//! Messages from a shard. All subscribers of a channel receive the same bytes, so a worker parses each record once and
//! recognises it afterwards: a comparison of bytes instead of a JSON parse per delivery.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use wscluster_client::{Record, SubscriptionAck};
use wscluster_protocol::Position;

use super::ground_truth::Nanos;

/// A message of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Delivery {
    /// Index of the channel; `None` if the run has no such channel.
    pub(super) channel: Option<u32>,
    /// Position of the record.
    pub(super) position: Position,
    /// The position of the channel's previous message.
    pub(super) prev: Option<Position>,
    /// Time of publication. `true`: exact to the nanosecond; `false`: Kafka's timestamp in milliseconds.
    pub(super) published: Option<(Nanos, bool)>,
    /// Whether a recovery sent it.
    pub(super) replayed: bool,
}

/// A text message from the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// A record.
    Delivery(Delivery),
    /// `subscription_ack`.
    Subscribed(SubscriptionAck),
    /// `pong`.
    Pong,
    /// `gap`: the server lost messages of this channel and continues after these positions.
    Gap(String, Vec<Position>),
    /// `error`, with its code.
    Error(String),
    /// Anything else.
    Other,
}

/// Parses messages and remembers the last records.
#[derive(Debug)]
pub(super) struct Reader {
    channels: BTreeMap<String, u32>,
    seen: Vec<Option<(Box<[u8]>, Delivery)>>,
}

/// Number of remembered records: a few times the number of records in flight.
const SEEN: usize = 1_024;

impl Reader {
    /// A reader for a run with these channels.
    pub(super) fn new(channels: &[String]) -> Self {
        let channels = channels.iter().cloned().zip(0..).collect();
        Self { channels, seen: vec![None; SEEN] }
    }

    /// Parses `text`. Text that is not a message of the protocol becomes [`Message::Other`].
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
        match wscluster_client::Message::parse(text) {
            wscluster_client::Message::Record(record) => self.record(&record).map_or(Message::Other, Message::Delivery),
            wscluster_client::Message::Subscribed(ack) => Message::Subscribed(ack),
            wscluster_client::Message::Pong => Message::Pong,
            wscluster_client::Message::Gap { channel, positions } => Message::Gap(channel.into_owned(), positions),
            wscluster_client::Message::Error { code, .. } => {
                Message::Error(code.unwrap_or_else(|| "unnamed".to_owned()))
            }
            wscluster_client::Message::Hello { .. } | wscluster_client::Message::Other => Message::Other,
        }
    }

    fn record(&self, record: &Record<'_>) -> Option<Delivery> {
        let of_kafka = || Some((u64::try_from(record.ts?).ok()?.saturating_mul(1_000_000), false));
        Some(Delivery {
            channel: self.channels.get(&*record.channel).copied(),
            position: record.position?,
            prev: record.prev,
            published: record.data.and_then(stamp).map(|nanos| (nanos, true)).or_else(of_kafka),
            replayed: record.replayed,
        })
    }

    /// The index of a channel of the run.
    pub(super) fn channel(&self, name: &str) -> Option<u32> {
        self.channels.get(name).copied()
    }
}

/// `sent_ns` of a record that this tester published; `None` for any other value.
fn stamp(data: &RawValue) -> Option<Nanos> {
    #[derive(Deserialize)]
    struct Stamp {
        sent_ns: Nanos,
    }
    // Serde would read a list as a struct, too.
    let is_object = data.get().starts_with('{');
    is_object.then(|| serde_json::from_str::<Stamp>(data.get()).ok()).flatten().map(|stamp| stamp.sent_ns)
}

/// The slot in which a text is remembered: a cheap hash of the words at its head, which contain the position.
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
        for data in [
            "[1,2]",
            "null",
            "\"x\"",
            "1.5",
            "-1",
            "true",
            "[5]",
            "1e999",
            r#"{"sent_ns":"soon"}"#,
            r#"{"a\"":{"b":[]}}"#,
        ] {
            let text = payload(9, &format!("\"data\":{data}"));
            let Message::Delivery(delivery) = reader().read(&text) else { panic!("{text}") };
            assert_eq!(delivery.published, Some((1_700_000_000_123_000_000, false)), "{data}");
        }
    }

    #[test]
    fn reads_answers() {
        let ack = r#"{"type":"subscription_ack","subscribed":["A.trade","B.trade"],"count":2,"recovered":{"A.trade":true,"B.trade":false},"reason":{"B.trade":"too_old"},"positions":{"B.trade":"7-1-5"}}"#;
        let expected = SubscriptionAck {
            recovered: BTreeMap::from([("A.trade".to_owned(), true), ("B.trade".to_owned(), false)]),
            reason: BTreeMap::from([("B.trade".to_owned(), "too_old".to_owned())]),
            positions: BTreeMap::from([("B.trade".to_owned(), vec![position(5)])]),
        };
        assert_eq!(reader().read(ack), Message::Subscribed(expected));
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
