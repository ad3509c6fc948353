//! Kafka's log as shards read it: one partition with a constant rate; positions are valid on every shard.
//!
//! A session delivers an interval of offsets. A client resumes with its last offset, and the next interval must begin
//! there: a gap is a loss, an overlap a duplicate. A shard that cannot serve the offset must report that.

use crate::Ms;

/// Records per second.
const RATE: u64 = 50;

/// The offset that is written next at time `at`.
pub const fn end(at: Ms) -> u64 {
    at * RATE / 1_000
}

/// The reader of a shard.
#[derive(Clone, Copy, Debug)]
pub struct Reader {
    /// Its lag behind the end of the log, in milliseconds.
    pub lag: Ms,
    /// The offset at which it stopped, while it cannot read.
    pub stopped: Option<u64>,
    /// The first offset of its window when the window was filled.
    pub filled_from: u64,
    /// The time that its window covers.
    pub window: Ms,
}

impl Reader {
    /// The next offset to read.
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
