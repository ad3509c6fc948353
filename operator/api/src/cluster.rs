//! The custom resource: group, version, names, printer columns and top-level fields.
//!
//! The derived definition lacks the CEL rules; [`crate::definition()`] adds them.

#![allow(clippy::duplicated_attributes, reason = "each column is one `printcolumn`, and types repeat")]

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::spec::{Autoscale, Delivery, Drain, Gateway, Rebalance, Rollout, Source, Template};
use crate::status::WsClusterStatus;

/// The desired state of a sharded WebSocket service.
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
    /// Number of shards. `kubectl scale` and autoscalers write this field. Ignored if `autoscale` is set.
    #[serde(default = "default_shards")]
    #[schemars(range(min = 1, max = 1000))]
    pub shards: u32,
    /// Connections that one shard may hold. A shard refuses more.
    #[serde(default = "default_capacity")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub capacity: u32,
    /// The source of messages.
    pub source: Source,
    /// Delivery of messages to clients, and treatment of slow clients.
    #[serde(default)]
    pub delivery: Delivery,
    /// The gateways, which clients connect to.
    #[serde(default)]
    pub gateway: Gateway,
    /// How a shard or gateway closes its connections before it is removed or replaced.
    #[serde(default)]
    pub drain: Drain,
    /// How shards are replaced and removed.
    #[serde(default)]
    pub rollout: Rollout,
    /// Moves connections from fuller to emptier shards. If absent, connections stay where they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rebalance: Option<Rebalance>,
    /// Sets the number of shards by the number of connections, instead of `shards`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscale: Option<Autoscale>,
    /// While true, no shard is created, replaced or removed, and running drains are cancelled.
    #[serde(default)]
    pub paused: bool,
    /// Pods of shards and gateways: image, resources, scheduling.
    #[serde(default)]
    pub template: Template,
}

fn default_shards() -> u32 {
    1
}
fn default_capacity() -> u32 {
    6_000
}
