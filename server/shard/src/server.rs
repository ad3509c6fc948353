//! A running shard: its workers, and the handles to feed, drain and stop it.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use prometheus_client::registry::Registry;
use tokio::sync::mpsc;
use wscluster_kafka::feed::Update;
use wscluster_runtime::critical_task::critical;
use wscluster_runtime::sockets::{ListenError, Share, ensure_free, listen_for_clients};

use super::drain::{Drains, WorkerCommand, Workers};
use super::metrics::Metrics;
use super::settings::Settings;
use super::shared::Shared;
use super::slots::SlotMetrics;
use super::worker::{self, WorkerStart};

/// Updates that may wait for a worker before the source has to wait.
const FEED: usize = 64;

/// Why a shard cannot start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// The port cannot be opened.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// A thread or its runtime cannot be started.
    #[error("failed to start a worker: {0}")]
    Worker(#[from] std::io::Error),
}

/// A running shard. Dropping it ends its workers and their connections at once.
#[derive(Debug)]
pub(crate) struct Server {
    /// State shared by all threads.
    pub(crate) shared: Arc<Shared>,
    /// Where clients connect.
    pub(crate) addr: SocketAddr,
    /// Starts and cancels drains.
    pub(crate) drains: Drains,
    /// The senders of updates to each worker; the source takes them.
    pub(crate) feeds: Vec<mpsc::Sender<Update>>,
    commands: Vec<mpsc::UnboundedSender<WorkerCommand>>,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    /// Starts `workers` event loops on `addr`. Must be called in a tokio runtime, which runs the drains.
    pub(crate) fn start(
        settings: Settings,
        addr: SocketAddr,
        workers: usize,
        registry: &mut Registry,
    ) -> Result<Self, StartError> {
        let listeners = listeners(addr, workers, settings.delivery.pong_timeout.0)?;
        let addr = listeners[0].local_addr()?;
        let drain = settings.drain.clone();
        let shared = Shared::new(settings, Metrics::register(registry), workers);
        registry.register_collector(Box::new(SlotMetrics(Arc::clone(&shared.slots))));
        let mut server_commands = Vec::with_capacity(workers);
        let mut feeds = Vec::with_capacity(workers);
        let mut threads = Vec::with_capacity(workers);
        for (index, listener) in listeners.into_iter().enumerate() {
            let (feed_in, feed) = mpsc::channel(FEED);
            let (commands_in, commands) = mpsc::unbounded_channel();
            let start = WorkerStart { index, shared: Arc::clone(&shared), listener, feed, commands };
            let ended = Ended(Arc::clone(&shared), commands_in.downgrade());
            let run = move || {
                let _ended = ended;
                if let Err(error) = worker::run(start) {
                    tracing::error!(%error, worker = index, "worker failed");
                }
            };
            threads.push(std::thread::Builder::new().name(format!("worker-{index}")).spawn(run)?);
            feeds.push(feed_in);
            server_commands.push(commands_in);
        }
        let workers = Workers { shared: Arc::clone(&shared), commands: server_commands.clone() };
        let (drains, draining) = Drains::new(Arc::new(workers), drain);
        let failing = Arc::clone(&shared);
        tokio::spawn(critical(move || failing.set_broken(), draining));
        Ok(Self { shared, addr, drains, feeds, commands: server_commands, threads })
    }
}

/// Marks the shard as broken when a worker ends before the server is dropped.
struct Ended(Arc<Shared>, mpsc::WeakUnboundedSender<WorkerCommand>);

impl Drop for Ended {
    fn drop(&mut self) {
        if self.1.upgrade().is_some() {
            self.0.set_broken();
        }
    }
}

/// One listener for each worker. Fails when another process uses the port. With port 0, all listeners get the same
/// free port.
fn listeners(addr: SocketAddr, workers: usize, pong_timeout: Duration) -> Result<Vec<TcpListener>, StartError> {
    ensure_free(addr)?;
    let share = if workers > 1 { Share::ReusePort } else { Share::Exclusive };
    let first = listen_for_clients(addr, share, pong_timeout)?;
    let addr = first.local_addr()?;
    let mut listeners = vec![first];
    while listeners.len() < workers {
        listeners.push(listen_for_clients(addr, share, pong_timeout)?);
    }
    Ok(listeners)
}

impl Drop for Server {
    fn drop(&mut self) {
        self.commands.clear();
        self.threads.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_a_client_up_no_earlier_than_its_pong_timeout() {
        let pong_timeout = Duration::from_mins(10);
        for listener in listeners(([127, 0, 0, 1], 0).into(), 2, pong_timeout).unwrap() {
            let timeout = socket2::SockRef::from(&listener).tcp_user_timeout().unwrap();
            assert_eq!(timeout, Some(pong_timeout));
        }
    }
}
