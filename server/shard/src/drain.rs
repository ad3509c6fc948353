//! Drains of a shard: the pace is [`wscluster_runtime::drain`]'s, here is who goes. A shard refuses upgrades from the beginning on,
//! because its gateways ask another one.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use rand::RngExt as _;
use tokio::sync::mpsc;
use wscluster_api::spec::{Drain, RetryAfter};
use wscluster_protocol::close::CloseCode;
use wscluster_runtime::drain::{self, Holds, hint_ms, reason};

use super::connection::Phase;
use super::shared::Shared;
use super::worker::Worker;

/// What a worker is told.
#[derive(Clone, Debug)]
pub(super) enum Order {
    /// Close this many connections, with a hint from this range.
    Evict(u32, RetryAfter),
}

/// The workers of a shard, and what they share.
#[derive(Debug)]
pub struct Workers {
    pub(super) shared: Arc<Shared>,
    pub(super) orders: Vec<mpsc::UnboundedSender<Order>>,
}

/// Takes drains of a shard.
pub type Drains = drain::Drains<Workers>;

impl Holds for Workers {
    fn enter(&self, phase: drain::DrainPhase) {
        match phase {
            drain::DrainPhase::Open => self.shared.set_draining(false),
            drain::DrainPhase::Announced => self.shared.set_draining(true),
            drain::DrainPhase::Refusing | drain::DrainPhase::Ending => {}
        }
    }

    fn open(&self) -> Vec<u32> {
        self.shared.open.iter().map(|open| open.load(Relaxed)).collect()
    }

    fn evict(&self, thread: usize, count: u32, retry_after: &RetryAfter) {
        // A worker that has ended holds nobody.
        let _ = self.orders[thread].send(Order::Evict(count, retry_after.clone()));
    }
}

impl Worker {
    pub(super) fn obey(&mut self, order: Order) {
        let Order::Evict(count, retry_after) = order;
        let (connections, now) = (&self.connections, self.wheel.now());
        let capacity = connections.capacity().max(1);
        let start = rand::rng().random_range(0..capacity);
        let open = |has_settled: bool| {
            let keys = (start..capacity).chain(0..start);
            keys.filter(move |key| {
                connections.get(*key).is_some_and(|connection| {
                    connection.phase == Phase::Open && (connection.since.after(Drain::SETTLE) <= now) == has_settled
                })
            })
        };
        // Others are taken while some move: who has just come goes last.
        let keys: Vec<u32> = open(true).chain(open(false)).take(count as usize).map(|key| key as u32).collect();
        self.shared.metrics.evictions.inc_by(keys.len() as u64);
        for key in keys {
            self.begin_close(key, CloseCode::Restart, &reason(hint_ms(&retry_after)));
        }
        self.publish();
    }
}
