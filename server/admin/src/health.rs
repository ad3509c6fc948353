//! The JSON of `GET /health`, written by shards and gateways and read by people, scripts, the gateway and the tools.
//!
//! Scripts in the field read `.status`, `.healthy`, `.checks.capacity.current`, `.checks.cpu.percentage`,
//! `.checks.memory.percentage` and `.shards[i].connections`: these keep their names and types.

use serde::{Deserialize, Serialize};

/// The overall verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// All is well.
    Healthy,
    /// Clients are served, but something needs attention.
    Degraded,
    /// Clients are not served.
    Unhealthy,
}

/// What a shard or gateway does with new upgrades.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// A shard that fills its window from Kafka and refuses; a gateway that has heard no shard yet.
    Starting,
    /// Grants slots.
    #[default]
    Ready,
    /// Every slot is taken.
    Full,
    /// Moves its connections away: refuses, a gateway after its lag.
    Draining,
}

/// Health of one shard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShardHealth {
    /// Verdict.
    pub status: Status,
    /// `status != unhealthy`.
    pub healthy: bool,
    /// What the process itself lacks, and the remedy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What it does with new upgrades.
    pub state: State,
    /// Its name, e.g. `prices-1`.
    pub shard: String,
    /// Changes with every start of the process.
    pub incarnation: String,
    /// Revision of the pod template it runs; empty outside Kubernetes.
    pub revision: String,
    /// Live connections.
    pub connections: u32,
    /// Connections it may hold.
    pub capacity: u32,
    /// Gateways that send clients to it: those that asked for its health within the last 3 s.
    #[serde(default)]
    pub gateways: u32,
    /// `capacity − connections` while ready, else 0.
    pub available: u32,
    /// `100 · connections / capacity`.
    pub utilization: f64,
    /// Details.
    pub checks: Checks,
    /// Seconds since start.
    pub uptime: f64,
}

/// Health of one gateway: checks summed over the shards it knows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GatewayHealth {
    /// Verdict.
    pub status: Status,
    /// `status != unhealthy`.
    pub healthy: bool,
    /// What the process itself lacks, and the remedy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What it does with new upgrades.
    #[serde(default)]
    pub state: State,
    /// Changes with every start of the process.
    pub incarnation: String,
    /// Tunnels this gateway holds.
    pub tunnels: u32,
    /// Upgrades that wait in this gateway for a slot.
    pub queued: u32,
    /// Details, summed over the cluster.
    pub checks: Checks,
    /// The shards as last seen.
    pub shards: Vec<ShardView>,
    /// How the shards are found, where they are not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discovery: Option<Discovery>,
    /// `100 · (max − min) / max` over the connections of ready shards.
    pub imbalance_percent: f64,
    /// Seconds since start.
    pub uptime: f64,
}

/// The list of shards that a gateway follows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Discovery {
    /// The Service, `NAMESPACE/NAME`.
    pub service: String,
    /// Shards in the list.
    pub members: u32,
    /// Whether there was a list at all.
    pub listed: bool,
    /// Seconds since the API server last confirmed it: up to 60 while all is well.
    pub age_seconds: f64,
    /// Lists and watches that failed.
    pub errors: u64,
    /// The last failure, until the API server is heard again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// One shard as a gateway sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShardView {
    /// Its name.
    pub id: String,
    /// Where its WebSocket port is.
    pub address: String,
    /// `starting`, `ready`, `full`, `draining` or `unreachable`.
    pub state: String,
    /// Live connections.
    pub connections: u32,
    /// Connections it may hold.
    pub max_connections: u32,
    /// Free slots.
    pub available_slots: u32,
    /// `100 · connections / max_connections`.
    pub utilization: f64,
    /// Milliseconds since the last health answer.
    pub age_ms: u64,
}

/// Details of a health answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Checks {
    /// Slots.
    pub capacity: CapacityCheck,
    /// CPU of the process.
    pub cpu: CpuCheck,
    /// Memory of the process.
    pub memory: MemoryCheck,
    /// The source.
    #[serde(default)]
    pub kafka: KafkaCheck,
}

/// Slots taken.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CapacityCheck {
    /// Taken.
    pub current: u32,
    /// All.
    pub max: u32,
    /// `100 · current / max`.
    pub percentage: f64,
}

/// CPU: informative only, never a reason to refuse.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CpuCheck {
    /// 100 = one core busy.
    pub percentage: f64,
}

/// Memory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MemoryCheck {
    /// Of the limit.
    pub percentage: f64,
    /// Resident.
    pub bytes: u64,
    /// cgroup limit or machine memory; 0 when not known.
    pub limit_bytes: u64,
}

/// The source as a shard sees it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct KafkaCheck {
    /// `connected`, `filling`, `disconnected`, or `none`.
    pub status: String,
    /// Records behind the end of the log, all partitions: those that not every worker has taken yet.
    pub lag: u64,
    /// The last error, until it is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// `100 · part / whole`, 0 for an empty whole.
pub fn percent(part: u32, whole: u32) -> f64 {
    if whole == 0 { 0.0 } else { 100.0 * f64::from(part) / f64::from(whole) }
}
