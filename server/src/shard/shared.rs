//! The little that the workers of a shard share with each other, the admin server and the drain: all of it atomic.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use tokio::sync::SetOnce;

use super::metrics::Metrics;
use super::settings::Settings;
use super::slots::{Slot, Slots};

use crate::health::State;
use crate::kafka::past::Past;

/// State of a shard that all its threads see.
#[derive(Debug)]
pub struct Shared {
    /// Settings.
    pub settings: Settings,
    /// Slots.
    pub slots: Arc<Slots>,
    /// Metrics.
    pub metrics: Metrics,
    /// The way to what no worker remembers, where there is one.
    pub past: OnceLock<Past>,
    /// When the process started.
    pub started: Instant,
    /// Workers whose window is not filled yet.
    unfilled: AtomicU32,
    draining: AtomicBool,
    /// A worker ended, which it must not.
    broken: SetOnce<()>,
    /// Connections a worker that are not being closed.
    pub(super) open: Box<[AtomicU32]>,
}

impl Shared {
    /// State of a shard that just started.
    pub fn new(settings: Settings, metrics: Metrics, workers: usize) -> Arc<Self> {
        Arc::new(Self {
            slots: Slots::new(settings.capacity),
            settings,
            metrics,
            past: OnceLock::new(),
            started: Instant::now(),
            unfilled: AtomicU32::new(workers as u32),
            draining: AtomicBool::new(false),
            broken: SetOnce::new(),
            open: (0..workers).map(|_| AtomicU32::new(0)).collect(),
        })
    }

    /// What the shard does with new upgrades.
    pub fn state(&self) -> State {
        if self.draining.load(SeqCst) {
            State::Draining
        } else if self.unfilled.load(Relaxed) > 0 {
            State::Starting
        } else if self.slots.used() >= self.slots.capacity() {
            State::Full
        } else {
            State::Ready
        }
    }

    /// A slot, or why there is none. Depends on slots and state only, never on a load sample (invariant A3).
    pub(super) fn admit(&self) -> Result<Slot, State> {
        let state = self.state();
        let slot = match state {
            State::Ready | State::Full => self.slots.grant().ok_or(State::Full),
            State::Starting | State::Draining => Err(state),
        };
        match &slot {
            Ok(_) => self.metrics.granted.inc(),
            Err(state) => self.metrics.refused.get_or_create(&super::metrics::Label("reason", reason(*state))).inc(),
        };
        slot
    }

    /// One more worker has its window filled.
    pub(super) fn filled(&self) {
        if self.unfilled.fetch_sub(1, Relaxed) == 1 {
            tracing::info!(shard = self.settings.name, capacity = self.settings.capacity, "ready");
        }
    }

    /// Refuses upgrades from now on, or takes that back.
    pub fn set_draining(&self, draining: bool) {
        self.draining.store(draining, SeqCst);
    }

    pub(super) fn set_broken(&self) {
        // Once is enough.
        let _ = self.broken.set(());
    }

    /// Whether a worker ended.
    pub fn is_broken(&self) -> bool {
        self.broken.initialized()
    }

    /// Resolves when a worker has ended.
    pub(super) async fn broke(&self) {
        self.broken.wait().await;
    }
}

/// A state as the word that answers and metrics use.
pub(super) fn reason(state: State) -> &'static str {
    match state {
        State::Starting => "starting",
        State::Ready => "ready",
        State::Full => "full",
        State::Draining => "draining",
    }
}
