//! Moves connections away: at a rate, with jitter, each with its own hint when to come back, until a deadline. The same for
//! shards and gateways; `docs/drain.md` says what each of them does.
//!
//! One [`Drains`] for the process decides how many go when; who [`Holds`] connections picks which. `POST`, `PUT` and
//! `DELETE /drain`, `POST /evict` ([`routes`]) and signals all come here.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use rand::RngExt as _;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::Instant;
use wscluster_api::spec::{Drain, RetryAfter};

#[cfg(test)]
mod tests;

/// Time between two looks at how many are to go.
pub const STEP: Duration = Duration::from_millis(20);

/// How far a process that was held up catches up: more at once would be a burst.
const CATCH_UP: Duration = Duration::from_millis(100);

/// How much longer some evictions may take than their rate says.
const LATE: Duration = Duration::from_secs(1);

/// How far a drain has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainPhase {
    /// None: connections are taken.
    Open,
    /// Begun: others are told to send no more here.
    Announced,
    /// No connection is taken any more.
    Refusing,
    /// The same, for ever.
    Ending,
}

/// Holds connections on several threads.
pub trait Holds: Send + Sync + 'static {
    /// The drain has come so far. [`DrainPhase::Refusing`] may come too late, after [`DrainPhase::Open`]: then nothing is to be done.
    fn enter(&self, phase: DrainPhase);

    /// Time from [`DrainPhase::Announced`] to [`DrainPhase::Refusing`].
    fn lag(&self) -> Duration {
        Duration::ZERO
    }

    /// How many connections each thread holds that were not told to go.
    fn open(&self) -> Vec<u32>;

    /// Tells `count` connections of a thread to go, or all there are, each with a hint from this range.
    fn evict(&self, thread: usize, count: u32, retry_after: &RetryAfter);
}

/// Some connections move, to emptier processes; others are taken meanwhile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EvictRequest {
    /// How many, or all there are.
    pub count: u32,
    /// Of them, a second.
    pub evict_rate: u32,
    /// Range of the hint to clients when to come back.
    pub retry_after: RetryAfter,
}

#[derive(Clone, Debug)]
enum Wanted {
    Drain(Drain),
    Evict(EvictRequest),
}

/// Takes drains in and back.
#[derive(Debug)]
pub struct Drains<H> {
    /// Weak: what is asked of a process that is gone has no effect.
    holder: Weak<H>,
    wanted: watch::Sender<Option<Wanted>>,
    /// The process ends: no other drain, no way back.
    is_last: Arc<AtomicBool>,
    own: Arc<Mutex<Drain>>,
}

impl<H> Clone for Drains<H> {
    fn clone(&self) -> Self {
        let (holder, wanted) = (Weak::clone(&self.holder), self.wanted.clone());
        Self { holder, wanted, is_last: Arc::clone(&self.is_last), own: Arc::clone(&self.own) }
    }
}

/// The process is ending, and nothing changes that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the process is ending: its drain can be neither replaced nor taken back")]
pub struct Ending;

/// The process drains: everybody moves already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the process drains already: nobody is evicted beside that")]
pub struct Draining;

impl<H: Holds> Drains<H> {
    /// Handle and the task that does the work; `own` is the manifest's drain.
    pub fn new(holder: Arc<H>, own: Drain) -> (Self, impl Future<Output = ()> + use<H>) {
        let (wanted, drains) = watch::channel(None);
        let is_last = Arc::new(AtomicBool::new(false));
        let own = Arc::new(Mutex::new(own));
        let handle = Self { holder: Arc::downgrade(&holder), wanted, is_last: Arc::clone(&is_last), own };
        (handle, run(holder, is_last, drains))
    }

    /// What a drain is where nothing else is said: on a signal, for example.
    pub fn own(&self) -> Drain {
        self.own.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The manifest says something else by now; moves nobody.
    pub fn set_own(&self, drain: Drain) {
        *self.own.lock().unwrap_or_else(PoisonError::into_inner) = drain;
    }

    /// Begins to move connections away; replaces a drain under way.
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
        let (evict_rate, deadline) = (drain.evict_rate, drain.deadline);
        if matches!(*self.wanted.borrow(), Some(Wanted::Drain(_))) {
            tracing::info!(evict_rate, %deadline, "the drain goes on");
        } else {
            tracing::info!(evict_rate, %deadline, "draining");
        }
        self.enter(DrainPhase::Announced);
        self.wanted.send_replace(Some(Wanted::Drain(drain)));
    }

    /// Begins to move some connections away; replaces what is under way of that kind, and is replaced by a drain.
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

    /// Takes either back: connections are taken again, and who is here stays.
    pub fn cancel(&self) -> Result<(), Ending> {
        if self.is_last.load(Relaxed) {
            return Err(Ending);
        }
        if let Some(Wanted::Drain(_)) = self.wanted.send_replace(None) {
            tracing::info!("drain taken back");
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
    // A drain that replaces another one need not be announced again.
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
            // In this order: once it was taken back nobody more is moved.
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

/// Evicts at the drain's rate, and all that is left from its deadline on.
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
    // Where fewer are there than were to go, who comes later is not meant.
    while left > 0 && Instant::now() < now + takes + LATE {
        tokio::time::sleep(STEP).await;
        left -= evict_due(holder, holder.open(), &mut pace, left, &some.retry_after);
    }
}

/// Evicts those of the `open` connections that are due by now, `most` of them at most, and says how many.
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

/// When one goes after the other: each within its own stretch of time, anywhere in it. So there is jitter, and yet never
/// more than two too many in any time.
struct Pace {
    gap: Duration,
    stretch: Instant,
    next: Instant,
}

impl Pace {
    fn new(rate: u32, now: Instant) -> Self {
        let gap = Duration::from_secs(1) / rate.max(1);
        // A moment for the first one too: a drain that is taken back at once moves nobody.
        let mut pace = Self { gap, stretch: now + gap / 2, next: now };
        pace.draw();
        pace
    }

    fn draw(&mut self) {
        self.next = self.stretch + self.gap.mul_f64(rand::rng().random_range(0.0..1.0));
    }

    /// Whether one more is due; if so, it is taken to go.
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

/// The thread of a connection drawn from all.
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

/// When to come back, in milliseconds: each client gets its own value.
pub fn hint_ms(retry_after: &RetryAfter) -> u64 {
    let (min, max) = (retry_after.min.0.as_millis() as u64, retry_after.max.0.as_millis() as u64);
    rand::rng().random_range(min..=max.max(min))
}

/// The reason of a Close that says so.
pub fn reason(hint_ms: u64) -> String {
    format!("{{\"retry_after_ms\":{hint_ms}}}")
}
