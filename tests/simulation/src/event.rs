//! The event queue, in virtual time. Events of the same time happen in the order in which they were scheduled.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::Ms;

/// An event. Shards are identified by the uid of their pod and the incarnation of their process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The spec is edited: index into the scenario.
    Edit(usize),
    /// A fault begins: index into the scenario.
    Break(usize),
    /// A fault ends.
    Mend(usize),
    /// The operator observes and plans.
    Observe(u32),
    /// The operator executes its plan.
    Act(u32),
    /// The operator polls the health of every shard.
    Ask(u32),
    /// The operator's process has restarted.
    OperatorStarts,
    /// The `StatefulSet` controller reconciles.
    Sync,
    /// A container starts.
    Start(u32),
    /// A shard has filled its window.
    Filled(u32, u32),
    /// A shard evicts one client: with the number of the drain.
    Evict(u32, u32),
    /// A drain's deadline has passed.
    DrainOver(u32, u32),
    /// A pod's grace period is over.
    Kill(u32),
    /// The object of a pod is deleted.
    Gone(u32),
    /// A partitioned shard notices that a client is gone.
    Ghost(u32, u32),
    /// A gateway receives a change of the list of shards.
    Discover(usize),
    /// A gateway polls the health of every shard.
    Poll(usize),
    /// A gateway has restarted.
    GatewayStarts(usize),
    /// A client connects to a gateway.
    Knock(u32, u32),
    /// The upgrade of a client reaches a shard.
    Upgrade(u32, u32, u32),
    /// The gateway stops waiting for the answer of the shard.
    Timeout(u32, u32, u32),
    /// A queued client tries again.
    Retry(u32, u32),
    /// A client leaves for good.
    Leave(u32),
    /// The periodic checks run.
    Check,
}

/// The scheduled events.
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
    /// Reversed: the heap returns the greatest, which must be the earliest.
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
    /// Schedules `event` at `at`.
    pub fn plan(&mut self, at: Ms, event: Event) {
        self.heap.push(Entry { at, number: self.next, event });
        self.next += 1;
    }

    /// Removes and returns the next event.
    pub fn pop(&mut self) -> Option<(Ms, Event)> {
        self.heap.pop().map(|entry| (entry.at, entry.event))
    }
}
