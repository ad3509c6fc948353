//! Counts whether the other shards have a free slot for every client that moves.

use crate::classify::Class;
use crate::view::View;
use crate::{Shard, State};

/// Free slots, and clients that need one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slots {
    free: u32,
    /// Clients that are reconnecting, and clients of shards that may close them at any time.
    taken: u32,
}

impl Slots {
    pub(crate) fn new(view: &View<'_>, classes: &[Class]) -> Self {
        let mut slots = Self { free: 0, taken: view.observed.reconnecting };
        for (shard, class) in view.observed.shards.iter().zip(classes) {
            if view.never_ends(shard) {
                continue;
            }
            let leaves = match class {
                // Its clients stay, but its free slots do not count before the drain is confirmed as cancelled.
                Class::Undrain(_) => false,
                Class::Moving | Class::Removed | Class::Leaving | Class::Released(_) => true,
                Class::Wanted | Class::Serving | Class::Silent | Class::Held(_) => shard.state == State::Silent,
            };
            if leaves {
                slots.taken = slots.taken.saturating_add(shard.connections);
            } else {
                slots.free = slots.free.saturating_add(shard.offered());
            }
        }
        slots
    }

    /// Free slots on the other shards if `shard` goes.
    pub(crate) fn free_without(self, shard: &Shard) -> u32 {
        self.free.saturating_sub(shard.offered()).saturating_sub(self.taken)
    }

    /// Missing slots on the other shards if `shard` goes.
    pub(crate) fn missing_without(self, shard: &Shard) -> u32 {
        let needed = self.taken.saturating_add(shard.connections);
        needed.saturating_sub(self.free.saturating_sub(shard.offered()))
    }

    /// Records that `shard` goes.
    pub(crate) fn go(&mut self, shard: &Shard) {
        self.free = self.free.saturating_sub(shard.offered());
        self.taken = self.taken.saturating_add(shard.connections);
    }
}
