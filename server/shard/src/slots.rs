//! Slots: the number of connections of this shard, and the only way to add one.
//!
//! All workers share one [`Slots`]. A [`Slot`] is granted atomically and released exactly once, when it is dropped,
//! so the count can neither exceed the capacity nor leak (invariants A1 and A2).

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed, Ordering::SeqCst};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::gauge::ConstGauge;
use wscluster_runtime::fds::{Budget, Permit};

/// The slots of a shard.
#[derive(Debug)]
pub(crate) struct Slots {
    capacity: u32,
    used: AtomicU32,
    fds: Arc<Budget>,
}

/// The right to hold one connection. Dropping it returns it.
#[derive(Debug)]
pub(crate) struct Slot(Arc<Slots>);

impl Slots {
    /// `capacity` free slots. Their connections take file descriptors from `fds`.
    pub(crate) fn new(capacity: u32, fds: Arc<Budget>) -> Arc<Self> {
        Arc::new(Self { capacity, used: AtomicU32::new(0), fds })
    }

    /// Grants a slot, unless all are taken. It consumes the `permit`, one [`Permit::CONNECTION`] of [`Self::fds`];
    /// without a slot the permit stays.
    pub(crate) fn grant(self: &Arc<Self>, permit: &mut Option<Permit>) -> Option<Slot> {
        let free = |used: u32| (used < self.capacity).then_some(used + 1);
        permit.as_ref()?;
        // Sequentially consistent with the begin of a drain, which waits for the last slot: see `Shared::take_slot`.
        self.used.fetch_update(SeqCst, Relaxed, free).ok()?;
        permit.take()?.keep();
        Some(Slot(Arc::clone(self)))
    }

    /// File descriptors.
    pub(crate) fn fds(&self) -> &Arc<Budget> {
        &self.fds
    }

    /// Number of slots taken.
    pub(crate) fn used(&self) -> u32 {
        self.used.load(SeqCst)
    }

    /// Number of all slots.
    pub(crate) fn capacity(&self) -> u32 {
        self.capacity
    }
}

/// Slots as metrics, read on each scrape.
#[derive(Debug)]
pub(super) struct SlotMetrics(pub(super) Arc<Slots>);

impl Collector for SlotMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let slots = [
            ("wscluster_shard_slots", "Connections this shard may hold", self.0.capacity()),
            ("wscluster_shard_slots_in_use", "Connections this shard holds", self.0.used()),
        ];
        for (name, help, value) in slots {
            let gauge = ConstGauge::new(i64::from(value));
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.used.fetch_sub(1, Relaxed);
        self.0.fds.put_back(Permit::CONNECTION);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    fn slots(capacity: u32) -> Arc<Slots> {
        Slots::new(capacity, Budget::new(10_000, 0))
    }

    fn grant(slots: &Arc<Slots>) -> Option<Slot> {
        slots.grant(&mut slots.fds().take(Permit::CONNECTION))
    }

    #[test]
    fn grants_no_more_than_capacity_to_many_threads() {
        let slots = slots(100);
        let (granted, most) = (AtomicUsize::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for round in 0..2_000 {
                        let mut held: Vec<Slot> = (0..40).map_while(|_| grant(&slots)).collect();
                        granted.fetch_add(held.len(), Relaxed);
                        most.fetch_max(slots.used(), Relaxed);
                        held.truncate(round % 7);
                    }
                });
            }
        });
        assert!(granted.load(Relaxed) > 0);
        assert!(most.load(Relaxed) <= 100);
        assert_eq!((slots.used(), slots.fds().room()), (0, Budget::new(10_000, 0).room()));
    }

    #[test]
    fn refuses_until_a_slot_returns() {
        let slots = slots(1);
        let slot = grant(&slots).unwrap();
        assert!(grant(&slots).is_none());
        drop(slot);
        assert!(grant(&slots).is_some());
    }
}
