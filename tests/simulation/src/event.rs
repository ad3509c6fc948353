//! What happens when: a queue in virtual time. Events of the same moment happen in the order in which they were planned.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::Ms;

/// Something that happens. Shards are named by the uid of their pod and the incarnation of their process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The spec changes: index into the scenario.
    Edit(usize),
    /// Something breaks: index into the scenario.
    Break(usize),
    /// It is whole again.
    Mend(usize),
    /// The operator observes and plans.
    Observe(u32),
    /// What it planned takes effect.
    Act(u32),
    /// The operator asks every shard for its health.
    Ask(u32),
    /// The operator's process is there again.
    OperatorStarts,
    /// The `StatefulSet` controller looks.
    Sync,
    /// A container starts.
    Start(u32),
    /// A shard has filled its window.
    Filled(u32, u32),
    /// A shard evicts one: with the number of its drain.
    Evict(u32, u32),
    /// A drain is over.
    DrainOver(u32, u32),
    /// A pod's grace period has passed.
    Kill(u32),
    /// A pod is gone.
    Gone(u32),
    /// A partitioned shard notices that a client is gone.
    Ghost(u32, u32),
    /// A gateway hears of pods that came or went.
    Discover(usize),
    /// A gateway asks every shard for its health.
    Poll(usize),
    /// A gateway is there again.
    GatewayStarts(usize),
    /// A client dials.
    Knock(u32, u32),
    /// Its upgrade reaches a shard.
    Upgrade(u32, u32, u32),
    /// The gateway gives up on that shard.
    Timeout(u32, u32, u32),
    /// It has waited in the queue for a while.
    Retry(u32, u32),
    /// It leaves for good.
    Leave(u32),
    /// Everything is checked.
    Check,
}

/// Events to come.
#[derive(Debug, Default)]
pub struct Queue {
    heap: BinaryHeap<Entry>,
    next: u64,
}

#[derive(Debug, PartialEq, Eq)]
struct Entry {
    at: Ms,
    number: u64,
    event: Event,
}

impl Ord for Entry {
    /// The earliest is the greatest, as the heap gives that one first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Queue {
    /// Plans `event` for `at`.
    pub fn plan(&mut self, at: Ms, event: Event) {
        self.heap.push(Entry { at, number: self.next, event });
        self.next += 1;
    }

    /// The next one.
    pub fn pop(&mut self) -> Option<(Ms, Event)> {
        self.heap.pop().map(|entry| (entry.at, entry.event))
    }
}
