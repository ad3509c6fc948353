//! Operations: draining, rollouts, rebalancing, and scaling by the number of connections.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::Span;

/// How a shard or gateway closes its connections before it is removed or replaced.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Drain {
    /// Connections that one draining shard or gateway closes per second.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub evict_rate: u32,
    /// Longest duration of a drain. When it has passed, the remaining connections are closed at once.
    pub deadline: Span,
    /// Delay before a client should reconnect, as sent to it when its connection is closed.
    pub retry_after: RetryAfter,
}

impl Drain {
    /// Pause before the first eviction. A client that is closed right after its handshake would count the handshake
    /// as failed.
    pub const SETTLE: Duration = Duration::from_millis(1_500);

    /// Time between the last accepted connection and the first eviction: [`Self::SETTLE`], but at most a quarter of
    /// the deadline.
    pub fn settle(&self) -> Duration {
        Self::SETTLE.min(self.deadline.0 / 4)
    }
}

/// Range of a delay. Each client gets a random value, so that clients do not all reconnect at the same time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RetryAfter {
    /// Shortest delay.
    pub min: Span,
    /// Longest delay.
    pub max: Span,
}

/// Sets the number of shards by the number of connections.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Autoscale {
    /// Smallest number of shards.
    #[schemars(range(min = 1, max = 1000))]
    pub min: u32,
    /// Largest number of shards.
    #[schemars(range(min = 1, max = 1000))]
    pub max: u32,
    /// Percentage of the capacity of all shards that should be in use.
    #[serde(default = "default_target")]
    #[schemars(range(min = 1, max = 100))]
    pub target_utilization: u32,
    /// Slots that are kept free for bursts in any case, even if `targetUtilization` asks for fewer shards.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub headroom: u32,
    /// When shards are added.
    #[serde(default)]
    pub scale_up: ScaleUp,
    /// When shards are removed.
    #[serde(default)]
    pub scale_down: ScaleDown,
}

/// Shards are added as soon as the connections need them, or are expected to before a new shard is ready.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ScaleUp {
    /// How far ahead connections are forecast. Set it to the time that a new shard needs to become ready; `0s`
    /// disables the forecast.
    pub lead: Span,
    /// Period over which the growth of connections is measured.
    pub window: Span,
}

/// Shards are removed late, and one at a time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ScaleDown {
    /// A shard is removed only if fewer shards were enough during this whole period.
    pub window: Span,
    /// Shortest time between the removals of two shards.
    pub interval: Span,
}

/// How shards are replaced and removed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Rollout {
    /// Shards that may drain, terminate or start at the same time. Each drains at `drain.evictRate`.
    #[schemars(range(min = 1, max = 1000))]
    pub max_in_motion: u32,
    /// Permits one extra shard during a rollout if the other shards have too few free slots for the connections that
    /// move.
    pub surge: bool,
    /// Each replacement of a shard waits for an approval: the annotation `wscluster.dev/approve: REVISION:ORDINAL`.
    pub supervised: bool,
}

/// Moves connections from fuller to emptier shards, for example after a scale-up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Rebalance {
    /// How far the utilization of the emptiest shard may be below that of the fullest, in percent of the fullest.
    #[schemars(range(min = 1, max = 100))]
    pub max_imbalance: u32,
    /// Connections that all shards together close per second for rebalancing.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub evict_rate: u32,
    /// Percentage of all connections that rebalancing may move within one hour.
    #[schemars(range(min = 1, max = 100))]
    pub budget: u32,
}

fn default_target() -> u32 {
    70
}

impl Default for ScaleUp {
    fn default() -> Self {
        Self { lead: Span::secs(60), window: Span::secs(60) }
    }
}

impl Default for ScaleDown {
    fn default() -> Self {
        Self { window: Span::secs(300), interval: Span::secs(60) }
    }
}

impl Default for Rollout {
    fn default() -> Self {
        Self { max_in_motion: 1, surge: true, supervised: false }
    }
}

impl Default for Rebalance {
    fn default() -> Self {
        Self { max_imbalance: 20, evict_rate: 10, budget: 10 }
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self { evict_rate: 100, deadline: Span::secs(120), retry_after: RetryAfter::default() }
    }
}

impl Default for RetryAfter {
    fn default() -> Self {
        Self { min: Span::millis(100), max: Span::secs(5) }
    }
}
