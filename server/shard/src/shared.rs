//! The little that the workers of a shard share with each other, the admin server and the drain: all of it atomic.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use tokio::sync::SetOnce;
use wscluster_admin::health::State;
use wscluster_kafka::backfill::Past;
use wscluster_runtime::fds::{Budget, Permit};

use super::metrics::Metrics;
use super::settings::Settings;
use super::slots::{Slot, Slots};

/// Why a client is refused for which there is a slot but no descriptor.
pub(super) const FD_LIMIT: &str = "fd_limit";

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
    /// A part has ended that must not.
    broken: Arc<SetOnce<()>>,
    /// Connections a worker that are not being closed.
    pub(super) open: Box<[AtomicU32]>,
}

impl Shared {
    /// State of a shard that just started.
    pub fn new(settings: Settings, metrics: Metrics, workers: usize) -> Arc<Self> {
        Arc::new(Self {
            slots: Slots::new(settings.capacity, Budget::of_this_process()),
            settings,
            metrics,
            past: OnceLock::new(),
            started: Instant::now(),
            unfilled: AtomicU32::new(workers as u32),
            draining: AtomicBool::new(false),
            broken: Arc::default(),
            open: (0..workers).map(|_| AtomicU32::new(0)).collect(),
        })
    }

    /// What the shard does with new upgrades.
    pub fn state(&self) -> State {
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

    /// A slot for a client with this `permit`, or why there is none. Depends on slots, descriptors and state only, never
    /// on a load sample (invariant A3).
    pub(super) fn admit(&self, permit: &mut Option<Permit>) -> Result<Slot, &'static str> {
        let state = self.state();
        let slot = match state {
            State::Starting | State::Draining => Err(state.as_str()),
            State::Ready | State::Full => self.slots.grant(permit).ok_or_else(|| self.why_no_slot(permit.as_ref())),
        };
        // A drain that began meanwhile may have seen no connection and ended the process: either it sees this one, or
        // this sees it.
        let slot = slot.and_then(|slot| match self.state() {
            State::Draining => Err(State::Draining.as_str()),
            _ => Ok(slot),
        });
        match &slot {
            Ok(_) => self.metrics.granted.inc(),
            Err(reason) => self.metrics.refused.get_or_create(&super::metrics::Label("reason", reason)).inc(),
        };
        slot
    }

    fn why_no_slot(&self, permit: Option<&Permit>) -> &'static str {
        let full = permit.is_some() || self.slots.used() >= self.slots.capacity();
        if full { State::Full.as_str() } else { FD_LIMIT }
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

    /// Set when a part ends that must not; for those that are not the shard's own.
    pub(super) fn broken(&self) -> Arc<SetOnce<()>> {
        Arc::clone(&self.broken)
    }

    /// Whether a worker or another vital part has ended.
    pub fn is_broken(&self) -> bool {
        self.broken.initialized()
    }

    /// Resolves when one has.
    pub(super) async fn broke(&self) {
        self.broken.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_slot_outlives_a_look_that_found_none_after_the_drain_began() {
        let text = "apiVersion: wscluster.dev/v1alpha1\nkind: WsCluster\nmetadata: { name: t }\n\
                    spec: { source: { kafka: { topics: [{ name: t, channel: '{key}' }] } } }\n";
        let cluster = wscluster_api::manifest::parse(text, std::path::Path::new("test.yaml")).unwrap();
        for _ in 0..2_000 {
            let metrics = Metrics::register(&mut prometheus_client::registry::Registry::default());
            let shared = Shared::new(Settings::new("s", &cluster.spec), metrics, 1);
            shared.filled();
            std::thread::scope(|scope| {
                let admitting = scope.spawn(|| shared.admit(&mut shared.slots.fds().take(Permit::CONNECTION)));
                shared.set_draining(true);
                let found = shared.slots.used();
                let slot = admitting.join().unwrap();
                assert!(slot.is_err() || found == 1, "granted behind the last look");
            });
        }
    }
}
