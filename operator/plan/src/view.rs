//! The input of a plan with the questions that all of its parts ask.

use std::time::Duration;

use crate::{Action, Cause, Desired, Observed, Shard, State, Timestamp};

/// A desired state, an observed state and the time.
pub(crate) struct View<'a> {
    pub(crate) desired: &'a Desired,
    pub(crate) observed: &'a Observed,
    pub(crate) now: Timestamp,
    /// Current replicas. Without a `StatefulSet`, the replicas that its existing pods would need.
    pub(crate) replicas: u32,
    /// Ordinals below this stay: the wanted shards and, during a rollout, the extra shard.
    pub(crate) keep: u32,
}

impl<'a> View<'a> {
    pub(crate) fn new(desired: &'a Desired, observed: &'a Observed, now: Timestamp) -> Self {
        let view = Self { desired, observed, now, replicas: replicas(observed), keep: desired.shards };
        Self { keep: desired.shards.saturating_add(u32::from(view.keeps_extra())), ..view }
    }

    /// The extra shard stays while it is of the wanted revision and some other shard is not.
    fn keeps_extra(&self) -> bool {
        let wanted = self.desired.shards;
        let is_good = |extra: &Shard| !self.is_stale(extra) && !matches!(extra.state, State::Draining | State::Leaving);
        let stale = |shard: &Shard| shard.ordinal < wanted && self.is_stale(shard) && shard.state != State::Leaving;
        self.desired.surge
            && self.replicas > wanted
            && self.observed.at(wanted).is_none_or(is_good)
            && self.observed.shards.iter().any(stale)
    }

    /// Whether the shard runs another revision than the wanted one.
    pub(crate) fn is_stale(&self, shard: &Shard) -> bool {
        shard.revision != self.desired.revision
    }

    /// Why the shard must go, if it must.
    pub(crate) fn cause(&self, shard: &Shard) -> Option<Cause> {
        if shard.ordinal >= self.keep {
            Some(Cause::Surplus { wanted: self.desired.shards })
        } else if self.is_stale(shard) {
            Some(Cause::Revision { from: shard.revision.clone(), to: self.desired.revision.clone() })
        } else {
            None
        }
    }

    /// Whether the drain deadline has passed, counted from `shard.since`.
    pub(crate) fn is_overdue(&self, shard: &Shard) -> bool {
        shard.since.is_some_and(|since| since + self.desired.deadline <= self.now)
    }

    /// Whether the pod should have terminated by now, for example because its node is lost. Nothing waits for such a
    /// pod, and its clients count as gone.
    pub(crate) fn never_ends(&self, shard: &Shard) -> bool {
        shard.state == State::Leaving && self.is_overdue(shard)
    }

    /// How long the shard has been in its state.
    pub(crate) fn age(&self, shard: &Shard) -> Option<Duration> {
        shard.since.map(|since| self.now.since(since))
    }

    /// How many shards may be in motion at the same time; at least one.
    pub(crate) fn most(&self) -> u32 {
        self.desired.max_in_motion.max(1)
    }

    /// How a shard that may go leaves now, given the planned `replicas` and `partition`. `None` if it must wait for a
    /// shard above it.
    pub(crate) fn exit(&self, shard: &Shard, replicas: u32, partition: u32) -> Option<Action> {
        if shard.ordinal >= replicas {
            return Some(Action::Remove);
        }
        // A pod below the partition comes back with the revision that all shards ran before, which the lowest shard
        // still runs. That is better than a failing one.
        let lowest = self.observed.shards.first();
        let heals = || shard.state == State::Failing && lowest.is_some_and(|lowest| lowest.revision != shard.revision);
        (shard.ordinal < self.keep && (shard.ordinal >= partition || heals())).then_some(Action::Restart)
    }
}

/// Pods may exist and serve without a `StatefulSet`, or after somebody scaled it to zero. A new one must ask for all
/// of them, or it would delete them.
fn replicas(observed: &Observed) -> u32 {
    let stays = |shard: &&Shard| shard.state != State::Leaving;
    match observed.replicas {
        0 => observed.shards.iter().rfind(stays).map_or(0, |shard| shard.ordinal.saturating_add(1)),
        replicas => replicas,
    }
}
