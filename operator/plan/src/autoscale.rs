//! Computes the number of shards that the connections need. It scales up at once and ahead of time, and down late and
//! one shard at a time.
//!
//! Scaling up: more shards are wanted as soon as connections exceed the target, or are expected to before a new shard
//! is ready. The forecast follows the slope of the highest count so far, so clients that return after a crash do not
//! count as growth. Scaling down: fewer shards are wanted if fewer, with 5 % to spare, were enough for a whole
//! window. Within one window only one of the two happens, so the number does not oscillate.

use std::fmt;
use std::time::Duration;

use wscluster_api::spec::Autoscale;

use crate::Timestamp;

/// The number of connections at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Time of the sample.
    pub at: Timestamp,
    /// Live connections of all shards, plus upgrades that wait for a slot.
    pub connections: u32,
}

/// The scale that a decision starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CurrentScale {
    /// Shards that were wanted until now.
    pub shards: u32,
    /// Connections that one shard may hold.
    pub capacity: u32,
    /// When `shards` last changed, if known.
    pub changed: Option<Timestamp>,
}

/// The result of [`autoscale()`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WantedShards {
    /// Number of shards.
    pub shards: u32,
    /// Why this number, for events and logs.
    pub reason: ScaleReason,
}

/// Why a number of shards is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScaleReason {
    /// The spec sets the number.
    Declared,
    /// The number of connections is not known yet.
    NoSamples,
    /// The connections need this many shards.
    Load {
        /// Current connections.
        connections: u32,
    },
    /// The expected connections need this many shards.
    Growth {
        /// Expected connections when a shard started now would be ready.
        expected: u32,
        /// Growth in connections per minute.
        per_minute: u32,
    },
    /// Fewer shards may be enough, but the observation does not cover the whole window yet.
    Window {
        /// Shards that may be enough.
        enough: u32,
    },
    /// Fewer shards are enough, but the last change is too recent.
    Interval {
        /// Shards that are enough.
        enough: u32,
    },
    /// Fewer shards are enough.
    Less {
        /// Shards that are enough.
        enough: u32,
    },
}

/// Computes the wanted number of shards from `samples`, which are sorted by time and cover both windows. Older
/// samples are ignored.
pub fn autoscale(rules: &Autoscale, scale: &CurrentScale, samples: &[Sample], now: Timestamp) -> WantedShards {
    let clamp = |shards: u32| shards.clamp(rules.min, rules.max.max(rules.min));
    let Some(last) = samples.last() else {
        return WantedShards { shards: clamp(scale.shards), reason: ScaleReason::NoSamples };
    };
    let per_second = growth(rules, samples, now);
    let ahead = (per_second * rules.scale_up.lead.0.as_secs_f64()).min(f64::from(u32::MAX)) as u32;
    let expected = last.connections.saturating_add(ahead);
    let needed = clamp(enough(rules, scale.capacity, last.connections));
    let will_need = clamp(enough(rules, scale.capacity, expected));
    if will_need > scale.shards {
        let per_minute = (per_second * 60.0).min(f64::from(u32::MAX)) as u32;
        let growth = ScaleReason::Growth { expected, per_minute };
        let reason = if will_need > needed { growth } else { ScaleReason::Load { connections: last.connections } };
        return WantedShards { shards: will_need, reason };
    }
    let window = rules.scale_down.window.0;
    let recent = samples.iter().filter(|sample| now.since(sample.at) <= window || sample.at == last.at);
    let highest = recent.map(|sample| sample.connections).max().unwrap_or(last.connections);
    // 5 % to spare; otherwise the next client would require the removed shard again.
    let less = clamp(enough(rules, scale.capacity, highest.saturating_add(highest / 20))).max(will_need);
    let stay = |reason| WantedShards { shards: clamp(scale.shards), reason };
    if less >= scale.shards {
        return stay(ScaleReason::Load { connections: last.connections });
    }
    if clamp(scale.shards) < scale.shards {
        // Above `max`: no need to wait for the window.
        return stay(ScaleReason::Less { enough: less });
    }
    if samples.first().is_none_or(|first| now.since(first.at) < window) {
        return stay(ScaleReason::Window { enough: less });
    }
    if scale.changed.is_some_and(|changed| now.since(changed) < rules.scale_down.interval.0) {
        return stay(ScaleReason::Interval { enough: less });
    }
    WantedShards { shards: clamp(scale.shards - 1), reason: ScaleReason::Less { enough: less } }
}

/// Shards that hold `connections` at the target utilization and with the headroom.
fn enough(rules: &Autoscale, capacity: u32, connections: u32) -> u32 {
    let (connections, capacity) = (u64::from(connections), u64::from(capacity.max(1)));
    let at_target = (connections * 100).div_ceil(capacity * u64::from(rules.target_utilization.max(1)));
    let with_headroom = (connections + u64::from(rules.headroom)).div_ceil(capacity);
    at_target.max(with_headroom).min(u64::from(u32::MAX)) as u32
}

/// Growth in connections per second: a least-squares fit over the running maximum within the window. Zero until
/// samples cover half of the window.
fn growth(rules: &Autoscale, samples: &[Sample], now: Timestamp) -> f64 {
    let window = rules.scale_up.window.0;
    let mut highest = 0;
    let mut points = Vec::new();
    for sample in samples {
        highest = highest.max(sample.connections);
        if now.since(sample.at) <= window {
            points.push((sample.at.0.as_secs_f64(), f64::from(highest)));
        }
    }
    let known = samples.first().map_or(Duration::ZERO, |first| now.since(first.at));
    if points.len() < 2 || known < window / 2 {
        return 0.0;
    }
    let n = points.len() as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0 / n, y + point.1 / n));
    let (above, below) = points.iter().fold((0.0, 0.0), |(above, below), point| {
        (above + (point.0 - x) * (point.1 - y), below + (point.0 - x) * (point.0 - x))
    });
    if below > 0.0 { (above / below).max(0.0) } else { 0.0 }
}

impl fmt::Display for ScaleReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Declared => f.write_str("the spec sets this number"),
            Self::NoSamples => f.write_str("the number of connections is not known yet"),
            Self::Load { connections } => write!(f, "{connections} connections"),
            Self::Growth { expected, per_minute } => {
                write!(f, "{expected} connections expected, growing by {per_minute} per minute")
            }
            Self::Window { enough } => write!(f, "{enough} may be enough, observed for too short a time"),
            Self::Interval { enough } => write!(f, "{enough} are enough, but the last change is too recent"),
            Self::Less { enough } => write!(f, "{enough} are enough"),
        }
    }
}

#[cfg(test)]
mod tests;
