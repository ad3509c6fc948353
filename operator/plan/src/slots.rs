//! Whether the other shards have a slot for everybody who moves.

use crate::standing::{Standing, View};
use crate::{Shard, State};

/// Slots that are free, and those that are spoken for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slots {
    free: u32,
    /// Clients on their way, and those of shards that may let them go at any time.
    taken: u32,
}

impl Slots {
    pub(crate) fn new(view: &View<'_>, standings: &[Standing]) -> Self {
        let mut slots = Self { free: 0, taken: view.observed.returning };
        for (shard, standing) in view.observed.shards.iter().zip(standings) {
            if view.never_ends(shard) {
                continue;
            }
            let leaves = match standing {
                // Their clients stay where they are, but no slot of theirs is free before that is known to have worked.
                Standing::Back(_) => false,
                Standing::Moving | Standing::Removed | Standing::Leaving | Standing::Released(_) => true,
                Standing::Wanted | Standing::Idle | Standing::Silent | Standing::Held(_) => {
                    shard.state == State::Silent
                }
            };
            if leaves {
                slots.taken = slots.taken.saturating_add(shard.connections);
            } else {
                slots.free = slots.free.saturating_add(shard.offered());
            }
        }
        slots
    }

    /// Slots free on the others, were `shard` to go.
    pub(crate) fn free_without(self, shard: &Shard) -> u32 {
        self.free.saturating_sub(shard.offered()).saturating_sub(self.taken)
    }

    /// Slots that are missing on the others, were `shard` to go.
    pub(crate) fn missing_without(self, shard: &Shard) -> u32 {
        let needed = self.taken.saturating_add(shard.connections);
        needed.saturating_sub(self.free.saturating_sub(shard.offered()))
    }

    /// `shard` goes.
    pub(crate) fn go(&mut self, shard: &Shard) {
        self.free = self.free.saturating_sub(shard.offered());
        self.taken = self.taken.saturating_add(shard.connections);
    }
}
