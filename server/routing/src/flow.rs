//! Counters of relayed bytes that need no locked instructions.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A counter of bytes that one thread writes and others read.
#[derive(Debug, Default)]
pub struct Bytes(AtomicU64);

impl Bytes {
    /// Adds `n`. Only the owning thread may call it.
    pub fn add(&self, n: usize) {
        self.0.store(self.0.load(Relaxed) + n as u64, Relaxed);
    }

    /// The count so far.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number of tunnels that one thread changes and others read.
#[derive(Debug, Default)]
pub struct Tunnels(AtomicU64);

impl Tunnels {
    /// One more, or one fewer. Only the owning thread may call it.
    pub fn change(&self, more: bool) {
        let now = self.0.load(Relaxed);
        self.0.store(if more { now + 1 } else { now.saturating_sub(1) }, Relaxed);
    }

    /// The number now.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// What passes between the clients of one worker and one shard.
#[derive(Debug, Default)]
pub struct FlowBytes {
    /// Client to shard.
    pub up: Bytes,
    /// Shard to client.
    pub down: Bytes,
    /// Tunnels whose shard accepts no bytes at the moment.
    pub stalled_up: Tunnels,
    /// Tunnels whose client accepts no bytes at the moment.
    pub stalled_down: Tunnels,
}
