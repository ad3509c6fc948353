//! A running shard: its workers, and the handles to feed, drain and end it.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;

use prometheus_client::registry::Registry;
use tokio::sync::mpsc;
use wscluster_kafka::feed::Update;
use wscluster_runtime::critical_task::critical;
use wscluster_runtime::sockets::{ListenError, Share, ensure_free, listen};

use super::drain::{Drains, Order, Workers};
use super::metrics::Metrics;
use super::settings::Settings;
use super::shared::Shared;
use super::slots::SlotMetrics;
use super::worker::{self, Start};

/// Updates that may wait for a worker; then the source waits.
const FEED: usize = 64;

/// Why a shard cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The port.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// A thread or its runtime.
    #[error("failed to start a worker: {0}")]
    Worker(#[from] std::io::Error),
}

/// A running shard. Dropping it ends the workers and their connections at once.
#[derive(Debug)]
pub struct Server {
    /// State all threads see.
    pub shared: Arc<Shared>,
    /// Where clients connect.
    pub addr: SocketAddr,
    /// Takes drains.
    pub drains: Drains,
    /// Where the source sends; taken by it.
    pub feeds: Vec<mpsc::Sender<Update>>,
    orders: Vec<mpsc::UnboundedSender<Order>>,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    /// Starts `workers` event loops on `addr`. Runs inside a tokio runtime, which does the draining.
    pub fn start(
        settings: Settings,
        addr: SocketAddr,
        workers: usize,
        registry: &mut Registry,
    ) -> Result<Self, StartError> {
        let listeners = listeners(addr, workers)?;
        let addr = listeners[0].local_addr()?;
        let drain = settings.drain.clone();
        let shared = Shared::new(settings, Metrics::register(registry), workers);
        registry.register_collector(Box::new(SlotMetrics(Arc::clone(&shared.slots))));
        let mut server_orders = Vec::with_capacity(workers);
        let mut feeds = Vec::with_capacity(workers);
        let mut threads = Vec::with_capacity(workers);
        for (index, listener) in listeners.into_iter().enumerate() {
            let (feed_in, feed) = mpsc::channel(FEED);
            let (orders_in, orders) = mpsc::unbounded_channel();
            let start = Start { index, shared: Arc::clone(&shared), listener, feed, orders };
            let ended = Ended(Arc::clone(&shared), orders_in.downgrade());
            let run = move || {
                let _ended = ended;
                if let Err(error) = worker::run(start) {
                    tracing::error!(%error, worker = index, "worker failed");
                }
            };
            threads.push(std::thread::Builder::new().name(format!("worker-{index}")).spawn(run)?);
            feeds.push(feed_in);
            server_orders.push(orders_in);
        }
        let workers = Workers { shared: Arc::clone(&shared), orders: server_orders.clone() };
        let (drains, draining) = Drains::new(Arc::new(workers), drain);
        let failing = Arc::clone(&shared);
        tokio::spawn(critical(move || failing.set_broken(), draining));
        Ok(Self { shared, addr, drains, feeds, orders: server_orders, threads })
    }
}

/// Marks the shard as broken when a worker ends although nobody asked it to.
struct Ended(Arc<Shared>, mpsc::WeakUnboundedSender<Order>);

impl Drop for Ended {
    fn drop(&mut self) {
        if self.1.upgrade().is_some() {
            self.0.set_broken();
        }
    }
}

/// One listener a worker, and nobody else's; where the port is 0 all get the one that the first got.
fn listeners(addr: SocketAddr, workers: usize) -> Result<Vec<TcpListener>, StartError> {
    ensure_free(addr)?;
    let share = if workers > 1 { Share::ReusePort } else { Share::Exclusive };
    let first = listen(addr, share)?;
    let addr = first.local_addr()?;
    let mut listeners = vec![first];
    while listeners.len() < workers {
        listeners.push(listen(addr, share)?);
    }
    Ok(listeners)
}

impl Drop for Server {
    fn drop(&mut self) {
        self.orders.clear();
        self.threads.clear();
    }
}
