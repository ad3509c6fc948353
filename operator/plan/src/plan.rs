//! What a plan says.

use std::time::Duration;

use crate::{Blocked, Reason};

/// What to do now; computed anew after every change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Replicas of the `StatefulSet`.
    pub replicas: u32,
    /// Partition of its rolling update: pods below stay on the revision they have. To be applied together with the template
    /// and `replicas`, in one write, or a new template rolls by itself.
    pub partition: u32,
    /// One for each shard that exists or is wanted, by ordinal.
    pub steps: Vec<Step>,
    /// Why the next step cannot start, where one should.
    pub blocked: Option<Blocked>,
    /// When to plan anew although nothing was heard: a deadline passes, or a drain should be over.
    pub look_again: Option<Duration>,
}

/// What happens to one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Which.
    pub ordinal: u32,
    /// What.
    pub action: Action,
    /// Why, with the numbers.
    pub reason: Reason,
}

/// What to do with a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Nothing.
    Wait,
    /// Have it move its connections away.
    Drain {
        /// Connections a second.
        rate: u32,
        /// After this long it closes the rest at once.
        deadline: Duration,
    },
    /// Have it take connections again.
    Undrain,
    /// Take it away: `replicas` is at or below its ordinal.
    Remove,
    /// Replace its pod by one of the newest template. `partition` allows it, but for a failing shard below it: deleting that
    /// one's pod brings back the revision that all shards had last.
    Restart,
}
