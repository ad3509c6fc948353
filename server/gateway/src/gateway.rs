//! One gateway process: what its workers, its poller and its admin server share.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;
use wscluster_api::spec::RetryAfter;
use wscluster_routing::member::Member;
use wscluster_routing::table::Table;
use wscluster_runtime::drain::{DrainPhase, Holds};
use wscluster_runtime::fds::{Budget, Permit};

use super::discovery::Discovery;
use super::metrics::Metrics;
use super::ports::Ports;
use super::queue::Queue;
use super::settings::Settings;
use super::stage::Stage;
use super::worker_handle::{WorkerCommand, WorkerHandle, WorkerInbox};

/// One gateway process.
pub(crate) struct Gateway {
    pub(crate) settings: Settings,
    /// The shards; [`Self::set_members`] changes the list.
    pub(crate) table: Table,
    /// Present if the shards are discovered rather than configured.
    pub(crate) discovery: OnceLock<Arc<Discovery>>,
    /// Clients that wait for a slot.
    pub(crate) queue: Arc<Queue>,
    pub(crate) metrics: Metrics,
    /// File descriptors.
    pub(crate) fds: Arc<Budget>,
    /// Local ports of connections to shards.
    pub(crate) ports: Ports,
    /// Open tunnels.
    pub(crate) tunnels: AtomicU32,
    /// Workers that still accept.
    pub(crate) listening: AtomicU32,
    /// Changes with every start of the process.
    pub(crate) incarnation: String,
    /// Start of the process.
    pub(crate) started: Instant,
    has_reported_shortage: AtomicBool,
    failed: AtomicBool,
    stage: watch::Sender<Stage>,
    workers: Mutex<Vec<WorkerHandle>>,
}

impl Gateway {
    /// A gateway without shards and workers.
    pub(crate) fn new(settings: Settings, fds: Arc<Budget>) -> Arc<Self> {
        Arc::new(Self {
            queue: Queue::new(settings.max_waiting),
            ports: Ports::new(&settings.source_addresses),
            settings,
            table: Table::new(),
            discovery: OnceLock::new(),
            metrics: Metrics::new(),
            fds,
            tunnels: AtomicU32::new(0),
            listening: AtomicU32::new(0),
            incarnation: format!("{:016x}", rand::random::<u64>()),
            started: Instant::now(),
            has_reported_shortage: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            stage: watch::Sender::new(Stage::Open),
            workers: Mutex::default(),
        })
    }

    /// Replaces the list of shards, and reserves descriptors for polling them: two per shard, for a connection and its
    /// replacement.
    pub(crate) fn set_members(&self, members: &[Member]) {
        let before = self.table.shards().len();
        if self.table.set(members) {
            let count = |shards: usize| i64::try_from(shards).unwrap_or(i64::MAX / 4);
            self.fds.set_aside(2 * (count(members.len()) - count(before)));
            tracing::info!(shards = members.len(), before, "the list of shards has changed");
        }
    }

    /// The number of tunnels that may be open and the capacity of all shards, the first time that the capacity is
    /// larger. A gateway that is alone, or the last one left, carries the clients of all shards.
    pub(crate) fn first_shortage(&self) -> Option<(u64, u64)> {
        let (tunnels, capacity) = (self.fds.most(Permit::TUNNEL), self.table.capacity());
        let is_first = || !self.has_reported_shortage.swap(true, Relaxed);
        (tunnels < capacity && is_first()).then_some((tunnels, capacity))
    }

    /// Lets waiting clients try the slots that the table shows as free. To be called after anything that may have
    /// freed one.
    pub(crate) fn offer_slots(&self) {
        if !self.queue.is_empty() {
            self.queue.call(self.table.free_slots());
        }
    }

    /// Registers one more worker.
    pub(crate) fn add_worker(&self) -> WorkerInbox {
        let (handle, inbox) = WorkerHandle::new();
        self.workers().push(handle);
        inbox
    }

    /// Sends `command` to every worker.
    pub(crate) fn command_all(&self, command: &WorkerCommand) {
        for worker in self.workers().iter() {
            worker.send(command.clone());
        }
    }

    fn workers(&self) -> MutexGuard<'_, Vec<WorkerHandle>> {
        self.workers.lock()
    }

    /// The stage it has reached.
    pub(crate) fn stage(&self) -> Stage {
        *self.stage.borrow()
    }

    /// Moves on to `stage`.
    pub(crate) fn enter(&self, stage: Stage) {
        self.stage.send_replace(stage);
    }

    /// A function that calls [`Self::fail`], for the panic of a critical task.
    pub(crate) fn failing(self: &Arc<Self>) -> impl Fn() + Send + 'static + use<> {
        let gateway = Arc::clone(self);
        move || gateway.fail()
    }

    /// Ends the process because a critical task has ended: without it the gateway would look healthy and serve only
    /// in part.
    pub(crate) fn fail(&self) {
        self.failed.store(true, Relaxed);
        self.enter(Stage::Closing);
    }

    /// Whether a critical task has ended.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Relaxed)
    }

    /// Resolves when `stage` is reached.
    pub(crate) async fn reached(&self, stage: Stage) {
        // No error: the sender lives as long as `self`.
        let _ = self.stage.subscribe().wait_for(|now| *now >= stage).await;
    }

    /// Whether the last drain of the process is complete.
    pub(crate) fn is_drained(&self) -> bool {
        self.stage() >= Stage::Draining && self.listening.load(Relaxed) == 0 && self.is_idle()
    }

    /// Whether no handshake is under way and no tunnel open.
    pub(crate) fn is_idle(&self) -> bool {
        let (attempts, ended) = self.metrics.totals();
        attempts == ended && self.tunnels.load(Relaxed) == 0
    }

    /// Tunnels whose shard, and whose client, accepts no bytes at the moment.
    pub(crate) fn stalled(&self) -> (u64, u64) {
        let shards = self.table.shards();
        shards.iter().map(|shard| shard.stalled()).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }

    /// Bytes relayed: to shards, to clients.
    pub(crate) fn relayed(&self) -> (u64, u64) {
        let shards = self.table.shards();
        shards.iter().map(|shard| shard.relayed()).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }
}

impl Holds for Gateway {
    fn enter(&self, phase: DrainPhase) {
        self.stage.send_if_modified(|stage| match stage.after(phase) {
            Some(next) => {
                *stage = next;
                true
            }
            None => false,
        });
    }

    fn lag(&self) -> Duration {
        self.settings.drain_lag
    }

    fn open(&self) -> Vec<u32> {
        self.workers().iter().map(WorkerHandle::open).collect()
    }

    fn evict(&self, thread: usize, count: u32, retry_after: &RetryAfter) {
        self.workers()[thread].send(WorkerCommand::Evict(count, retry_after.clone()));
    }
}
