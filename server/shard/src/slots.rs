//! Slots: how many connections this shard holds, and the only way to hold one more.
//!
//! All workers share one [`Slots`]. A [`Slot`] is granted atomically and released exactly once, when it is dropped,
//! whatever path led there: so the count can neither exceed the capacity nor leak (invariants A1 and A2).

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed, Ordering::SeqCst};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::gauge::ConstGauge;
use wscluster_runtime::fds::{Budget, Permit};

/// Slots of one shard.
#[derive(Debug)]
pub struct Slots {
    capacity: u32,
    used: AtomicU32,
    fds: Arc<Budget>,
}

/// The right to hold one connection; returns when dropped.
#[derive(Debug)]
pub struct Slot(Arc<Slots>);

impl Slots {
    /// `capacity` free slots, whose connections take their descriptors from `fds`.
    pub fn new(capacity: u32, fds: Arc<Budget>) -> Arc<Self> {
        Arc::new(Self { capacity, used: AtomicU32::new(0), fds })
    }

    /// A slot, unless all are taken. It takes over the `permit`, one [`Permit::CONNECTION`] of [`Self::fds`], which stays
    /// where there is none.
    pub fn grant(self: &Arc<Self>, permit: &mut Option<Permit>) -> Option<Slot> {
        let free = |used: u32| (used < self.capacity).then_some(used + 1);
        permit.as_ref()?;
        // In one order with the begin of a drain, which waits for the last slot: see `Shared::admit`.
        self.used.fetch_update(SeqCst, Relaxed, free).ok()?;
        permit.take()?.keep();
        Some(Slot(Arc::clone(self)))
    }

    /// File descriptors.
    pub fn fds(&self) -> &Arc<Budget> {
        &self.fds
    }

    /// Slots taken.
    pub fn used(&self) -> u32 {
        self.used.load(SeqCst)
    }

    /// All slots.
    pub fn capacity(&self) -> u32 {
        self.capacity
    }
}

/// Slots as metrics, read when they are asked for.
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
    fn refuses_until_one_returns() {
        let slots = slots(1);
        let slot = grant(&slots).unwrap();
        assert!(grant(&slots).is_none());
        drop(slot);
        assert!(grant(&slots).is_some());
    }
}
