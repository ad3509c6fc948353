//! State that the workers of a shard share with each other, the admin server and the drain. All of it is atomic.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use tokio::sync::SetOnce;
use wscluster_admin::health::State;
use wscluster_kafka::backfill::Backfill;
use wscluster_runtime::fds::{Budget, Permit};

use super::metrics::Metrics;
use super::settings::Settings;
use super::slots::{Slot, Slots};

/// Why a client with a valid request gets no slot: `X-Wscluster-Reason` of the 503, and a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoSlot {
    /// The window is not filled yet.
    Starting,
    /// Every slot is taken.
    Full,
    /// The shard is drained.
    Draining,
    /// A slot is free, but no file descriptor.
    FdLimit,
}

impl NoSlot {
    pub(crate) const ALL: [Self; 4] = [Self::Starting, Self::Full, Self::Draining, Self::FdLimit];

    /// The word on the wire and in metrics.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => State::Starting.as_str(),
            Self::Full => State::Full.as_str(),
            Self::Draining => State::Draining.as_str(),
            Self::FdLimit => "fd_limit",
        }
    }
}

/// State of a shard, shared by all its threads.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Settings.
    pub(crate) settings: Settings,
    /// Slots.
    pub(crate) slots: Arc<Slots>,
    /// Metrics.
    pub(crate) metrics: Metrics,
    /// Reads records that no worker remembers back from Kafka; unset without Kafka.
    pub(crate) backfill: OnceLock<Backfill>,
    /// When the process started.
    pub(crate) started: Instant,
    /// Workers whose window is not filled yet.
    unfilled: AtomicU32,
    draining: AtomicBool,
    /// Set when a critical thread or task has ended.
    broken: Arc<SetOnce<()>>,
    /// Open connections of each worker, without those that are being closed.
    pub(super) open: Box<[AtomicU32]>,
}

impl Shared {
    /// The state of a shard that has just started.
    pub(crate) fn new(settings: Settings, metrics: Metrics, workers: usize) -> Arc<Self> {
        Arc::new(Self {
            slots: Slots::new(settings.capacity, Budget::of_this_process()),
            settings,
            metrics,
            backfill: OnceLock::new(),
            started: Instant::now(),
            unfilled: AtomicU32::new(workers as u32),
            draining: AtomicBool::new(false),
            broken: Arc::default(),
            open: (0..workers).map(|_| AtomicU32::new(0)).collect(),
        })
    }

    /// Whether the shard accepts upgrades.
    pub(crate) fn state(&self) -> State {
        if self.draining.load(SeqCst) {
            State::Draining
        } else if self.unfilled.load(Relaxed) > 0 {
            State::Starting
        } else if self.slots.used() >= self.slots.capacity() || self.slots.fds().room() < Permit::CONNECTION {
            State::Full
        } else {
            State::Ready
        }
    }

    /// Takes a slot for a client with this `permit`. Depends on slots, descriptors and state only, never on a load
    /// sample (invariant A3).
    pub(super) fn take_slot(&self, permit: &mut Option<Permit>) -> Result<Slot, NoSlot> {
        let slot = match self.state() {
            State::Starting => Err(NoSlot::Starting),
            State::Draining => Err(NoSlot::Draining),
            State::Ready | State::Full => self.slots.grant(permit).ok_or_else(|| self.why_no_slot(permit.as_ref())),
        };
        // A drain ends the process when it finds no connection. If it began since the check above, either it finds
        // this slot taken, or this second check finds the drain.
        let slot = slot.and_then(|slot| match self.state() {
            State::Draining => Err(NoSlot::Draining),
            _ => Ok(slot),
        });
        match &slot {
            Ok(_) => self.metrics.granted.inc(),
            Err(reason) => self.metrics.refused.get_or_create(&super::metrics::Label("reason", reason.as_str())).inc(),
        };
        slot
    }

    fn why_no_slot(&self, permit: Option<&Permit>) -> NoSlot {
        let full = permit.is_some() || self.slots.used() >= self.slots.capacity();
        if full { NoSlot::Full } else { NoSlot::FdLimit }
    }

    /// Counts a worker whose window is filled.
    pub(super) fn filled(&self) {
        if self.unfilled.fetch_sub(1, Relaxed) == 1 {
            tracing::info!(shard = self.settings.name, capacity = self.settings.capacity, "ready");
        }
    }

    /// Refuses upgrades from now on, or accepts them again.
    pub(crate) fn set_draining(&self, draining: bool) {
        self.draining.store(draining, SeqCst);
    }

    pub(super) fn set_broken(&self) {
        // It may be set already.
        let _ = self.broken.set(());
    }

    /// Set when a critical thread or task ends; for tasks outside this crate.
    pub(super) fn broken(&self) -> Arc<SetOnce<()>> {
        Arc::clone(&self.broken)
    }

    /// Whether a critical thread or task has ended.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken.initialized()
    }

    /// Resolves when a critical thread or task has ended.
    pub(super) async fn broke(&self) {
        self.broken.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_that_finds_no_connection_leaves_no_slot_taken() {
        let text = "apiVersion: wscluster.dev/v1alpha1\nkind: WsCluster\nmetadata: { name: t }\n\
                    spec: { source: { kafka: { topics: [{ name: t, channel: '{key}' }] } } }\n";
        let cluster = wscluster_api::manifest::parse(text, std::path::Path::new("test.yaml")).unwrap();
        for _ in 0..2_000 {
            let metrics = Metrics::register(&mut prometheus_client::registry::Registry::default());
            let shared = Shared::new(Settings::new("s", &cluster.spec), metrics, 1);
            shared.filled();
            std::thread::scope(|scope| {
                let admitting = scope.spawn(|| shared.take_slot(&mut shared.slots.fds().take(Permit::CONNECTION)));
                shared.set_draining(true);
                let found = shared.slots.used();
                let slot = admitting.join().unwrap();
                assert!(slot.is_err() || found == 1, "granted after the drain found no connection");
            });
        }
    }
}
