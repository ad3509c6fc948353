//! The result of planning.

use std::time::Duration;

use crate::{Blocked, Reason};

/// What to do now. Computed again after every change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// `replicas` of the `StatefulSet`.
    pub replicas: u32,
    /// `partition` of its rolling update: pods with a lower ordinal keep their revision. Must be written together with
    /// the template and `replicas`; otherwise a new template rolls out on its own.
    pub partition: u32,
    /// One step for each existing or wanted shard, sorted by ordinal.
    pub steps: Vec<Step>,
    /// Why the next step cannot start, if there is one.
    pub blocked: Option<Blocked>,
    /// When to plan again even if nothing changes: a deadline passes, or a drain should be complete.
    pub look_again: Option<Duration>,
}

/// What happens to one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Position of the shard in the `StatefulSet`.
    pub ordinal: u32,
    /// What the caller does with it.
    pub action: Action,
    /// Why, with the numbers that users see in events and conditions.
    pub reason: Reason,
}

/// An action on a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Do nothing.
    Wait,
    /// Start a drain.
    Drain {
        /// Connections to close per second.
        rate: u32,
        /// When this has passed, the shard closes the remaining connections at once.
        deadline: Duration,
    },
    /// Cancel the drain: the shard accepts upgrades again.
    Undrain,
    /// Remove the shard: `replicas` is at or below its ordinal.
    Remove,
    /// Replace its pod with one of the newest template. `partition` permits this, except for a failing shard below
    /// `partition`: deleting its pod brings back the revision that all shards ran before.
    Restart,
}
