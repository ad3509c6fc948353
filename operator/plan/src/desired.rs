//! The desired state of the shards.

use std::time::Duration;

use wscluster_api::WsClusterSpec;

/// The part of a spec that a plan depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// Number of shards: `spec.shards`, or the result of [`autoscale`](crate::autoscale()).
    pub shards: u32,
    /// Revision of the pod template.
    pub revision: String,
    /// Connections that one shard of this revision may hold.
    pub capacity: u32,
    /// Connections that a draining shard closes per second.
    pub evict_rate: u32,
    /// Longest duration of a drain. The shard may then be removed with connections left.
    pub deadline: Duration,
    /// No step starts, and running drains are cancelled.
    pub paused: bool,
    /// Shards that may drain, terminate or start at the same time.
    pub max_in_motion: u32,
    /// During a rollout, one extra shard may be started if the others have too few free slots.
    pub surge: bool,
    /// Each step of a rollout requires an approval.
    pub supervised: bool,
    /// Ordinal of the shard whose step to *this* revision was approved. The caller clears it when the revision
    /// changes.
    pub approved: Option<u32>,
}

impl Desired {
    /// The desired state for `spec` with pods of `revision`. With `spec.autoscale` set, the caller overwrites
    /// `shards`.
    pub fn new(spec: &WsClusterSpec, revision: impl Into<String>) -> Self {
        Self {
            shards: spec.shards,
            revision: revision.into(),
            capacity: spec.capacity,
            evict_rate: spec.drain.evict_rate,
            deadline: spec.drain.deadline.0,
            paused: spec.paused,
            max_in_motion: spec.rollout.max_in_motion,
            surge: spec.rollout.surge,
            supervised: spec.rollout.supervised,
            approved: None,
        }
    }
}
