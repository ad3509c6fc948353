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

/// Bytes relayed between the clients of one worker and one shard.
#[derive(Debug, Default)]
pub struct FlowBytes {
    /// Client to shard.
    pub up: Bytes,
    /// Shard to client.
    pub down: Bytes,
}
