//! The observed state of the shards.
//!
//! A plan trusts its input, so the caller must ensure that:
//!
//! - A health answer from before the caller's own action on that shard is discarded. After the caller has started a
//!   drain, it reports the shard as draining with **at least one** connection until the shard itself reports a count.
//!   An older count of `0` would have the shard removed although clients have connected since. After the caller has
//!   cancelled a drain, it reports the shard as ready.
//! - A shard is [`Starting`](State::Starting) only if a fresh answer of the shard reports it, or if its container does
//!   not run. A shard that has never answered, for example after a restart of the operator, is
//!   [`Silent`](State::Silent) from the first unanswered request. So is a shard with an unknown state, and one that
//!   starts and holds connections.
//!
//! The simulation fails without these rules.

use crate::Timestamp;

/// The shards as last observed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Current `replicas` of the `StatefulSet`; 0 if it does not exist.
    pub replicas: u32,
    /// Clients that lost their shard recently and may be reconnecting (see [`Reconnecting`](crate::Reconnecting)).
    /// They hold no slot yet but need one.
    pub reconnecting: u32,
    /// Shards that have a pod, including a terminating one, sorted by ordinal.
    pub shards: Vec<Shard>,
}

/// One shard as last observed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Position in the `StatefulSet`.
    pub ordinal: u32,
    /// Revision of its pod template.
    pub revision: String,
    /// Its state as far as the caller can tell.
    pub state: State,
    /// Connections that it holds. For a silent shard, the last reported number.
    pub connections: u32,
    /// Connections that it may hold.
    pub capacity: u32,
    /// Every ready gateway routes to it. A step may only count on slots that all clients can reach.
    pub known_to_gateways: bool,
    /// The kubelet reports its pod as Ready. If such a shard is silent, only the caller has lost contact. Always false
    /// without a kubelet.
    pub pod_ready: bool,
    /// Start of its drain, termination, silence or process, depending on `state`. `None` if unknown: then no deadline
    /// passes.
    pub since: Option<Timestamp>,
}

/// The state of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Not ready since its start. It holds no connection and may be removed at once. If in doubt, use `Silent`.
    Starting,
    /// Accepts upgrades.
    Ready,
    /// Has no free slot.
    Full,
    /// Closes its connections step by step and refuses upgrades.
    Draining,
    /// Does not answer, and may hold connections.
    Silent,
    /// Its process does not run, for example because it crashes repeatedly or its image is missing. It holds no
    /// connection.
    Failing,
    /// Its pod is terminating. It drains by itself.
    Leaving,
}

impl Observed {
    /// The shard with this ordinal.
    pub fn at(&self, ordinal: u32) -> Option<&Shard> {
        self.shards.binary_search_by_key(&ordinal, |shard| shard.ordinal).ok().map(|index| &self.shards[index])
    }

    /// Connections of all shards.
    pub fn connections(&self) -> u32 {
        self.shards.iter().fold(0, |sum, shard| sum.saturating_add(shard.connections))
    }
}

impl Shard {
    /// Free slots that a client can get now.
    pub fn free(&self) -> u32 {
        if self.state == State::Ready { self.capacity.saturating_sub(self.connections) } else { 0 }
    }

    /// Free slots that a client can get through any gateway.
    pub(crate) fn offered(&self) -> u32 {
        if self.known_to_gateways { self.free() } else { 0 }
    }
}
