//! The tunnels of one worker, by shard: so that some of them can be told to end, or to leave, without asking each one.
//!
//! Lives on one thread. A [`TunnelHandle`] is a tunnel's place: it gives back, exactly once and on every path, what the tunnel
//! took (its entry, its file descriptors, the slot in our view of the shard).

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::task::{Context, Waker};

use rand::seq::IteratorRandom as _;
use slab::Slab;
use wscluster_api::spec::RetryAfter;
use wscluster_routing::backend::{Backend, ShardId};
use wscluster_routing::flow::FlowBytes;
use wscluster_runtime::drain::hint_ms;
use wscluster_runtime::fds::Permit;

use super::metrics::Metrics;
use super::state::Gateway;

/// What a tunnel is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TunnelCommand {
    /// End at once.
    End,
    /// Tell the client to come back after so many milliseconds, then end.
    Leave(u32),
}

/// All tunnels of a worker.
pub struct Registry {
    gateway: Arc<Gateway>,
    open: Arc<AtomicU32>,
    groups: RefCell<HashMap<ShardId, Rc<Group>>>,
}

/// The tunnels of a worker to one shard.
struct Group {
    gateway: Arc<Gateway>,
    shard: Arc<Backend>,
    bytes: Arc<FlowBytes>,
    open: Arc<AtomicU32>,
    entries: RefCell<Slab<Entry>>,
    /// For tunnels that have not taken them yet.
    orders: RefCell<HashMap<u32, TunnelCommand>>,
    /// How many that is, for a look at every turn.
    ordered: Cell<usize>,
}

/// 24 bytes in the slab: one is kept for each tunnel.
struct Entry {
    /// None before the tunnel's first turn.
    task: Option<Waker>,
    /// Gateway clock, ms: fits 49 days, compared with wrap-around.
    opened_ms: u32,
    /// It was told to go.
    leaving: bool,
}

impl Registry {
    /// No tunnels yet; `open` will tell how many.
    pub fn new(gateway: Arc<Gateway>, open: Arc<AtomicU32>) -> Self {
        Self { gateway, open, groups: RefCell::default() }
    }

    /// A place for a tunnel to `shard`.
    pub fn seat(&self, shard: &Arc<Backend>, permit: Permit) -> TunnelHandle {
        let known = self.groups.borrow().get(&shard.id()).map(Rc::clone);
        let group = known.unwrap_or_else(|| self.found(shard));
        // From here on the seat gives the descriptors back: the tunnel need not carry the permit.
        permit.keep();
        self.gateway.tunnels.fetch_add(1, Relaxed);
        TunnelHandle { group, key: TunnelHandle::UNOCCUPIED, known: false, slot_is_free: false }
    }

    fn found(&self, shard: &Arc<Backend>) -> Rc<Group> {
        let bytes = Arc::new(FlowBytes::default());
        shard.add_flow(Arc::clone(&bytes));
        let group = Rc::new(Group {
            gateway: Arc::clone(&self.gateway),
            shard: Arc::clone(shard),
            bytes,
            open: Arc::clone(&self.open),
            entries: RefCell::default(),
            orders: RefCell::default(),
            ordered: Cell::new(0),
        });
        let mut groups = self.groups.borrow_mut();
        // Shards come and go for as long as we live.
        groups.retain(|_, group| !group.shard.is_removed() || Rc::strong_count(group) > 1);
        groups.insert(shard.id(), Rc::clone(&group));
        group
    }

    /// Ends the tunnels to `shard` that were opened before `before_ms`; returns how many.
    pub fn end(&self, shard: ShardId, before_ms: u64) -> usize {
        let group = self.groups.borrow().get(&shard).map(Rc::clone);
        group.map_or(0, |group| group.end(|entry| (before_ms as u32).wrapping_sub(entry.opened_ms).cast_signed() > 0))
    }

    /// Ends every tunnel.
    pub fn end_all(&self) {
        for group in self.groups.borrow().values() {
            group.end(|_| true);
        }
    }

    /// Tells up to `count` tunnels, drawn from all that were not told yet, to leave, each with a hint of its own.
    pub fn evict(&self, count: u32, retry_after: &RetryAfter) {
        let groups = self.groups.borrow();
        let staying = groups
            .values()
            .flat_map(|group| group.keys(|entry| !entry.leaving).into_iter().map(move |key| (group, key)));
        let count = count.min(self.open.load(Relaxed)) as usize;
        for (group, key) in staying.sample(&mut rand::rng(), count) {
            let hint = hint_ms(retry_after).min(u64::from(u32::MAX)) as u32;
            group.tell(key, TunnelCommand::Leave(hint));
        }
    }
}

impl Group {
    fn keys(&self, which: impl Fn(&Entry) -> bool) -> Vec<u32> {
        let entries = self.entries.borrow();
        entries.iter().filter(|(_, entry)| which(entry)).map(|(key, _)| key as u32).collect()
    }

    fn end(&self, which: impl Fn(&Entry) -> bool) -> usize {
        let keys = self.keys(which);
        for key in &keys {
            self.tell(*key, TunnelCommand::End);
        }
        keys.len()
    }

    fn tell(&self, key: u32, parting: TunnelCommand) {
        let mut entries = self.entries.borrow_mut();
        let Some(entry) = entries.get_mut(key as usize) else { return };
        self.leaves(entry);
        let mut orders = self.orders.borrow_mut();
        orders.insert(key, parting);
        self.ordered.set(orders.len());
        if let Some(task) = &entry.task {
            task.wake_by_ref();
        }
    }

    fn leaves(&self, entry: &mut Entry) {
        if !std::mem::replace(&mut entry.leaving, true) {
            self.open.store(self.open.load(Relaxed) - 1, Relaxed);
        }
    }

    fn take(&self, key: u32) -> Option<TunnelCommand> {
        let mut orders = self.orders.borrow_mut();
        let order = orders.remove(&key);
        self.ordered.set(orders.len());
        order
    }
}

/// A tunnel's place.
pub struct TunnelHandle {
    group: Rc<Group>,
    key: u32,
    /// Its task can be woken.
    known: bool,
    slot_is_free: bool,
}

impl TunnelHandle {
    const UNOCCUPIED: u32 = u32::MAX;

    /// Where the tunnel counts what it moves.
    pub fn bytes(&self) -> &FlowBytes {
        &self.group.bytes
    }

    /// Where the tunnel counts how it ended.
    pub fn metrics(&self) -> &Metrics {
        &self.group.gateway.metrics
    }

    /// Spawns the tunnel, which can be told to go from now on.
    pub fn occupy(mut self, spawn: impl FnOnce(Self)) {
        let group = Rc::clone(&self.group);
        let opened_ms = group.gateway.table.now_ms() as u32;
        self.key = group.entries.borrow_mut().insert(Entry { task: None, opened_ms, leaving: false }) as u32;
        group.open.store(group.open.load(Relaxed) + 1, Relaxed);
        spawn(self);
    }

    /// What the tunnel was told since its last turn. To be asked at each turn.
    #[inline]
    pub fn order(&mut self, cx: &mut Context<'_>) -> Option<TunnelCommand> {
        if self.known && self.group.ordered.get() == 0 { None } else { self.look(cx) }
    }

    #[cold]
    fn look(&mut self, cx: &mut Context<'_>) -> Option<TunnelCommand> {
        if !std::mem::replace(&mut self.known, true)
            && let Some(entry) = self.group.entries.borrow_mut().get_mut(self.key as usize)
        {
            entry.task = Some(cx.waker().clone());
        }
        self.group.take(self.key)
    }

    /// The shard was told that the client has left: its slot counts as free although the tunnel is still there.
    pub fn free_slot(&mut self) {
        if !std::mem::replace(&mut self.slot_is_free, true) {
            self.group.shard.slot_left();
            self.group.gateway.offer_slots();
        }
    }
}

impl Drop for TunnelHandle {
    fn drop(&mut self) {
        let entry = self.group.entries.borrow_mut().try_remove(self.key as usize);
        if let Some(mut entry) = entry {
            self.group.leaves(&mut entry);
            self.group.take(self.key);
        }
        self.group.gateway.fds.put_back(Permit::TUNNEL);
        self.group.gateway.tunnels.fetch_sub(1, Relaxed);
        self.free_slot();
    }
}
