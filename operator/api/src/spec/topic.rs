//! What the records of a topic become: the channel they go to, the type clients see, and what the record must hold.
//!
//! Which templates are legal, and which two may not stand side by side, is decided in [`crate::channel`].

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One topic, or all topics whose name matches a pattern, and how their records become messages.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Topic {
    /// Topic name. Exactly one of `name` and `pattern` is given; empty when it is `pattern`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 249), regex(pattern = r"^[A-Za-z0-9._-]+$"))]
    pub name: String,
    /// Regular expression (RE2) that a whole topic name must match; topics created later are picked up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 249))]
    pub pattern: Option<String>,
    /// Channel of a record: text with `{key}`, `{topic}` and `{header:NAME}`.
    #[schemars(length(max = 249), regex(pattern = r"^([^{}\x00-\x1f\x7f]|\{key\}|\{topic\}|\{header:[^{}]+\})+$"))]
    pub channel: String,
    /// `type` of the message that clients receive.
    #[serde(default = "default_type")]
    #[schemars(length(min = 1, max = 128))]
    pub r#type: String,
    /// `priority` of the message that clients receive.
    #[serde(default)]
    pub priority: i32,
    /// Partitions to create the topic with; embedded broker only.
    #[serde(default = "default_partitions")]
    #[schemars(range(min = 1, max = 256))]
    pub partitions: u32,
    /// How a record is read.
    #[serde(default)]
    pub record: RecordOptions,
}

/// How a record is read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RecordOptions {
    /// What the value of a record is, hence how it stands in the message.
    pub value: ValueFormat,
    /// Record header that holds the `type` of the message; a record without it gets the `type` of the topic.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub type_header: Option<String>,
    /// Record header that holds `ts` of the message, in Unix milliseconds; a record without it gets its Kafka timestamp.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub timestamp_header: Option<String>,
    /// Stands in for a key or header that `channel` names and a record lacks. Absent: such a record is skipped and counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub missing: Option<String>,
    /// What a record without a value does.
    pub tombstones: Tombstones,
}

/// What the value of a record is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ValueFormat {
    /// JSON goes to `data` as it is, other UTF-8 to `data` as a string, other bytes to `data_base64`.
    #[default]
    Auto,
    /// JSON goes to `data` as it is; a record that is no JSON is skipped and counted.
    Json,
    /// UTF-8 goes to `data` as a string; a record that is no UTF-8 is skipped and counted.
    Text,
    /// Every value goes to `data_base64`.
    Binary,
}

/// What a record without a value does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Tombstones {
    /// Subscribers receive `"data": null`: the thing named by the key is gone.
    #[default]
    Publish,
    /// Nobody hears of it.
    Skip,
}

/// How topics are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicSelector<'a> {
    /// The one topic of this name.
    Name(&'a str),
    /// Every topic whose whole name matches.
    Pattern(&'a str),
}

impl Topic {
    /// One topic by its name, with the defaults of a manifest.
    pub fn named(name: impl Into<String>, channel: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            channel: channel.into(),
            r#type: default_type(),
            partitions: default_partitions(),
            ..Self::default()
        }
    }

    /// How topics are chosen.
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
