//! The JSON of `GET /health`. Shards, gateways and the local runner write it; gateways, the operator, tools and
//! scripts read it.
//!
//! Scripts in the field read `.status`, `.healthy`, `.checks.capacity.current`, `.checks.cpu.percentage`,
//! `.checks.memory.percentage` and `.shards[i].connections`: these keep their names and types.

use serde::{Deserialize, Serialize};

/// The overall health.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Nothing is wrong.
    Healthy,
    /// Clients are served, but something needs attention.
    Degraded,
    /// Clients are not served.
    Unhealthy,
}

impl Status {
    /// The word in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// What a shard or gateway does with new upgrades: the one enum for this in server, operator and tools.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Refuses: a shard while it fills its window from Kafka, a gateway until a shard answers.
    Starting,
    /// Grants slots.
    #[default]
    Ready,
    /// Every slot is taken.
    Full,
    /// Moves its connections away, and refuses; a gateway refuses only after its lag.
    Draining,
}

impl State {
    /// All states.
    pub const ALL: [Self; 4] = [Self::Starting, Self::Ready, Self::Full, Self::Draining];

    /// The word in JSON, in `X-Wscluster-Reason` and in metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Full => "full",
            Self::Draining => "draining",
        }
    }

    /// Whether it serves clients and takes new ones as slots become free.
    pub const fn is_serving(self) -> bool {
        matches!(self, Self::Ready | Self::Full)
    }
}

/// A shard as a gateway sees it: its [`State`], or unreachable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ViewState {
    /// See [`State::Starting`].
    Starting,
    /// See [`State::Ready`].
    Ready,
    /// See [`State::Full`].
    Full,
    /// See [`State::Draining`].
    Draining,
    /// It has not answered for 10 s, or never.
    Unreachable,
}

impl ViewState {
    /// The word in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => State::Starting.as_str(),
            Self::Ready => State::Ready.as_str(),
            Self::Full => State::Full.as_str(),
            Self::Draining => State::Draining.as_str(),
            Self::Unreachable => "unreachable",
        }
    }

    /// See [`State::is_serving`].
    pub const fn is_serving(self) -> bool {
        matches!(self, Self::Ready | Self::Full)
    }
}

impl From<State> for ViewState {
    fn from(state: State) -> Self {
        match state {
            State::Starting => Self::Starting,
            State::Ready => Self::Ready,
            State::Full => Self::Full,
            State::Draining => Self::Draining,
        }
    }
}

/// The connection of a shard to its source. The order is that of severity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KafkaStatus {
    /// There is no source.
    #[default]
    None,
    /// A broker answers, and the window is filled.
    Connected,
    /// The window is being filled.
    Filling,
    /// No broker answers.
    Disconnected,
}

impl KafkaStatus {
    /// The word in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Connected => "connected",
            Self::Filling => "filling",
            Self::Disconnected => "disconnected",
        }
    }
}

/// [`Display`](std::fmt::Display) as the word in JSON, which honours width and alignment.
macro_rules! display_as_str {
    ($($word:ty),*) => {$(
        impl std::fmt::Display for $word {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }
    )*};
}
display_as_str!(Status, State, ViewState, KafkaStatus);

/// Health of one shard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShardHealth {
    /// Overall health.
    pub status: Status,
    /// `status != unhealthy`.
    pub healthy: bool,
    /// What the process itself lacks (file descriptors, a fresh list of shards), and the remedy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What happens to new upgrades.
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
    /// Gateways that route clients to it: those that polled its health within the last 3 s.
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
    /// Overall health.
    pub status: Status,
    /// `status != unhealthy`.
    pub healthy: bool,
    /// What the process itself lacks (file descriptors, a fresh list of shards), and the remedy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What happens to new upgrades.
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
    /// The shards as this gateway sees them.
    pub shards: Vec<ShardView>,
    /// How the shards are discovered; absent if they are configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discovery: Option<Discovery>,
    /// `100 · (max − min) / max` over the connections of ready shards.
    pub imbalance_percent: f64,
    /// Seconds since start.
    pub uptime: f64,
}

/// The state of discovery through the Kubernetes API server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Discovery {
    /// The Service, `NAMESPACE/NAME`.
    pub service: String,
    /// Shards in the list.
    pub members: u32,
    /// Whether the API server has answered with a list at all.
    pub listed: bool,
    /// Seconds since the API server last confirmed the list: up to 60 while nothing is wrong.
    pub age_seconds: f64,
    /// Lists and watches that failed.
    pub errors: u64,
    /// The last failure, until the API server answers again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// One shard as a gateway sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShardView {
    /// Its name.
    pub id: String,
    /// `host:port` of its WebSocket port.
    pub address: String,
    /// Its state as far as this gateway knows.
    pub state: ViewState,
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
    /// cgroup limit or machine memory; 0 if unknown.
    pub limit_bytes: u64,
}

/// The source of a shard.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct KafkaCheck {
    /// Connection to the source.
    pub status: KafkaStatus,
    /// Records behind the end of the log over all partitions, counted until every worker has taken them.
    pub lag: u64,
    /// The last error, until it is resolved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// `100 · part / whole`, 0 for an empty whole.
pub fn percent(part: u32, whole: u32) -> f64 {
    if whole == 0 { 0.0 } else { 100.0 * f64::from(part) / f64::from(whole) }
}
