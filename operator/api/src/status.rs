//! What the operator reports about a `WsCluster`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The observed state of a `WsCluster`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct WsClusterStatus {
    /// The generation of the spec this status speaks of.
    pub observed_generation: Option<i64>,
    /// Label selector of the shard pods, for the scale subresource.
    pub selector: Option<String>,
    /// Shards that are wanted: `spec.shards`, or what `spec.autoscale` makes of the connections.
    pub desired_shards: Option<u32>,
    /// Shards that exist.
    pub shards: Option<u32>,
    /// Shards that serve clients; also those that are full.
    pub ready_shards: Option<u32>,
    /// Live connections, all shards.
    pub connections: Option<u32>,
    /// Connections the existing shards may hold.
    pub capacity: Option<u32>,
    /// `connections / capacity` as a percentage, e.g. `42%`.
    pub utilization: Option<String>,
    /// One word for `kubectl get`.
    pub phase: Option<String>,
    /// `Ready`, `Progressing`, `Draining`, `Degraded`, `CapacityExhausted`, `Paused`.
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// One entry a shard.
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub members: Vec<Member>,
}

/// One shard as last seen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Member {
    /// Pod or process name.
    pub name: String,
    /// Position in the `StatefulSet`.
    pub ordinal: u32,
    /// Changes with every start of the process.
    pub incarnation: String,
    /// Revision of the pod template it runs.
    pub revision: String,
    /// `starting`, `ready`, `full`, `draining`, `silent` (gives no answer), `failing` (its process does not run) or `leaving` (its
    /// pod is terminating).
    pub state: String,
    /// Live connections.
    pub connections: u32,
    /// Connections it may hold.
    pub capacity: u32,
}
