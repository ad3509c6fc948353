//! Moves connections away: at a rate, with jitter, each with its own hint when to come back, until a deadline.
//!
//! One [`Drain`] for the process decides how many; each worker picks which of its own. `POST /drain`, `DELETE /drain` and
//! signals all come here.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use rand::RngExt as _;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use wscluster_api::spec::{Drain, RetryAfter};

use super::connection::Phase;
use super::handshake::hint_ms;
use super::settings::LINGER;
use super::shared::Shared;
use super::worker::Worker;
use crate::ws::close::CloseCode;

/// What a worker is told.
#[derive(Clone, Debug)]
pub(super) enum Order {
    /// Close this many connections, with a hint from this range.
    Evict(u32, RetryAfter),
}

/// Time between two looks at how many are to go.
const STEP: Duration = Duration::from_millis(20);

/// Takes drains in and back.
#[derive(Clone, Debug)]
pub struct Drains {
    shared: Arc<Shared>,
    wanted: watch::Sender<Option<Drain>>,
    /// The process ends: no other drain, no way back.
    is_last: Arc<AtomicBool>,
}

/// The process is ending, and nothing changes that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the process is ending: its drain can be neither replaced nor taken back")]
pub struct Ending;

impl Drains {
    /// Refuses new upgrades and begins to move connections away; replaces a drain under way.
    pub fn begin(&self, drain: Drain) -> Result<(), Ending> {
        if self.is_last.load(Relaxed) {
            return Err(Ending);
        }
        self.start(drain);
        Ok(())
    }

    /// [`Self::begin`] for a process that ends.
    pub fn begin_last(&self, drain: Drain) {
        self.is_last.store(true, Relaxed);
        self.start(drain);
    }

    fn start(&self, drain: Drain) {
        tracing::info!(evict_rate = drain.evict_rate, deadline = %drain.deadline, "draining");
        self.shared.set_draining(true);
        self.wanted.send_replace(Some(drain));
    }

    /// Takes it back: upgrades are taken again, and who is here stays.
    pub fn cancel(&self) -> Result<(), Ending> {
        if self.is_last.load(Relaxed) {
            return Err(Ending);
        }
        if self.wanted.send_replace(None).is_some() {
            tracing::info!("drain taken back");
        }
        self.shared.set_draining(false);
        Ok(())
    }

    /// Handle and the task that does the work.
    pub(super) fn new(
        shared: Arc<Shared>,
        workers: Vec<mpsc::UnboundedSender<Order>>,
    ) -> (Self, impl Future<Output = ()>) {
        let (wanted, drains) = watch::channel(None);
        (Self { shared: Arc::clone(&shared), wanted, is_last: Arc::default() }, run(shared, workers, drains))
    }
}

async fn run(
    shared: Arc<Shared>,
    workers: Vec<mpsc::UnboundedSender<Order>>,
    mut drains: watch::Receiver<Option<Drain>>,
) {
    loop {
        let drain = drains.borrow_and_update().clone();
        let next = match drain {
            Some(drain) => {
                tokio::select! {
                    next = drains.changed() => next,
                    () = evict(&shared, &workers, &drain) => unreachable!("evicts until told otherwise"),
                }
            }
            None => drains.changed().await,
        };
        if next.is_err() {
            return;
        }
    }
}

/// Evicts at the drain's rate, and all that is left from its deadline on.
async fn evict(shared: &Shared, workers: &[mpsc::UnboundedSender<Order>], drain: &Drain) {
    let start = Instant::now();
    let gap = Duration::from_secs(1) / drain.evict_rate.max(1);
    // A moment for the first one too: a drain that is taken back at once moves nobody.
    let mut next = start + gap.mul_f64(rand::rng().random_range(0.5..1.5));
    loop {
        tokio::time::sleep(STEP).await;
        let now = Instant::now();
        let mut open: Vec<u32> = shared.open.iter().map(|open| open.load(Relaxed)).collect();
        let mut evictions = vec![0; workers.len()];
        let is_over = now - start >= drain.deadline.0;
        while next <= now && !is_over {
            next += gap.mul_f64(rand::rng().random_range(0.5..1.5));
            let total: u32 = open.iter().sum();
            if total == 0 {
                continue;
            }
            // The worker of a connection drawn from all.
            let mut at = rand::rng().random_range(0..total);
            for (open, evictions) in open.iter_mut().zip(&mut evictions) {
                if at < *open {
                    *open -= 1;
                    *evictions += 1;
                    break;
                }
                at -= *open;
            }
        }
        for (worker, evictions) in workers.iter().zip(evictions) {
            let evictions = if is_over { u32::MAX } else { evictions };
            if evictions > 0 {
                let _ = worker.send(Order::Evict(evictions, drain.retry_after.clone()));
            }
        }
    }
}

/// Resolves when no connection is left, or when what the drain's deadline left had its time to close.
pub(super) async fn is_over(shared: &Shared, deadline: Duration) {
    let end = Instant::now() + deadline + LINGER + STEP;
    while shared.slots.used() > 0 && Instant::now() < end {
        tokio::time::sleep(STEP).await;
    }
}

impl Worker {
    pub(super) fn obey(&mut self, order: Order) {
        let Order::Evict(count, retry_after) = order;
        let capacity = self.connections.capacity().max(1);
        let start = rand::rng().random_range(0..capacity);
        let keys: Vec<u32> = (start..capacity)
            .chain(0..start)
            .filter(|key| self.connections.get(*key).is_some_and(|connection| connection.phase == Phase::Open))
            .take(count as usize)
            .map(|key| key as u32)
            .collect();
        self.shared.metrics.evictions.inc_by(keys.len() as u64);
        for key in keys {
            let hint = hint_ms(&retry_after);
            self.begin_close(key, CloseCode::Restart, &format!("{{\"retry_after_ms\":{hint}}}"));
        }
        self.publish();
    }
}
