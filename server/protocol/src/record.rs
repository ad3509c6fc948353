//! A record, encoded once into a WebSocket frame: every subscriber gets the same bytes.

use std::sync::{Arc, OnceLock};

use bytes::{BufMut as _, Bytes, BytesMut};
use wscluster_ws::frame::{Opcode, put_server_header};

use super::Position;

/// An encoded record.
#[derive(Clone, Debug)]
pub struct Record {
    /// Channel.
    pub channel: Arc<str>,
    /// Position of this record.
    pub position: Position,
    /// Position of the channel's previous record in this partition, where it is known.
    pub prev: Option<Position>,
    /// Kafka's timestamp, Unix milliseconds.
    pub timestamp_ms: i64,
    /// The whole frame: header, then `{"type":"…"`, then the rest of the object.
    frame: Bytes,
    /// The frame for recovery, made on first use: clients that reconnect together share it.
    replayed: OnceLock<Bytes>,
    /// The same for the old `reconnect`. Boxed, because it is rarely used and every record would hold the space.
    replayed_old: OnceLock<Box<Bytes>>,
    /// Start of the payload in the frame, and length of the payload up to the end of its `type` member.
    payload_at: u8,
    type_len: u16,
}

/// The content of a record before it is encoded.
#[derive(Clone, Copy, Debug)]
pub struct Draft<'a> {
    /// Message type, e.g. `price:update`; plain text without control characters.
    pub kind: &'a str,
    /// Message priority.
    pub priority: i32,
    /// The value as JSON members, e.g. `"data":{…}` or `"data_base64":"…"`.
    pub data: &'a [u8],
}

impl Record {
    /// Encodes `draft`.
    pub fn encode(
        channel: Arc<str>,
        position: Position,
        prev: Option<Position>,
        timestamp_ms: i64,
        draft: Draft<'_>,
    ) -> Self {
        let mut head = format!("{{\"type\":{}", json(draft.kind));
        let type_len = u16::try_from(head.len()).unwrap_or(u16::MAX);
        let prev_member = prev.map_or_else(String::new, |prev| format!(",\"prev\":\"{prev}\""));
        head += &format!(
            ",\"seq\":{},\"ts\":{timestamp_ms},\"priority\":{},\"channel\":{},\"pos\":\"{position}\"{prev_member},",
            position.offset,
            draft.priority,
            json(&channel),
        );
        let frame = text_frame(&[head.as_bytes(), draft.data, b"}"]);
        let payload_at = (frame.len() - head.len() - draft.data.len() - 1) as u8;
        let (replayed, replayed_old) = (OnceLock::new(), OnceLock::new());
        Self { channel, position, prev, timestamp_ms, frame, replayed, replayed_old, payload_at, type_len }
    }

    /// The frame for live delivery. Clones share its bytes.
    pub fn frame(&self) -> &Bytes {
        &self.frame
    }

    /// The frame with `"replayed":true`, for recovery.
    pub fn replayed(&self) -> Bytes {
        let encode = || {
            let (head, rest) = self.payload().split_at(usize::from(self.type_len));
            text_frame(&[head, b",\"replayed\":true", rest])
        };
        self.replayed.get_or_init(encode).clone()
    }

    /// The frame with the type `replay:message`, for the old `reconnect`.
    pub fn replayed_old(&self) -> Bytes {
        let encode = || {
            let rest = &self.payload()[usize::from(self.type_len)..];
            Box::new(text_frame(&[b"{\"type\":\"replay:message\"", rest]))
        };
        Bytes::clone(self.replayed_old.get_or_init(encode))
    }

    /// The JSON object in the frame.
    pub fn payload(&self) -> &[u8] {
        &self.frame[usize::from(self.payload_at)..]
    }
}

fn text_frame(parts: &[&[u8]]) -> Bytes {
    let len = parts.iter().map(|part| part.len()).sum();
    let mut frame = BytesMut::with_capacity(len + 10);
    put_server_header(&mut frame, Opcode::Text, len);
    for part in parts {
        frame.put_slice(part);
    }
    frame.freeze()
}

/// Encodes `text` as a JSON string.
fn json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Epoch, Partition};

    fn record(data: &[u8]) -> Record {
        let at = |offset| Position { partition: Partition { epoch: Epoch(0xab), number: 2 }, offset };
        let draft = Draft { kind: "price:update", priority: 1, data };
        Record::encode("BTC.\"x\".trade".into(), at(7), Some(at(5)), 1_700_000_000_000, draft)
    }

    fn value(frame: &[u8], header: usize) -> serde_json::Value {
        serde_json::from_slice(&frame[header..]).unwrap()
    }

    #[test]
    fn carries_its_own_and_the_previous_position() {
        let record = record(br#""data":{"price":1}"#);
        let value = value(record.frame(), 4);
        assert_eq!(value["pos"], "ab-2-7");
        assert_eq!(value["prev"], "ab-2-5");
        assert_eq!(value["seq"], 7);
        assert_eq!(value["channel"], "BTC.\"x\".trade");
        assert_eq!(value["data"]["price"], 1);
    }

    #[test]
    fn a_replayed_frame_differs_only_by_its_mark() {
        let record = record(br#""data":null"#);
        let (live, mut replayed) = (value(record.frame(), 4), value(&record.replayed(), 4));
        assert_eq!(replayed.as_object_mut().unwrap().remove("replayed"), Some(true.into()));
        assert_eq!(live, replayed);
        assert_eq!(value(&record.replayed_old(), 4)["type"], "replay:message");
    }

    #[test]
    fn clients_that_recover_together_share_one_frame() {
        let record = record(br#""data":null"#);
        for again in [Record::replayed, Record::replayed_old] {
            assert_eq!(again(&record).as_ptr(), again(&record).as_ptr());
        }
    }

    #[test]
    fn finds_its_payload_behind_every_header_size() {
        for size in [1, 200, 70_000] {
            let data = format!("\"data\":\"{}\"", "x".repeat(size));
            let record = record(data.as_bytes());
            assert!(record.payload().starts_with(b"{\"type\":\"price:update\",\"seq\""), "{size}");
        }
    }
}
