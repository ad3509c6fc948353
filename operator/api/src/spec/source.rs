//! Where messages come from.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::{Size, Span};

/// Where messages come from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Source {
    /// Apache Kafka, or anything that speaks its protocol.
    pub kafka: Kafka,
}

/// A Kafka cluster and the topics to read. Every shard reads every partition once, without a consumer group.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Kafka {
    /// Bootstrap addresses, `host:port`. Empty: `wscluster local` starts an embedded, memory-only broker.
    pub brokers: Vec<String>,
    /// Topics and the channels their records go to.
    pub topics: Vec<Topic>,
    /// What a reconnecting client can get back.
    pub history: History,
    /// Further librdkafka properties.
    pub properties: BTreeMap<String, String>,
}

/// One topic and how its records become messages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Topic {
    /// Topic name.
    pub name: String,
    /// Channel of a record: text with `{key}`, `{topic}` and `{header:NAME}`.
    pub channel: String,
    /// `type` of the message that clients receive.
    #[serde(default = "default_type")]
    pub r#type: String,
    /// `priority` of the message that clients receive.
    #[serde(default)]
    pub priority: i32,
    /// Partitions to create the topic with; embedded broker only.
    #[serde(default = "default_partitions")]
    pub partitions: u32,
}

/// How much of the past a shard keeps in memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct History {
    /// Age of the oldest record kept.
    pub window: Span,
    /// Bytes kept, all channels together.
    pub max_bytes: Size,
}

impl Default for History {
    fn default() -> Self {
        Self { window: Span::secs(60), max_bytes: Size(64 << 20) }
    }
}

fn default_type() -> String {
    "price:update".to_owned()
}
fn default_partitions() -> u32 {
    3
}
