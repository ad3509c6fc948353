//! How many shards the connections need: up at once and with foresight, down late and one at a time.
//!
//! More are wanted as soon as connections pass the target, or will before a new shard is ready: they are foreseen from the
//! slope of their highest number so far. So clients that come back after a crash are no growth, and a new high is.
//! Fewer are wanted when fewer, with a twentieth to spare, were enough for the whole of a window. Never both within a window, so
//! it cannot flap.

use std::fmt;
use std::time::Duration;

use wscluster_api::spec::Autoscale;

use crate::Timestamp;

/// How many connections there were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// When.
    pub at: Timestamp,
    /// Live connections of all shards, and the upgrades that wait for a slot.
    pub connections: u32,
}

/// What is there to scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale {
    /// Shards wanted until now.
    pub shards: u32,
    /// Connections that one may hold.
    pub capacity: u32,
    /// When that number last changed, where known.
    pub changed: Option<Timestamp>,
}

/// How many shards are wanted now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// So many.
    pub shards: u32,
    /// Why.
    pub why: Why,
}

/// Why so many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The spec says so.
    Declared,
    /// Nothing is known about connections.
    NoSamples,
    /// As many as the connections need.
    Load {
        /// So many connections.
        connections: u32,
    },
    /// As many as the connections will need.
    Growth {
        /// So many connections are foreseen.
        foreseen: u32,
        /// More of them in a minute.
        per_minute: u32,
    },
    /// Fewer might be enough; it is too early to tell.
    Window {
        /// So many would be enough.
        enough: u32,
    },
    /// Fewer are enough; the last change is too recent.
    Interval {
        /// So many are enough.
        enough: u32,
    },
    /// Fewer are enough.
    Less {
        /// So many are enough.
        enough: u32,
    },
}

/// How many shards `samples` ask for. They are sorted by time and reach back over both windows; what is older is ignored.
pub fn autoscale(rules: &Autoscale, scale: &Scale, samples: &[Sample], now: Timestamp) -> Wanted {
    let clamp = |shards: u32| shards.clamp(rules.min, rules.max.max(rules.min));
    let Some(last) = samples.last() else { return Wanted { shards: clamp(scale.shards), why: Why::NoSamples } };
    let per_second = growth(rules, samples, now);
    let ahead = (per_second * rules.scale_up.lead.0.as_secs_f64()).min(f64::from(u32::MAX)) as u32;
    let foreseen = last.connections.saturating_add(ahead);
    let needed = clamp(enough(rules, scale.capacity, last.connections));
    let will_need = clamp(enough(rules, scale.capacity, foreseen));
    if will_need > scale.shards {
        let growth = Why::Growth { foreseen, per_minute: (per_second * 60.0).min(f64::from(u32::MAX)) as u32 };
        let why = if will_need > needed { growth } else { Why::Load { connections: last.connections } };
        return Wanted { shards: will_need, why };
    }
    let window = rules.scale_down.window.0;
    let recent = samples.iter().filter(|sample| now.since(sample.at) <= window || sample.at == last.at);
    let highest = recent.map(|sample| sample.connections).max().unwrap_or(last.connections);
    // A twentieth to spare, or the next client would bring the shard back.
    let less = clamp(enough(rules, scale.capacity, highest.saturating_add(highest / 20))).max(will_need);
    let stay = |why| Wanted { shards: clamp(scale.shards), why };
    if less >= scale.shards {
        return stay(Why::Load { connections: last.connections });
    }
    if clamp(scale.shards) < scale.shards {
        // Beyond what is allowed at all: that needs no patience.
        return stay(Why::Less { enough: less });
    }
    if samples.first().is_none_or(|first| now.since(first.at) < window) {
        return stay(Why::Window { enough: less });
    }
    if scale.changed.is_some_and(|changed| now.since(changed) < rules.scale_down.interval.0) {
        return stay(Why::Interval { enough: less });
    }
    Wanted { shards: clamp(scale.shards - 1), why: Why::Less { enough: less } }
}

/// Shards that hold `connections` at the target, and leave the headroom.
fn enough(rules: &Autoscale, capacity: u32, connections: u32) -> u32 {
    let (connections, capacity) = (u64::from(connections), u64::from(capacity.max(1)));
    let at_target = (connections * 100).div_ceil(capacity * u64::from(rules.target_utilization.max(1)));
    let with_headroom = (connections + u64::from(rules.headroom)).div_ceil(capacity);
    at_target.max(with_headroom).min(u64::from(u32::MAX)) as u32
}

/// Connections more a second, by least squares over the highest number until each sample of the window. Nothing, until half
/// of the window is known.
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

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Declared => f.write_str("as the spec says"),
            Self::NoSamples => f.write_str("nothing is known about connections yet"),
            Self::Load { connections } => write!(f, "{connections} connections"),
            Self::Growth { foreseen, per_minute } => {
                write!(f, "{foreseen} connections foreseen, {per_minute} more a minute")
            }
            Self::Window { enough } => write!(f, "{enough} may be enough, for too short a time yet"),
            Self::Interval { enough } => write!(f, "{enough} are enough, soon after the last change"),
            Self::Less { enough } => write!(f, "{enough} are enough"),
        }
    }
}

#[cfg(test)]
mod tests;
