//! What was seen of the shards.
//!
//! A plan trusts what it is told, so the caller takes care that it is true:
//!
//! - A health answer from before the caller's own action on that shard is void. After a drain was begun the shard is draining,
//!   with **at least one** connection until it says otherwise itself: `0` from before would have it removed although
//!   clients came meanwhile. After a drain was taken back it is ready.
//! - A shard is starting only if it says so, in an answer that is not too old, or if its container does not run. One that nobody has
//!   heard, as after a start of the operator, is silent: since the first question that it did not answer. So is one that says what
//!   the caller does not know, and one that starts and holds somebody.
//!
//! The simulation found both.

use crate::Timestamp;

/// The shards as last seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Replicas that the `StatefulSet` asks for now; 0 where there is none yet.
    pub replicas: u32,
    /// Clients that were evicted lately and are on their way back: see [`Returning`](crate::Returning). They hold no slot
    /// yet, and need one.
    pub returning: u32,
    /// Sorted by ordinal; an ordinal without a pod is absent. Pods that are leaving are here until they are gone.
    pub shards: Vec<Shard>,
}

/// One shard as last seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Position in the `StatefulSet`.
    pub ordinal: u32,
    /// Revision of the pod template that it runs.
    pub revision: String,
    /// What it does.
    pub state: State,
    /// Connections that it holds; of a silent one, what it last said.
    pub connections: u32,
    /// Connections that it may hold.
    pub capacity: u32,
    /// Whether every gateway that serves knows it: a slot that half of the clients cannot be led to is none that a step may count on.
    pub routed: bool,
    /// Whether its kubelet finds it ready, which has a way to it of its own: of a silent one, only the caller's way is broken then.
    /// Never, where there is no kubelet.
    pub ready: bool,
    /// Since when: its drain began; else it leaves, is silent, or was started. `None` where the caller cannot tell: then no
    /// deadline passes.
    pub since: Option<Timestamp>,
}

/// What a shard does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Has not turned ready yet: it holds nobody, and may be taken away at once. In doubt it is silent.
    Starting,
    /// Takes upgrades.
    Ready,
    /// Every slot is taken.
    Full,
    /// Moves its connections away and takes no upgrade.
    Draining,
    /// May have turned ready and gives no answer: it may hold connections.
    Silent,
    /// Its process does not run: it crashes again and again, or its image is missing. It holds nobody.
    Failing,
    /// Its pod is terminating; it moves away by itself what it still holds.
    Leaving,
}

impl Observed {
    /// The shard at `ordinal`.
    pub fn at(&self, ordinal: u32) -> Option<&Shard> {
        self.shards.binary_search_by_key(&ordinal, |shard| shard.ordinal).ok().map(|index| &self.shards[index])
    }

    /// All connections.
    pub fn connections(&self) -> u32 {
        self.shards.iter().fold(0, |sum, shard| sum.saturating_add(shard.connections))
    }
}

impl Shard {
    /// Free slots that a client can get now.
    pub fn free(&self) -> u32 {
        if self.state == State::Ready { self.capacity.saturating_sub(self.connections) } else { 0 }
    }

    /// Of those, the ones that a client of any gateway can get.
    pub(crate) fn offered(&self) -> u32 {
        if self.routed { self.free() } else { 0 }
    }
}
