//! A partition whose history a starting shard reads: where the history ends, and how long the shard waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use crate::assignment::PartitionStart;

/// One partition.
pub(super) struct Filling {
    pub(super) topic: Arc<str>,
    pub(super) number: i32,
    pub(super) until: i64,
    pub(super) next: Arc<AtomicI64>,
    /// The value of `next` when it last grew, and when that was. Time without an answer of a broker does not count.
    reached: i64,
    since: Instant,
}

impl Filling {
    pub(super) fn new(start: &PartitionStart) -> Self {
        let PartitionStart { topic, partition, from, until, next, .. } = start;
        Self {
            topic: Arc::clone(topic),
            number: partition.number,
            until: *until,
            next: Arc::clone(next),
            reached: *from,
            since: Instant::now(),
        }
    }

    /// Whether to wait longer: records arrived within `patience`, or no broker answers.
    pub(super) fn waits(&mut self, now: Instant, brokers_answer: bool, patience: Duration) -> bool {
        let next = self.next.load(Ordering::Relaxed);
        if next > self.reached || !brokers_answer {
            (self.reached, self.since) = (next, now);
        }
        now.duration_since(self.since) < patience
    }
}
