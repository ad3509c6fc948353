//! The tunnels of one worker, by shard: so that those of a shard that is gone can be ended without asking each one.
//!
//! Lives on one thread. A [`Seat`] is a tunnel's place: it gives back, exactly once and on every path, what the tunnel
//! took (its entry, its file descriptors, the slot in our view of the shard).

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use slab::Slab;
use tokio::task::AbortHandle;

use super::state::Gateway;
use super::table::{Shard, ShardId};
use crate::fds::Permit;

/// A byte count that one thread writes and others read.
#[derive(Debug, Default)]
pub struct Bytes(AtomicU64);

impl Bytes {
    /// Adds `n`; only ever called on the owning thread, so that no locked instruction is needed.
    pub fn add(&self, n: usize) {
        self.0.store(self.0.load(Relaxed) + n as u64, Relaxed);
    }

    /// The count so far.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Bytes relayed between the clients of one worker and one shard.
#[derive(Debug, Default)]
pub struct FlowBytes {
    /// Client to shard.
    pub up: Bytes,
    /// Shard to client.
    pub down: Bytes,
}

/// All tunnels of a worker.
pub struct Registry {
    gateway: Arc<Gateway>,
    groups: RefCell<HashMap<ShardId, Rc<Group>>>,
}

/// The tunnels of a worker to one shard.
struct Group {
    gateway: Arc<Gateway>,
    shard: Arc<Shard>,
    bytes: Arc<FlowBytes>,
    entries: RefCell<Slab<Entry>>,
}

/// 16 bytes in the slab, because a handle is never null: one is kept for each tunnel.
struct Entry {
    task: AbortHandle,
    /// Gateway clock, ms: fits 49 days, compared with wrap-around.
    opened_ms: u32,
}

impl Registry {
    /// No tunnels yet.
    pub fn new(gateway: Arc<Gateway>) -> Self {
        Self { gateway, groups: RefCell::default() }
    }

    /// A place for a tunnel to `shard`.
    pub fn seat(&self, shard: &Arc<Shard>, permit: Permit) -> Seat {
        let group = Rc::clone(self.groups.borrow_mut().entry(shard.id()).or_insert_with(|| {
            let bytes = Arc::new(FlowBytes::default());
            shard.add_flow(Arc::clone(&bytes));
            Rc::new(Group {
                gateway: Arc::clone(&self.gateway),
                shard: Arc::clone(shard),
                bytes,
                entries: RefCell::default(),
            })
        }));
        // From here on the seat gives the descriptors back: the tunnel need not carry the permit.
        permit.keep();
        self.gateway.tunnels.fetch_add(1, Relaxed);
        Seat { group, key: Seat::UNOCCUPIED }
    }

    /// Ends the tunnels to `shard` that were opened before `before_ms`; returns how many.
    pub fn end(&self, shard: ShardId, before_ms: u64) -> usize {
        let Some(group) = self.groups.borrow().get(&shard).map(Rc::clone) else { return 0 };
        let ended = group.end(|entry| (before_ms as u32).wrapping_sub(entry.opened_ms).cast_signed() > 0);
        if group.entries.borrow().is_empty() && group.shard.is_removed() {
            self.groups.borrow_mut().remove(&shard);
        }
        ended
    }

    /// Ends every tunnel.
    pub fn end_all(&self) {
        for group in self.groups.borrow().values() {
            group.end(|_| true);
        }
    }
}

impl Group {
    /// An aborted task is dropped by the runtime later, not here: no entry goes while we look.
    fn end(&self, which: impl Fn(&Entry) -> bool) -> usize {
        let entries = self.entries.borrow();
        entries.iter().filter(|(_, entry)| which(entry)).inspect(|(_, entry)| entry.task.abort()).count()
    }
}

/// A tunnel's place.
pub struct Seat {
    group: Rc<Group>,
    key: u32,
}

impl Seat {
    const UNOCCUPIED: u32 = u32::MAX;

    /// Where the tunnel counts what it moves.
    pub fn bytes(&self) -> &FlowBytes {
        &self.group.bytes
    }

    /// Spawns the tunnel and remembers its task, so that it can be ended from outside.
    pub fn occupy(mut self, spawn: impl FnOnce(Self) -> AbortHandle) {
        let group = Rc::clone(&self.group);
        // A spawned task is first polled later: until then nobody else takes this key.
        let key = group.entries.borrow().vacant_key();
        self.key = key as u32;
        let opened_ms = group.gateway.table.now_ms() as u32;
        let task = spawn(self);
        let inserted = group.entries.borrow_mut().insert(Entry { task, opened_ms });
        debug_assert_eq!(inserted, key);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.group.entries.borrow_mut().try_remove(self.key as usize);
        self.group.gateway.fds.put_back(Permit::TUNNEL);
        self.group.gateway.tunnels.fetch_sub(1, Relaxed);
        self.group.shard.slot_left();
        self.group.gateway.offer_slots();
    }
}
