//! What the workers, the poller and the admin server of one gateway process share, and the stages of its end.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use wscluster_api::WsClusterSpec;
use wscluster_api::spec::{Drain, RetryAfter};
use wscluster_protocol::hop;
use wscluster_routing::backend::ShardId;
use wscluster_routing::member::Member;
use wscluster_routing::table::Table;
use wscluster_runtime::drain::{Holds, Phase};
use wscluster_runtime::fds::{Budget, Permit};
use wscluster_ws::upgrade::HeadLimits;

use super::discovery::Discovery;
use super::metrics::Metrics;
use super::queue::Queue;

/// All that a gateway knows of the manifest, and what its command line asks for.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Size of a head; for shards' answers too.
    pub head: HeadLimits,
    /// For the client's head.
    pub head_timeout: Duration,
    /// For all tries together, without the queue.
    pub handshake_timeout: Duration,
    /// For one try.
    pub shard_timeout: Duration,
    /// How many may wait for a slot.
    pub max_waiting: usize,
    /// For all waits of one client together.
    pub queue_timeout: Duration,
    /// Empty: any.
    pub allowed_origins: Vec<String>,
    /// How it empties on a signal; its range of hints is that of a 503, too.
    pub drain: Drain,
    /// Event loops; absent: one per CPU.
    pub workers: Option<u32>,
    /// Time from turning not ready to refusing: what a load balancer needs to notice.
    pub drain_lag: Duration,
    /// Log every handshake, not only failed ones.
    pub log_handshakes: bool,
}

impl Settings {
    /// From a manifest.
    pub fn new(spec: &WsClusterSpec, drain_lag: Duration, log_handshakes: bool) -> Self {
        let (limits, queue) = (&spec.gateway.limits, &spec.gateway.queue);
        Self {
            head: hop::gateway_head_limits(limits),
            head_timeout: limits.head_timeout.0,
            handshake_timeout: limits.handshake_timeout.0,
            shard_timeout: limits.shard_timeout.0,
            max_waiting: queue.max_waiting as usize,
            queue_timeout: queue.timeout.0,
            allowed_origins: spec.gateway.allowed_origins.clone(),
            drain: spec.drain.clone(),
            workers: spec.template.gateway.workers,
            drain_lag,
            log_handshakes,
        }
    }
}

/// How far a drain, or the end of this process, is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Serving.
    Open,
    /// Serving, but not ready: load balancers send new clients elsewhere.
    NotReady,
    /// New upgrades are refused; tunnels are moved away. There is a way back.
    Refusing,
    /// No listener; what has begun may end. There is no way back.
    Draining,
    /// Tunnels are closed.
    Closing,
}

/// For one worker.
#[derive(Clone, Debug, PartialEq)]
pub enum Order {
    /// End the tunnels to a shard that were opened before this time of the table's clock.
    EndTunnels(ShardId, u64),
    /// Tell the clients of so many tunnels to come back elsewhere, with a hint from this range.
    Evict(u32, RetryAfter),
}

/// A worker's end of what it shares with the process.
#[derive(Debug)]
pub struct Post {
    /// What it is told.
    pub orders: mpsc::UnboundedReceiver<Order>,
    /// How many tunnels it has that were not told to go; it alone writes it.
    pub open: Arc<AtomicU32>,
}

/// The other end.
#[derive(Debug)]
struct Worker {
    orders: mpsc::UnboundedSender<Order>,
    open: Arc<AtomicU32>,
}

/// One gateway process.
pub struct Gateway {
    /// What was asked for.
    pub settings: Settings,
    /// The shards. [`Self::set_members`] says which.
    pub table: Table,
    /// Where they are found, if they are not given.
    pub discovery: OnceLock<Arc<Discovery>>,
    /// Those who wait.
    pub queue: Arc<Queue>,
    /// What happened.
    pub metrics: Metrics,
    /// File descriptors.
    pub fds: Arc<Budget>,
    /// Open tunnels.
    pub tunnels: AtomicU32,
    /// Workers that still accept.
    pub listening: AtomicU32,
    /// Changes with every start.
    pub incarnation: String,
    /// Start of the process.
    pub started: Instant,
    told_short: AtomicBool,
    failed: AtomicBool,
    stage: watch::Sender<Stage>,
    workers: Mutex<Vec<Worker>>,
}

impl Gateway {
    /// A gateway with no shards and no workers yet.
    pub fn new(settings: Settings, fds: Arc<Budget>) -> Arc<Self> {
        Arc::new(Self {
            queue: Queue::new(settings.max_waiting),
            settings,
            table: Table::new(),
            discovery: OnceLock::new(),
            metrics: Metrics::new(),
            fds,
            tunnels: AtomicU32::new(0),
            listening: AtomicU32::new(0),
            incarnation: format!("{:016x}", rand::random::<u64>()),
            started: Instant::now(),
            told_short: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            stage: watch::Sender::new(Stage::Open),
            workers: Mutex::default(),
        })
    }

    /// Makes these the shards, and sets aside what polling each of them needs: one descriptor, and one to replace it.
    pub fn set_members(&self, members: &[Member]) {
        let before = self.table.shards().len();
        if self.table.set(members) {
            let count = |shards: usize| i64::try_from(shards).unwrap_or(i64::MAX / 4);
            self.fds.set_aside(2 * (count(members.len()) - count(before)));
            tracing::info!(shards = members.len(), before, "the list of shards has changed");
        }
    }

    /// How many tunnels there may be, and how many connections the shards may hold, the first time that this is found to be more:
    /// where it is alone, or the others have ended, a gateway carries all of them.
    pub fn is_short(&self) -> Option<(u64, u64)> {
        let (tunnels, capacity) = (self.fds.most(Permit::TUNNEL), self.table.capacity());
        (tunnels < capacity && !self.told_short.swap(true, Relaxed)).then_some((tunnels, capacity))
    }

    /// Lets those who wait try the slots that are believed free. Call it after anything that may have freed one.
    pub fn offer_slots(&self) {
        if !self.queue.is_empty() {
            self.queue.call(self.table.free_slots());
        }
    }

    /// One more worker.
    pub fn enlist(&self) -> Post {
        let (sender, orders) = mpsc::unbounded_channel();
        let open = Arc::new(AtomicU32::new(0));
        self.workers().push(Worker { orders: sender, open: Arc::clone(&open) });
        Post { orders, open }
    }

    /// Tells every worker.
    pub fn order(&self, order: &Order) {
        for worker in self.workers().iter() {
            // A worker that has ended has no tunnels.
            let _ = worker.orders.send(order.clone());
        }
    }

    fn workers(&self) -> MutexGuard<'_, Vec<Worker>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How far it is.
    pub fn stage(&self) -> Stage {
        *self.stage.borrow()
    }

    /// Goes on to `stage`.
    pub fn enter(&self, stage: Stage) {
        self.stage.send_replace(stage);
    }

    /// Calls [`Self::fail`]: for the alarm of a vital part.
    pub fn failing(self: &Arc<Self>) -> impl Fn() + Send + 'static + use<> {
        let gateway = Arc::clone(self);
        move || gateway.fail()
    }

    /// A part without which the process is of no use has ended: so does the process, for half a gateway would look whole from
    /// outside.
    pub fn fail(&self) {
        self.failed.store(true, Relaxed);
        self.enter(Stage::Closing);
    }

    /// Whether one has.
    pub fn has_failed(&self) -> bool {
        self.failed.load(Relaxed)
    }

    /// Resolves when `stage` is reached.
    pub async fn reached(&self, stage: Stage) {
        // The sender lives as long as `self`.
        let _ = self.stage.subscribe().wait_for(|now| *now >= stage).await;
    }

    /// Whether a drain that ends the process has come to its end.
    pub fn is_drained(&self) -> bool {
        self.stage() >= Stage::Draining && self.listening.load(Relaxed) == 0 && self.is_idle()
    }

    /// Whether nothing is left to wait for.
    pub fn is_idle(&self) -> bool {
        let (attempts, ended) = self.metrics.totals();
        attempts == ended && self.tunnels.load(Relaxed) == 0
    }

    /// Bytes relayed (to shards, to clients).
    pub fn relayed(&self) -> (u64, u64) {
        let shards = self.table.shards();
        shards.iter().map(|shard| shard.relayed()).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }
}

impl Holds for Gateway {
    fn enter(&self, phase: Phase) {
        self.stage.send_if_modified(|stage| {
            let next = match (phase, *stage) {
                (Phase::Open, Stage::NotReady | Stage::Refusing) => Stage::Open,
                (Phase::Announced, Stage::Open) => Stage::NotReady,
                (Phase::Refusing, Stage::NotReady) => Stage::Refusing,
                (Phase::Ending, Stage::Open | Stage::NotReady | Stage::Refusing) => Stage::Draining,
                _ => return false,
            };
            *stage = next;
            true
        });
    }

    fn lag(&self) -> Duration {
        self.settings.drain_lag
    }

    fn open(&self) -> Vec<u32> {
        self.workers().iter().map(|worker| worker.open.load(Relaxed)).collect()
    }

    fn evict(&self, thread: usize, count: u32, retry_after: &RetryAfter) {
        // A worker that has ended has no tunnels.
        let _ = self.workers()[thread].orders.send(Order::Evict(count, retry_after.clone()));
    }
}
