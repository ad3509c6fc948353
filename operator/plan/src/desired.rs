//! What is wanted of the shards.

use std::time::Duration;

use wscluster_api::WsClusterSpec;

/// What a spec asks of the shards, as far as a plan is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// How many: `spec.shards`, or what [`autoscale`](crate::autoscale) wants.
    pub shards: u32,
    /// Revision of the pod template.
    pub revision: String,
    /// Connections that a shard of this revision may hold.
    pub capacity: u32,
    /// Connections that a draining shard closes per second.
    pub evict_rate: u32,
    /// After this long a drain is over, whoever is left.
    pub deadline: Duration,
    /// No step starts, and drains under way are taken back.
    pub paused: bool,
    /// Shards that may be in motion at once.
    pub max_in_motion: u32,
    /// One shard more may be started while shards are replaced, where the others have too few slots.
    pub surge: bool,
    /// Each step of a rollout waits for a person.
    pub supervised: bool,
    /// The shard whose step to *this* revision a person approved; it is for the caller to forget it when the revision changes.
    pub approved: Option<u32>,
}

impl Desired {
    /// What `spec` asks for with pods of `revision`. Under `spec.autoscale` the caller puts its own number of `shards`.
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
