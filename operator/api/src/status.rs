//! The status of a `WsCluster`, which the operator writes.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The observed state of a `WsCluster`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct WsClusterStatus {
    /// Generation of the spec that this status refers to.
    pub observed_generation: Option<i64>,
    /// Label selector of the shard pods, for the `scale` subresource.
    pub selector: Option<String>,
    /// Wanted shards: `spec.shards`, or the result of `spec.autoscale`.
    pub desired_shards: Option<u32>,
    /// Existing shards.
    pub shards: Option<u32>,
    /// Shards that serve clients, including full ones.
    pub ready_shards: Option<u32>,
    /// Connections of all shards.
    pub connections: Option<u32>,
    /// Connections that the existing shards may hold.
    pub capacity: Option<u32>,
    /// `connections` in percent of `capacity`, such as `42%`.
    pub utilization: Option<String>,
    /// Summary for `kubectl get`: `Ready`, `Starting`, `ScalingUp`, `ScalingDown`, `RollingOut`, `Full`, `Degraded`,
    /// `Paused`, `Blocked` or `Invalid`.
    pub phase: Option<String>,
    /// Conditions of the types `Ready`, `Progressing`, `Draining`, `Degraded`, `CapacityExhausted` and `Paused`.
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The existing shards.
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub members: Vec<Member>,
}

/// A shard as last observed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Member {
    /// Name of the pod.
    pub name: String,
    /// Position in the `StatefulSet`.
    pub ordinal: u32,
    /// Random ID of the process; changes with every start.
    pub incarnation: String,
    /// Revision of its pod template.
    pub revision: String,
    /// `starting`, `ready`, `full`, `draining`, `silent` (does not answer), `failing` (its process does not run) or
    /// `leaving` (its pod is terminating).
    pub state: String,
    /// Connections that it holds.
    pub connections: u32,
    /// Connections that it may hold.
    pub capacity: u32,
}
