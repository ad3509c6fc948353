//! The source of messages: a Kafka cluster, and the history that a shard keeps of it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Security, Topic};
use crate::units::{Size, Span};

/// The source of messages.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Source {
    /// Apache Kafka, or another broker with the Kafka protocol.
    pub kafka: Kafka,
}

/// A Kafka cluster and the topics to read. Every shard reads every partition, without a consumer group.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Kafka {
    /// Bootstrap addresses, as `host:port`. If empty, `wscluster local` starts an embedded broker that keeps records
    /// in memory; the operator requires at least one.
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
    /// Topics to read, and the channels that their records are published to. If several entries match a topic, the
    /// first one applies.
    #[schemars(length(min = 1, max = 64))]
    pub topics: Vec<Topic>,
    /// Encryption and authentication. Default: neither.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security: Option<Security>,
    /// Client ID in logs, metrics and quotas of the brokers. Default: `wscluster-` and the name of the shard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255), regex(pattern = r"^[A-Za-z0-9._-]+$"))]
    pub client_id: Option<String>,
    /// Rack of the shards, so that they can read from the closest replica (KIP-392).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rack: Option<Rack>,
    /// Recent records that each shard keeps for reconnecting clients.
    #[serde(default)]
    pub history: History,
    /// Additional librdkafka properties, such as `fetch.wait.max.ms`. Properties that other fields of the manifest or
    /// the shard itself set are refused.
    #[serde(default)]
    #[schemars(extend("maxProperties" = 64))]
    pub properties: BTreeMap<String, String>,
}

/// Rack (availability zone) of a shard. Give exactly one field.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rack {
    /// Rack of all shards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub value: Option<String>,
    /// Environment variable of the shard that contains its rack.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128), regex(pattern = r"^[A-Za-z_][A-Za-z0-9_]*$"))]
    pub env: Option<String>,
}

/// Recent records that each shard keeps in memory for reconnecting clients.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct History {
    /// Maximum age of a kept record; `0s` keeps none.
    pub window: Span,
    /// Maximum size of all kept records of one shard.
    pub max_bytes: Size,
}

impl Default for History {
    fn default() -> Self {
        Self { window: Span::secs(60), max_bytes: Size(64 << 20) }
    }
}
