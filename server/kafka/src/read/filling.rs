//! A partition whose history a starting shard reads: until when, and for how long it is waited for.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use crate::assignment::Start;

/// One partition.
pub(super) struct Filling {
    pub(super) topic: Arc<str>,
    pub(super) number: i32,
    pub(super) until: i64,
    pub(super) next: Arc<AtomicI64>,
    /// What `next` was when it last grew, and when that was; time in which no broker answered does not count.
    reached: i64,
    since: Instant,
}

impl Filling {
    pub(super) fn new(start: &Start) -> Self {
        let Start { topic, partition, from, until, next, .. } = start;
        Self {
            topic: Arc::clone(topic),
            number: partition.number,
            until: *until,
            next: Arc::clone(next),
            reached: *from,
            since: Instant::now(),
        }
    }

    /// Whether its records came within `patience`, or may come when the brokers are back.
    pub(super) fn waits(&mut self, now: Instant, brokers_answer: bool, patience: Duration) -> bool {
        let next = self.next.load(Ordering::Relaxed);
        if next > self.reached || !brokers_answer {
            (self.reached, self.since) = (next, now);
        }
        now.duration_since(self.since) < patience
    }
}
