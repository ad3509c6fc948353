//! The handle of a worker, and the worker's side of it: commands, and the number of open tunnels.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use tokio::sync::mpsc;
use wscluster_api::spec::RetryAfter;
use wscluster_routing::backend::ShardId;

/// A command to a worker.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum WorkerCommand {
    /// End the tunnels to a shard that were opened before this time, in milliseconds of the table's clock.
    EndTunnels(ShardId, u64),
    /// Move the clients of this many tunnels away, each with a retry hint from this range.
    Evict(u32, RetryAfter),
}

/// The worker's end.
#[derive(Debug)]
pub(crate) struct WorkerInbox {
    pub(crate) commands: mpsc::UnboundedReceiver<WorkerCommand>,
    /// Number of tunnels of the worker that are not being evicted. Only the worker writes it.
    pub(crate) open: Arc<AtomicU32>,
}

/// The process's end.
#[derive(Debug)]
pub(crate) struct WorkerHandle {
    commands: mpsc::UnboundedSender<WorkerCommand>,
    open: Arc<AtomicU32>,
}

impl WorkerHandle {
    /// Both ends for a new worker.
    pub(crate) fn new() -> (Self, WorkerInbox) {
        let (sender, commands) = mpsc::unbounded_channel();
        let open = Arc::new(AtomicU32::new(0));
        (Self { commands: sender, open: Arc::clone(&open) }, WorkerInbox { commands, open })
    }

    /// Sends a command. A worker that has ended has no tunnels, and ignores it.
    pub(crate) fn send(&self, command: WorkerCommand) {
        let _ = self.commands.send(command);
    }

    /// Tunnels that are not being moved away.
    pub(crate) fn open(&self) -> u32 {
        self.open.load(Relaxed)
    }
}
