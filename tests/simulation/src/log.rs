//! Kafka's log as shards read it: one partition, a steady rate, positions that mean the same everywhere.
//!
//! What a client gets is an interval of offsets for each of its sessions. A client that follows the protocol says its last offset
//! when it comes back, and the next interval has to begin there: a hole is a loss, an overlap a repeat. A shard that cannot
//! serve it has to say so.

use crate::Ms;

/// Records a second.
const RATE: u64 = 50;

/// The offset that is written next at `at`.
pub const fn end(at: Ms) -> u64 {
    at * RATE / 1_000
}

/// How a shard reads.
#[derive(Clone, Copy, Debug)]
pub struct Reader {
    /// Behind the log by so much.
    pub lag: Ms,
    /// Where it stopped, while it cannot read.
    pub stopped: Option<u64>,
    /// The first offset in its window when that was filled.
    pub filled_from: u64,
    /// How much time its window covers.
    pub window: Ms,
}

impl Reader {
    /// The offset that it reads next.
    pub fn at(&self, now: Ms) -> u64 {
        self.stopped.unwrap_or_else(|| end(now.saturating_sub(self.lag)))
    }

    /// The first offset that it can serve.
    pub fn low(&self, now: Ms) -> u64 {
        self.filled_from.max(end(now.saturating_sub(self.window)))
    }

    /// Reading stops.
    pub fn stop(&mut self, now: Ms) {
        self.stopped = Some(self.at(now));
    }
}
