//! What the message of a condition is about, without its numbers.

use std::mem::Discriminant;

use wscluster_plan::{Blocked, Reason};

use crate::metrics::ErrorCategory;

/// A subject of a message. Messages with the same subjects differ only in details that need no Event: numbers,
/// ordinals, and texts from Kubernetes or Kafka.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// The revision that is being rolled out.
    Revision(String),
    /// A step of a shard, by the kind of its reason.
    Step(Discriminant<Reason>),
    /// Why the next step cannot start.
    Blocked(Discriminant<Blocked>),
    /// A shard that drains or terminates.
    Draining,
    /// Further shards that the message does not name.
    More,
    /// A field of the spec that breaks a rule.
    Field(String),
    /// A failure to apply the objects of the cluster.
    Failure(ErrorCategory),
    /// A problem, by its reason.
    Problem(&'static str),
}

impl Subject {
    pub(super) fn step(reason: &Reason) -> Self {
        Self::Step(std::mem::discriminant(reason))
    }

    pub(super) fn blocked(blocked: &Blocked) -> Self {
        Self::Blocked(std::mem::discriminant(blocked))
    }
}
