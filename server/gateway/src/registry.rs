//! The tunnels of one worker, grouped by shard, so that some of them can be ended or moved away without polling each
//! one.
//!
//! Lives on one thread. A [`TunnelHandle`] returns, exactly once and on every path, what its tunnel took: its entry,
//! its file descriptors, the slot in the table.

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

use super::gateway::Gateway;
use super::metrics::Metrics;

/// A command to a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TunnelCommand {
    /// End at once.
    End,
    /// Close the connection with a hint to reconnect after this many milliseconds.
    Leave(u32),
}

/// All tunnels of a worker.
pub(crate) struct Registry {
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
    /// Commands that tunnels have not taken yet, by key.
    commands: RefCell<HashMap<u32, TunnelCommand>>,
    /// The number of `commands`, checked at each poll of a tunnel.
    pending: Cell<usize>,
}

/// 24 bytes in the slab for each tunnel.
struct Entry {
    /// None before the first poll of the tunnel.
    task: Option<Waker>,
    /// Milliseconds of the table's clock, compared with wrap-around after 49 days.
    opened_ms: u32,
    /// It has a command already.
    leaving: bool,
}

impl Registry {
    /// A registry without tunnels; it keeps the number of those that stay in `open`.
    pub(crate) fn new(gateway: Arc<Gateway>, open: Arc<AtomicU32>) -> Self {
        Self { gateway, open, groups: RefCell::default() }
    }

    /// Reserves a handle for a tunnel to `shard`.
    pub(crate) fn reserve(&self, shard: &Arc<Backend>, permit: Permit) -> TunnelHandle {
        let known = self.groups.borrow().get(&shard.id()).map(Rc::clone);
        let group = known.unwrap_or_else(|| self.add_group(shard));
        // From here on the handle returns the descriptors: the tunnel need not carry the permit.
        permit.keep();
        self.gateway.tunnels.fetch_add(1, Relaxed);
        TunnelHandle { group, key: TunnelHandle::NOT_OPEN, is_registered: false, slot_is_free: false }
    }

    fn add_group(&self, shard: &Arc<Backend>) -> Rc<Group> {
        let bytes = Arc::new(FlowBytes::default());
        shard.add_flow(Arc::clone(&bytes));
        let group = Rc::new(Group {
            gateway: Arc::clone(&self.gateway),
            shard: Arc::clone(shard),
            bytes,
            open: Arc::clone(&self.open),
            entries: RefCell::default(),
            commands: RefCell::default(),
            pending: Cell::new(0),
        });
        let mut groups = self.groups.borrow_mut();
        // Forget removed shards: a gateway outlives many of them.
        groups.retain(|_, group| !group.shard.is_removed() || Rc::strong_count(group) > 1);
        groups.insert(shard.id(), Rc::clone(&group));
        group
    }

    /// Ends the tunnels to `shard` that were opened before `before_ms`; returns how many.
    pub(crate) fn end(&self, shard: ShardId, before_ms: u64) -> usize {
        let group = self.groups.borrow().get(&shard).map(Rc::clone);
        group.map_or(0, |group| group.end(|entry| (before_ms as u32).wrapping_sub(entry.opened_ms).cast_signed() > 0))
    }

    /// Ends every tunnel.
    pub(crate) fn end_all(&self) {
        for group in self.groups.borrow().values() {
            group.end(|_| true);
        }
    }

    /// Moves up to `count` randomly drawn tunnels away, each with its own hint.
    pub(crate) fn evict(&self, count: u32, retry_after: &RetryAfter) {
        let groups = self.groups.borrow();
        let staying = groups
            .values()
            .flat_map(|group| group.keys(|entry| !entry.leaving).into_iter().map(move |key| (group, key)));
        let count = count.min(self.open.load(Relaxed)) as usize;
        for (group, key) in staying.sample(&mut rand::rng(), count) {
            let hint = hint_ms(retry_after).min(u64::from(u32::MAX)) as u32;
            group.send(key, TunnelCommand::Leave(hint));
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
            self.send(*key, TunnelCommand::End);
        }
        keys.len()
    }

    fn send(&self, key: u32, command: TunnelCommand) {
        let mut entries = self.entries.borrow_mut();
        let Some(entry) = entries.get_mut(key as usize) else { return };
        self.leaves(entry);
        let mut commands = self.commands.borrow_mut();
        commands.insert(key, command);
        self.pending.set(commands.len());
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
        let mut commands = self.commands.borrow_mut();
        let command = commands.remove(&key);
        self.pending.set(commands.len());
        command
    }
}

/// What a tunnel holds of its worker.
pub(crate) struct TunnelHandle {
    group: Rc<Group>,
    key: u32,
    /// The entry has the waker of the tunnel's task.
    is_registered: bool,
    slot_is_free: bool,
}

impl TunnelHandle {
    const NOT_OPEN: u32 = u32::MAX;

    /// The counters of relayed bytes.
    pub(crate) fn bytes(&self) -> &FlowBytes {
        &self.group.bytes
    }

    /// The counters of ends.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.group.gateway.metrics
    }

    /// Spawns the tunnel, which can receive commands from now on.
    pub(crate) fn open(mut self, spawn: impl FnOnce(Self)) {
        let group = Rc::clone(&self.group);
        let opened_ms = group.gateway.table.now_ms() as u32;
        self.key = group.entries.borrow_mut().insert(Entry { task: None, opened_ms, leaving: false }) as u32;
        group.open.store(group.open.load(Relaxed) + 1, Relaxed);
        spawn(self);
    }

    /// The command sent since the last poll. The tunnel calls this at each poll.
    #[inline]
    pub(crate) fn command(&mut self, cx: &mut Context<'_>) -> Option<TunnelCommand> {
        if self.is_registered && self.group.pending.get() == 0 { None } else { self.look_up(cx) }
    }

    #[cold]
    fn look_up(&mut self, cx: &mut Context<'_>) -> Option<TunnelCommand> {
        if !std::mem::replace(&mut self.is_registered, true)
            && let Some(entry) = self.group.entries.borrow_mut().get_mut(self.key as usize)
        {
            entry.task = Some(cx.waker().clone());
        }
        self.group.take(self.key)
    }

    /// Counts the slot as free: the shard has seen the end of the connection, although the tunnel is still open.
    pub(crate) fn free_slot(&mut self) {
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
