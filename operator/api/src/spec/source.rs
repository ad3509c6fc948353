//! Where messages come from: a Kafka cluster and how much of its past a shard keeps.
//!
//! What a topic's records become stands in [`super::topic`], how a broker is trusted in [`super::security`].

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Security, Topic};
use crate::units::{Size, Span};

/// Where messages come from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Source {
    /// Apache Kafka, or anything that speaks its protocol.
    pub kafka: Kafka,
}

/// A Kafka cluster and the topics to read. Every shard reads every partition once, without a consumer group.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Kafka {
    /// Bootstrap addresses, `host:port`. Empty: `wscluster local` starts an embedded, memory-only broker.
    #[serde(default)]
    #[schemars(
        length(max = 32),
        inner(
            length(max = 260),
            regex(
                pattern = r"^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])$"
            )
        )
    )]
    pub brokers: Vec<String>,
    /// Topics and the channels their records go to. A topic is read by the first entry that names or matches it.
    #[schemars(length(min = 1, max = 64))]
    pub topics: Vec<Topic>,
    /// Encryption and login. Absent: plain text, no login.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security: Option<Security>,
    /// Name of these clients in the brokers' logs, metrics and quotas. Absent: `wscluster-` and the name of the shard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255), regex(pattern = r"^[A-Za-z0-9._-]+$"))]
    pub client_id: Option<String>,
    /// Where the shards run, so that they read from the closest replica (KIP-392).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rack: Option<Rack>,
    /// What a reconnecting client can get back.
    #[serde(default)]
    pub history: History,
    /// Further librdkafka properties, such as `fetch.wait.max.ms`; not those that this manifest or the shard itself sets.
    #[serde(default)]
    #[schemars(extend("maxProperties" = 64))]
    pub properties: BTreeMap<String, String>,
}

/// Rack (zone) of a shard: exactly one of its fields.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rack {
    /// The same rack for every shard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub value: Option<String>,
    /// Environment variable of the shard that holds its rack.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128), regex(pattern = r"^[A-Za-z_][A-Za-z0-9_]*$"))]
    pub env: Option<String>,
}

/// How much of the past a shard keeps in memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct History {
    /// Age of the oldest record kept; 0s keeps none.
    pub window: Span,
    /// Bytes kept by one shard, all channels together.
    pub max_bytes: Size,
}

impl Default for History {
    fn default() -> Self {
        Self { window: Span::secs(60), max_bytes: Size(64 << 20) }
    }
}
