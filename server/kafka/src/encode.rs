//! How a Kafka record becomes a message: its channel, and its value as members of a JSON object.
//!
//! A record that cannot become a message is skipped with a reason, [`Skip`], and never blocks the records after it.

#[cfg(test)]
mod tests;

use std::fmt::Write as _;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rdkafka::message::Headers;
use serde::de::IgnoredAny;
use wscluster_api::channel::{Part, Template, TemplateError};
use wscluster_api::spec::{Tombstones, Topic, ValueFormat};
use wscluster_protocol::request::MAX_CHANNEL_BYTES;

/// Why a record is not published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Skip {
    NoKey,
    KeyNotText,
    NoHeader,
    HeaderNotText,
    ChannelEmpty,
    ChannelTooLong,
    ChannelControl,
    NotJson,
    NotText,
    TooLarge,
    Tombstone,
}

impl Skip {
    pub(super) const ALL: [Self; 11] = [
        Self::NoKey,
        Self::KeyNotText,
        Self::NoHeader,
        Self::HeaderNotText,
        Self::ChannelEmpty,
        Self::ChannelTooLong,
        Self::ChannelControl,
        Self::NotJson,
        Self::NotText,
        Self::TooLarge,
        Self::Tombstone,
    ];

    /// The word in metrics.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::NoKey => "no_key",
            Self::KeyNotText => "key_not_utf8",
            Self::NoHeader => "no_header",
            Self::HeaderNotText => "header_not_utf8",
            Self::ChannelEmpty => "channel_empty",
            Self::ChannelTooLong => "channel_too_long",
            Self::ChannelControl => "channel_control_character",
            Self::NotJson => "not_json",
            Self::NotText => "not_utf8",
            Self::TooLarge => "too_large",
            Self::Tombstone => "tombstone",
        }
    }
}

/// How records of a topic map to channels and messages, from the manifest.
#[derive(Debug)]
pub(super) struct TopicMapping {
    topic: Arc<str>,
    entry: Topic,
    template: Template,
    max_bytes: usize,
}

/// The parts of a Kafka record that a mapping uses.
#[derive(Debug)]
pub(super) struct Raw<'a, H> {
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    pub(super) headers: Option<&'a H>,
    pub(super) timestamp_ms: i64,
}

// Not derived, because `derive` would require `H: Copy`.
impl<H> Copy for Raw<'_, H> {}
impl<H> Clone for Raw<'_, H> {
    fn clone(&self) -> Self {
        *self
    }
}

impl TopicMapping {
    pub(super) fn new(topic: Arc<str>, entry: &Topic, max_bytes: usize) -> Result<Self, TemplateError> {
        Ok(Self { topic, entry: entry.clone(), template: entry.channel.parse()?, max_bytes })
    }

    pub(super) fn priority(&self) -> i32 {
        self.entry.priority
    }

    /// Whether a record of this topic can belong to `channel`.
    pub(super) fn makes(&self, channel: &str) -> bool {
        self.template.makes(&self.topic, channel)
    }

    /// Writes the channel of `raw` into `channel`.
    pub(super) fn channel<H: Headers>(&self, raw: Raw<'_, H>, channel: &mut String) -> Result<(), Skip> {
        channel.clear();
        let missing = self.entry.record.missing.as_deref();
        for part in self.template.parts() {
            match part {
                Part::Text(text) => channel.push_str(text),
                Part::Topic => channel.push_str(&self.topic),
                Part::Key => match raw.key {
                    Some(key) => channel.push_str(text(key, Skip::ChannelTooLong, Skip::KeyNotText)?),
                    None => channel.push_str(missing.ok_or(Skip::NoKey)?),
                },
                Part::Header(name) => match header(raw.headers, name) {
                    Some(value) => channel.push_str(text(value, Skip::ChannelTooLong, Skip::HeaderNotText)?),
                    None => channel.push_str(missing.ok_or(Skip::NoHeader)?),
                },
            }
        }
        match channel.len() {
            0 => Err(Skip::ChannelEmpty),
            1..=MAX_CHANNEL_BYTES if channel.chars().any(char::is_control) => Err(Skip::ChannelControl),
            1..=MAX_CHANNEL_BYTES => Ok(()),
            _ => Err(Skip::ChannelTooLong),
        }
    }

    /// Writes the value of `raw` into `data`, as the members that [`wscluster_protocol::Draft`] takes.
    pub(super) fn data<H>(&self, raw: Raw<'_, H>, data: &mut Vec<u8>) -> Result<(), Skip> {
        data.clear();
        let Some(value) = raw.value else {
            data.extend_from_slice(b"\"data\":null");
            return if self.entry.record.tombstones == Tombstones::Publish { Ok(()) } else { Err(Skip::Tombstone) };
        };
        if value.len() > self.max_bytes {
            return Err(Skip::TooLarge);
        }
        let as_text = || std::str::from_utf8(value).ok();
        let is_json = |text: &str| serde_json::from_str::<IgnoredAny>(text).is_ok();
        match self.entry.record.value {
            ValueFormat::Auto => match as_text() {
                Some(text) if is_json(text) => put_json(text, data),
                Some(text) => put_string(text, data),
                None => put_base64(value, data),
            },
            ValueFormat::Json => put_json(as_text().filter(|text| is_json(text)).ok_or(Skip::NotJson)?, data),
            ValueFormat::Text => put_string(as_text().ok_or(Skip::NotText)?, data),
            ValueFormat::Binary => put_base64(value, data),
        }
        // Escapes and base64 add bytes.
        if data.len() > self.max_bytes { Err(Skip::TooLarge) } else { Ok(()) }
    }

    /// The message type of `raw`.
    pub(super) fn kind<'a, H: Headers>(&'a self, raw: Raw<'a, H>) -> &'a str {
        let given = self.entry.record.type_header.as_deref().and_then(|name| header(raw.headers, name));
        given
            .and_then(|value| std::str::from_utf8(value).ok())
            .filter(|kind| !kind.is_empty() && kind.len() <= 256)
            .unwrap_or(&self.entry.r#type)
    }

    /// The `ts` of the message.
    pub(super) fn ts<H: Headers>(&self, raw: Raw<'_, H>) -> i64 {
        let given = self.entry.record.timestamp_header.as_deref().and_then(|name| header(raw.headers, name));
        given
            .and_then(|value| std::str::from_utf8(value).ok())
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(raw.timestamp_ms)
    }
}

/// The last header with this name: for most producers, later headers replace earlier ones.
fn header<'a, H: Headers>(headers: Option<&'a H>, name: &str) -> Option<&'a [u8]> {
    headers?.iter().filter(|header| header.key == name).last()?.value
}

fn text(bytes: &[u8], too_long: Skip, not_text: Skip) -> Result<&str, Skip> {
    if bytes.len() > MAX_CHANNEL_BYTES {
        return Err(too_long);
    }
    std::str::from_utf8(bytes).map_err(|_| not_text)
}

fn put_json(text: &str, data: &mut Vec<u8>) {
    data.reserve(text.len() + 7);
    data.extend_from_slice(b"\"data\":");
    data.extend_from_slice(text.as_bytes());
}

fn put_string(text: &str, data: &mut Vec<u8>) {
    data.extend_from_slice(b"\"data\":");
    // Writing to a vector cannot fail.
    let _ = serde_json::to_writer(data, text);
}

fn put_base64(value: &[u8], data: &mut Vec<u8>) {
    let mut members = String::with_capacity(value.len() / 3 * 4 + 24);
    members.push_str("\"data_base64\":\"");
    STANDARD.encode_string(value, &mut members);
    let _ = members.write_char('"');
    data.extend_from_slice(members.as_bytes());
}
