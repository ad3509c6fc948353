//! Topics: which channel their records are published to, and how a record becomes a message.
//!
//! The `channel` module parses channel templates and detects topics that could share a channel.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A topic, or all topics whose names match a pattern, and how their records become messages.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Topic {
    /// Name of a topic. Give exactly one of `name` and `pattern`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 249), regex(pattern = r"^[A-Za-z0-9._-]+$"))]
    pub name: String,
    /// Regular expression (RE2) that must match the whole name of a topic. Topics that are created later are included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 249))]
    pub pattern: Option<String>,
    /// Template of the channel that a record is published to: text with the placeholders `{key}`, `{topic}` and
    /// `{header:NAME}`, such as `{key}.trade`. Two topics must not share a channel.
    #[schemars(length(max = 249), regex(pattern = r"^([^{}\x00-\x1f\x7f]|\{key\}|\{topic\}|\{header:[^{}]+\})+$"))]
    pub channel: String,
    /// Value of `type` in the messages that clients receive.
    #[serde(default = "default_type")]
    #[schemars(length(min = 1, max = 128))]
    pub r#type: String,
    /// Value of `priority` in the messages that clients receive.
    #[serde(default)]
    pub priority: i32,
    /// Number of partitions that the embedded broker creates the topic with. Ignored with other brokers.
    #[serde(default = "default_partitions")]
    #[schemars(range(min = 1, max = 256))]
    pub partitions: u32,
    /// How a record becomes a message.
    #[serde(default)]
    pub record: RecordOptions,
}

/// How a record becomes a message.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RecordOptions {
    /// Format of record values. `auto`: JSON becomes `data` as it is, other UTF-8 becomes a string in `data`, other
    /// bytes become `data_base64`. `json`: `data` is the JSON value; other records are skipped and counted. `text`:
    /// `data` is a string; records that are not UTF-8 are skipped and counted. `binary`: every value becomes
    /// `data_base64`.
    pub value: ValueFormat,
    /// Record header with the `type` of the message. A record without this header gets the `type` of the topic.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub type_header: Option<String>,
    /// Record header with the `ts` of the message, in Unix milliseconds. A record without this header gets its Kafka
    /// timestamp.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub timestamp_header: Option<String>,
    /// Replacement for a key or header that `channel` refers to and a record lacks. Default: such records are skipped
    /// and counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub missing: Option<String>,
    /// What happens with a record without a value. `publish`: subscribers receive `"data": null`, which means that
    /// the key was deleted. `skip`: the record is not published.
    pub tombstones: Tombstones,
}

/// Format of record values. `auto`: JSON becomes `data` as it is, other UTF-8 becomes a string in `data`, other bytes
/// become `data_base64`. `json`: `data` is the JSON value; other records are skipped and counted. `text`: `data` is a
/// string; records that are not UTF-8 are skipped and counted. `binary`: every value becomes `data_base64`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ValueFormat {
    /// JSON, else text, else binary.
    #[default]
    Auto,
    /// JSON only.
    Json,
    /// UTF-8 text only.
    Text,
    /// Any bytes, as Base64.
    Binary,
}

/// What happens with a record without a value. `publish`: subscribers receive `"data": null`, which means that the
/// key was deleted. `skip`: the record is not published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Tombstones {
    /// Subscribers receive `"data": null`.
    #[default]
    Publish,
    /// The record is not published.
    Skip,
}

/// How an entry selects topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicSelector<'a> {
    /// The topic with this name.
    Name(&'a str),
    /// Every topic whose whole name matches this regular expression.
    Pattern(&'a str),
}

impl Topic {
    /// A topic by name, with the defaults of a manifest.
    pub fn named(name: impl Into<String>, channel: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            channel: channel.into(),
            r#type: default_type(),
            partitions: default_partitions(),
            ..Self::default()
        }
    }

    /// How an entry selects topics.
    pub fn selector(&self) -> TopicSelector<'_> {
        match &self.pattern {
            Some(pattern) => TopicSelector::Pattern(pattern),
            None => TopicSelector::Name(&self.name),
        }
    }
}

fn default_type() -> String {
    "price:update".to_owned()
}
fn default_partitions() -> u32 {
    3
}
