//! The custom resource itself: group, version, names, printer columns and its top-level fields.
//!
//! [`crate::definition`] completes what is derived here with the rules; use that one to install or to check.

#![allow(clippy::duplicated_attributes, reason = "one `printcolumn` a column, several of one type")]

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::spec::{Autoscale, Delivery, Drain, Gateway, Rebalance, Rollout, Source, Template};
use crate::status::WsClusterStatus;

/// A sharded WebSocket service: how many shards, how much each holds, and what they publish.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "wscluster.dev",
    version = "v1alpha1",
    kind = "WsCluster",
    plural = "wsclusters",
    shortname = "wsc",
    category = "all",
    category = "streaming",
    doc = "A sharded WebSocket service fed by Kafka",
    namespaced,
    status = "WsClusterStatus",
    derive = "PartialEq",
    scale(
        spec_replicas_path = ".spec.shards",
        status_replicas_path = ".status.shards",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Shards", type_ = "integer", json_path = ".status.desiredShards"),
    printcolumn(name = "Ready", type_ = "integer", json_path = ".status.readyShards"),
    printcolumn(name = "Connections", type_ = "integer", json_path = ".status.connections"),
    printcolumn(name = "Capacity", type_ = "integer", json_path = ".status.capacity"),
    printcolumn(name = "Used", type_ = "string", json_path = ".status.utilization"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct WsClusterSpec {
    /// How many shards hold connections; `kubectl scale` and autoscalers write it.
    #[serde(default = "default_shards")]
    #[schemars(range(min = 1, max = 1000))]
    pub shards: u32,
    /// Connections one shard may hold; a hard limit.
    #[serde(default = "default_capacity")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub capacity: u32,
    /// Where messages come from.
    pub source: Source,
    /// How messages reach clients.
    #[serde(default)]
    pub delivery: Delivery,
    /// The front door.
    #[serde(default)]
    pub gateway: Gateway,
    /// How connections are moved away from a shard that leaves.
    #[serde(default)]
    pub drain: Drain,
    /// How shards are replaced and removed, step by step.
    #[serde(default)]
    pub rollout: Rollout,
    /// Connections move to emptier shards, as after more were started; absent: they stay where they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rebalance: Option<Rebalance>,
    /// Shard count from live connections, instead of `shards`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscale: Option<Autoscale>,
    /// No shard is created, replaced or removed, and drains under way are taken back, until this is false again.
    #[serde(default)]
    pub paused: bool,
    /// What the processes look like: image, resources, placement.
    #[serde(default)]
    pub template: Template,
}

fn default_shards() -> u32 {
    1
}
fn default_capacity() -> u32 {
    6_000
}
