//! Moves connections away at a rate, with jitter, each with its own retry hint, until a deadline. Used by shards and
//! gateways; `docs/drain.md` describes the behaviour of each.
//!
//! One [`Drains`] per process decides how many connections go when; the implementation of [`Holds`] chooses which
//! ones. Requests to `/drain` and `/evict`, and signals, all use it.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use rand::RngExt as _;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::Instant;
use wscluster_api::spec::{Drain, RetryAfter};

#[cfg(test)]
mod tests;

/// Interval between two batches of evictions.
pub const STEP: Duration = Duration::from_millis(20);

/// How much a delayed process catches up; more at once would be a burst.
const CATCH_UP: Duration = Duration::from_millis(100);

/// How much longer an eviction may take than its rate requires.
const LATE: Duration = Duration::from_secs(1);

/// Progress of a drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainPhase {
    /// No drain: connections are accepted.
    Open,
    /// The drain is announced, so that gateways or load balancers send new clients elsewhere.
    Announced,
    /// New connections are refused.
    Refusing,
    /// New connections are refused, and the process will end.
    Ending,
}

/// A process that holds connections on several threads.
pub trait Holds: Send + Sync + 'static {
    /// The drain has reached `phase`. [`DrainPhase::Refusing`] may arrive after a cancel ([`DrainPhase::Open`]):
    /// ignore it then.
    fn enter(&self, phase: DrainPhase);

    /// Time from [`DrainPhase::Announced`] to [`DrainPhase::Refusing`].
    fn lag(&self) -> Duration {
        Duration::ZERO
    }

    /// Number of connections of each thread that are not being moved away.
    fn open(&self) -> Vec<u32>;

    /// Moves `count` connections of a thread away, or all if there are fewer, each with a retry hint from this range.
    fn evict(&self, thread: usize, count: u32, retry_after: &RetryAfter);
}

/// Body of `POST /evict`: moves some connections to emptier processes, while new ones are accepted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EvictRequest {
    /// Number of connections; all if there are fewer.
    pub count: u32,
    /// Connections moved per second.
    pub evict_rate: u32,
    /// Range of the retry hint to clients.
    pub retry_after: RetryAfter,
}

#[derive(Clone, Debug)]
enum Wanted {
    Drain(Drain),
    Evict(EvictRequest),
}

/// Starts and cancels drains. Cheap to clone.
#[derive(Debug)]
pub struct Drains<H> {
    /// Weak, so that a handle does not keep the process state alive.
    holder: Weak<H>,
    wanted: watch::Sender<Option<Wanted>>,
    /// The drain is final, because the process ends.
    is_last: Arc<AtomicBool>,
    own: Arc<Mutex<Drain>>,
}

impl<H> Clone for Drains<H> {
    fn clone(&self) -> Self {
        let (holder, wanted) = (Weak::clone(&self.holder), self.wanted.clone());
        Self { holder, wanted, is_last: Arc::clone(&self.is_last), own: Arc::clone(&self.own) }
    }
}

/// The drain is final: the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the process is ending: its drain can be neither replaced nor cancelled")]
pub struct Ending;

/// An eviction was refused, because a drain moves every connection already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the process drains already, which moves every connection")]
pub struct Draining;

impl<H: Holds> Drains<H> {
    /// The handle and the task that does the work; `own` is the configured drain.
    pub fn new(holder: Arc<H>, own: Drain) -> (Self, impl Future<Output = ()> + use<H>) {
        let (wanted, drains) = watch::channel(None);
        let is_last = Arc::new(AtomicBool::new(false));
        let own = Arc::new(Mutex::new(own));
        let handle = Self { holder: Arc::downgrade(&holder), wanted, is_last: Arc::clone(&is_last), own };
        (handle, run(holder, is_last, drains))
    }

    /// The configured drain: the one that a signal starts.
    pub fn own(&self) -> Drain {
        self.own.lock().clone()
    }

    /// Replaces the configured drain; starts none.
    pub fn set_own(&self, drain: Drain) {
        *self.own.lock() = drain;
    }

    /// Starts a drain, or replaces the one under way.
    pub fn begin(&self, drain: Drain) -> Result<(), Ending> {
        if self.is_last.load(Relaxed) {
            return Err(Ending);
        }
        self.start(drain);
        Ok(())
    }

    /// Starts the last drain of the process.
    pub fn begin_last(&self, drain: Drain) {
        self.is_last.store(true, Relaxed);
        self.start(drain);
    }

    fn start(&self, drain: Drain) {
        let (evict_rate, deadline) = (drain.evict_rate, drain.deadline);
        if matches!(*self.wanted.borrow(), Some(Wanted::Drain(_))) {
            tracing::info!(evict_rate, %deadline, "drain replaced");
        } else {
            tracing::info!(evict_rate, %deadline, "draining");
        }
        self.enter(DrainPhase::Announced);
        self.wanted.send_replace(Some(Wanted::Drain(drain)));
    }

    /// Starts an eviction, or replaces the one under way. A drain replaces it.
    pub fn evict(&self, evict: EvictRequest) -> Result<(), Draining> {
        let (count, evict_rate) = (evict.count, evict.evict_rate);
        let begins = self.wanted.send_if_modified(|wanted| {
            let begins = !matches!(wanted, Some(Wanted::Drain(_)));
            if begins {
                *wanted = Some(Wanted::Evict(evict));
            }
            begins
        });
        if !begins {
            return Err(Draining);
        }
        tracing::info!(count, evict_rate, "evicting");
        Ok(())
    }

    /// Cancels a drain or an eviction: the remaining connections stay, and new ones are accepted.
    pub fn cancel(&self) -> Result<(), Ending> {
        if self.is_last.load(Relaxed) {
            return Err(Ending);
        }
        if let Some(Wanted::Drain(_)) = self.wanted.send_replace(None) {
            tracing::info!("drain cancelled");
        }
        self.enter(DrainPhase::Open);
        Ok(())
    }

    fn enter(&self, phase: DrainPhase) {
        if let Some(holder) = self.holder.upgrade() {
            holder.enter(phase);
        }
    }
}

async fn run<H: Holds>(holder: Arc<H>, is_last: Arc<AtomicBool>, mut orders: watch::Receiver<Option<Wanted>>) {
    // A drain that replaces another one is not announced again.
    let mut refusing = false;
    loop {
        let wanted = orders.borrow_and_update().clone();
        refusing &= matches!(wanted, Some(Wanted::Drain(_)));
        let work = async {
            match wanted {
                Some(Wanted::Drain(drain)) => carry_out(&*holder, &drain, &is_last, &mut refusing).await,
                Some(Wanted::Evict(some)) => evict_some(&*holder, some).await,
                None => {}
            }
            std::future::pending::<std::convert::Infallible>().await
        };
        let next = tokio::select! {
            // In this order: after a cancel no further connection is moved.
            biased;
            next = orders.changed() => next,
            never = work => match never {},
        };
        if next.is_err() {
            return;
        }
    }
}

async fn carry_out<H: Holds>(holder: &H, drain: &Drain, is_last: &AtomicBool, refusing: &mut bool) {
    let start = Instant::now();
    if !*refusing {
        tokio::time::sleep(holder.lag().min(drain.deadline.0)).await;
    }
    holder.enter(if is_last.load(Relaxed) { DrainPhase::Ending } else { DrainPhase::Refusing });
    if !*refusing {
        *refusing = true;
        tokio::time::sleep(drain.settle()).await;
    }
    evict(holder, drain, start + drain.deadline.0).await;
}

/// Evicts at the drain's rate, and all remaining connections from the deadline on.
async fn evict<H: Holds>(holder: &H, drain: &Drain, deadline: Instant) {
    let mut pace = Pace::new(drain.evict_rate, Instant::now());
    loop {
        tokio::time::sleep(STEP).await;
        let open = holder.open();
        if Instant::now() >= deadline {
            (0..open.len()).for_each(|thread| holder.evict(thread, u32::MAX, &drain.retry_after));
        } else {
            evict_due(holder, open, &mut pace, u32::MAX, &drain.retry_after);
        }
    }
}

async fn evict_some<H: Holds>(holder: &H, some: EvictRequest) {
    let now = Instant::now();
    let takes = Duration::from_secs(1).saturating_mul(some.count) / some.evict_rate.max(1);
    let mut pace = Pace::new(some.evict_rate, now);
    let mut left = some.count;
    // Ends in time even if there were fewer connections: later ones must not be evicted.
    while left > 0 && Instant::now() < now + takes + LATE {
        tokio::time::sleep(STEP).await;
        left -= evict_due(holder, holder.open(), &mut pace, left, &some.retry_after);
    }
}

/// Evicts the connections that are due, at most `most`, and returns their number.
fn evict_due<H: Holds>(holder: &H, mut open: Vec<u32>, pace: &mut Pace, most: u32, retry_after: &RetryAfter) -> u32 {
    let now = Instant::now();
    let mut evictions = vec![0; open.len()];
    let mut all = 0;
    while all < most && pace.is_due(now) {
        if let Some(thread) = draw(&open) {
            open[thread] -= 1;
            evictions[thread] += 1;
            all += 1;
        }
    }
    for (thread, evictions) in evictions.into_iter().enumerate().filter(|(_, evictions)| *evictions > 0) {
        holder.evict(thread, evictions, retry_after);
    }
    all
}

/// The times of evictions: each at a random moment of its own interval. That gives jitter, and in any period at most
/// two evictions more than the rate.
struct Pace {
    gap: Duration,
    stretch: Instant,
    next: Instant,
}

impl Pace {
    fn new(rate: u32, now: Instant) -> Self {
        let gap = Duration::from_secs(1) / rate.max(1);
        // The first one waits too: a drain that is cancelled at once moves no connection.
        let mut pace = Self { gap, stretch: now + gap / 2, next: now };
        pace.draw();
        pace
    }

    fn draw(&mut self) {
        self.next = self.stretch + self.gap.mul_f64(rand::rng().random_range(0.0..1.0));
    }

    /// Whether one more eviction is due; if so, schedules the next one.
    fn is_due(&mut self, now: Instant) -> bool {
        let behind = now.saturating_duration_since(self.next);
        if self.next > now {
            return false;
        }
        self.stretch += self.gap + behind.saturating_sub(CATCH_UP);
        self.draw();
        true
    }
}

/// The thread of a random connection; each connection is equally likely.
fn draw(open: &[u32]) -> Option<usize> {
    let total: u32 = open.iter().sum();
    let mut at = if total == 0 { return None } else { rand::rng().random_range(0..total) };
    open.iter().position(|open| match at.checked_sub(*open) {
        None => true,
        Some(rest) => {
            at = rest;
            false
        }
    })
}

/// A retry hint in milliseconds, drawn for one client.
pub fn hint_ms(retry_after: &RetryAfter) -> u64 {
    let (min, max) = (retry_after.min.0.as_millis() as u64, retry_after.max.0.as_millis() as u64);
    rand::rng().random_range(min..=max.max(min))
}

/// The reason of a Close frame with a retry hint.
pub fn reason(hint_ms: u64) -> String {
    format!("{{\"retry_after_ms\":{hint_ms}}}")
}
