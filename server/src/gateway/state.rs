//! What the workers, the poller and the admin server of one gateway process share, and the stages of its end.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use wscluster_api::WsClusterSpec;
use wscluster_api::spec::RetryAfter;

use super::metrics::Metrics;
use super::queue::Queue;
use super::table::{ShardId, Table};
use crate::fds::Budget;
use crate::ws::upgrade::HeadLimits;

/// What the manifest and the command line ask for.
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
    /// Range of the hint in a 503.
    pub retry_after: RetryAfter,
    /// Log every handshake, not only failed ones.
    pub log_handshakes: bool,
}

impl Settings {
    /// From a manifest.
    pub fn new(spec: &WsClusterSpec, log_handshakes: bool) -> Self {
        let (limits, queue) = (&spec.gateway.limits, &spec.gateway.queue);
        Self {
            head: HeadLimits {
                max_bytes: usize::try_from(limits.max_head_bytes.0).unwrap_or(usize::MAX),
                max_headers: limits.max_headers as usize,
            },
            head_timeout: limits.head_timeout.0,
            handshake_timeout: limits.handshake_timeout.0,
            shard_timeout: limits.shard_timeout.0,
            max_waiting: queue.max_waiting as usize,
            queue_timeout: queue.timeout.0,
            allowed_origins: spec.gateway.allowed_origins.clone(),
            retry_after: spec.drain.retry_after.clone(),
            log_handshakes,
        }
    }
}

/// How far the end of this process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Serving.
    Open,
    /// Serving, but not ready: load balancers send new clients elsewhere.
    NotReady,
    /// No listener; what has begun may end.
    Draining,
    /// Tunnels are closed.
    Closing,
}

/// For one worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// End the tunnels to a shard that were opened before this time of the table's clock.
    EndTunnels(ShardId, u64),
}

/// One gateway process.
pub struct Gateway {
    /// What was asked for.
    pub settings: Settings,
    /// The shards.
    pub table: Table,
    /// Those who wait.
    pub queue: Arc<Queue>,
    /// What happened.
    pub metrics: Metrics,
    /// File descriptors.
    pub fds: Arc<Budget>,
    /// Open tunnels.
    pub tunnels: AtomicU32,
    /// Changes with every start.
    pub incarnation: String,
    /// Start of the process.
    pub started: Instant,
    failed: AtomicBool,
    stage: watch::Sender<Stage>,
    workers: Mutex<Vec<mpsc::UnboundedSender<Order>>>,
}

impl Gateway {
    /// A gateway with no shards and no workers yet.
    pub fn new(settings: Settings, fds: Arc<Budget>) -> Arc<Self> {
        Arc::new(Self {
            queue: Queue::new(settings.max_waiting),
            settings,
            table: Table::new(),
            metrics: Metrics::new(),
            fds,
            tunnels: AtomicU32::new(0),
            incarnation: format!("{:016x}", rand::random::<u64>()),
            started: Instant::now(),
            failed: AtomicBool::new(false),
            stage: watch::Sender::new(Stage::Open),
            workers: Mutex::default(),
        })
    }

    /// Lets those who wait try the slots that are believed free. Call it after anything that may have freed one.
    pub fn offer_slots(&self) {
        if !self.queue.is_empty() {
            self.queue.call(self.table.free_slots());
        }
    }

    /// A worker's orders.
    pub fn enlist(&self) -> mpsc::UnboundedReceiver<Order> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        receiver
    }

    /// Tells every worker.
    pub fn order(&self, order: Order) {
        for worker in self.workers.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            // A worker that has ended has no tunnels.
            let _ = worker.send(order);
        }
    }

    /// Where the end of this process is.
    pub fn stage(&self) -> Stage {
        *self.stage.borrow()
    }

    /// Goes on to `stage`.
    pub fn enter(&self, stage: Stage) {
        self.stage.send_replace(stage);
    }

    /// A part without which the process is of no use has ended.
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
