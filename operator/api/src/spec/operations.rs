//! How connections are moved, and how the shard count follows them.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::Span;

/// How connections are moved away from a shard that leaves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Drain {
    /// Connections that one shard closes per second.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub evict_rate: u32,
    /// After this long, whatever is left is closed at once.
    pub deadline: Span,
    /// Range of the hint to clients when to come back.
    pub retry_after: RetryAfter,
}

impl Drain {
    /// Who has just come, perhaps from another drain, is not sent on with the same breath, which a client takes for a failed
    /// handshake.
    pub const SETTLE: Duration = Duration::from_millis(1_500);

    /// From the last connection that is taken to the first that is told to go.
    pub fn settle(&self) -> Duration {
        Self::SETTLE.min(self.deadline.0 / 4)
    }
}

/// Range of a retry hint; each client gets its own value, drawn uniformly.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RetryAfter {
    /// Soonest.
    pub min: Span,
    /// Latest.
    pub max: Span,
}

/// Shard count from live connections.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Autoscale {
    /// Fewest shards.
    #[schemars(range(min = 1, max = 1000))]
    pub min: u32,
    /// Most shards.
    #[schemars(range(min = 1, max = 1000))]
    pub max: u32,
    /// Percentage of capacity to aim at.
    #[serde(default = "default_target")]
    #[schemars(range(min = 1, max = 100))]
    pub target_utilization: u32,
    /// Slots that stay free whatever the percentage says, for a burst.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub headroom: u32,
    /// When more shards are wanted.
    #[serde(default)]
    pub scale_up: ScaleUp,
    /// When fewer shards are wanted.
    #[serde(default)]
    pub scale_down: ScaleDown,
}

/// More shards are wanted as soon as the connections need them, or will before a new shard is ready.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ScaleUp {
    /// Time that a new shard needs until it takes connections: so far ahead they are foreseen; 0s foresees nothing.
    pub lead: Span,
    /// Time over which the growth of connections is measured.
    pub window: Span,
}

/// Fewer shards are wanted late, and one at a time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ScaleDown {
    /// Fewer shards must have been enough for so long.
    pub window: Span,
    /// Least time between two shards less.
    pub interval: Span,
}

/// How shards are replaced and removed, step by step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Rollout {
    /// Shards that may be in motion at once; each moves its connections at `drain.evictRate`.
    #[schemars(range(min = 1, max = 1000))]
    pub max_in_motion: u32,
    /// One shard more may be started while shards are replaced, where the others have too few free slots for what moves.
    pub surge: bool,
    /// Each replacement of a shard waits for a person to approve it.
    pub supervised: bool,
}

/// Moves connections to emptier shards, as after more were started.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Rebalance {
    /// Percentage by which the emptiest shard may be below the fullest.
    #[schemars(range(min = 1, max = 100))]
    pub max_imbalance: u32,
    /// Connections that all shards together close for it per second.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub evict_rate: u32,
    /// Percentage of all connections that may be moved for it within an hour.
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
