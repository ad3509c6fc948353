//! Drains of a shard. [`wscluster_runtime::drain`] sets the pace; this file chooses the connections. A draining shard
//! refuses upgrades from the start, because its gateways then ask other shards.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use rand::RngExt as _;
use tokio::sync::mpsc;
use wscluster_api::spec::{Drain, RetryAfter};
use wscluster_protocol::close::CloseCode;
use wscluster_runtime::drain::{self, Holds, hint_ms, reason};

use super::connection::ConnectionPhase;
use super::shared::Shared;
use super::worker::Worker;

/// A command to a worker.
#[derive(Clone, Debug)]
pub(super) enum WorkerCommand {
    /// Close this many connections, each with a hint from this range.
    Evict(u32, RetryAfter),
}

/// The workers of a shard and their shared state.
#[derive(Debug)]
pub(crate) struct Workers {
    pub(super) shared: Arc<Shared>,
    pub(super) commands: Vec<mpsc::UnboundedSender<WorkerCommand>>,
}

/// Starts and cancels drains of a shard.
pub(crate) type Drains = drain::Drains<Workers>;

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
        // A worker that has ended holds no connections.
        let _ = self.commands[thread].send(WorkerCommand::Evict(count, retry_after.clone()));
    }
}

impl Worker {
    pub(super) fn execute(&mut self, command: WorkerCommand) {
        let WorkerCommand::Evict(count, retry_after) = command;
        let (connections, now) = (&self.connections, self.wheel.now());
        let capacity = connections.capacity().max(1);
        let start = rand::rng().random_range(0..capacity);
        let open = |has_settled: bool| {
            let keys = (start..capacity).chain(0..start);
            keys.filter(move |key| {
                connections.get(*key).is_some_and(|connection| {
                    connection.phase == ConnectionPhase::Open
                        && (connection.since.after(Drain::SETTLE) <= now) == has_settled
                })
            })
        };
        // During a rebalance other shards evict too: connections that have just arrived go last, or they would move
        // twice.
        let keys: Vec<u32> = open(true).chain(open(false)).take(count as usize).map(|key| key as u32).collect();
        self.shared.metrics.evictions.inc_by(keys.len() as u64);
        for key in keys {
            self.begin_close(key, CloseCode::Restart, &reason(hint_ms(&retry_after)));
        }
        self.publish();
    }
}
