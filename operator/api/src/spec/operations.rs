//! How connections are moved, and how the shard count follows them.

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
}

fn default_target() -> u32 {
    70
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
