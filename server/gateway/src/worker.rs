//! One event loop on one thread: its own listener, its own tunnels. No socket crosses threads.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, atomic::Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, LocalOptions};
use tokio::task::spawn_local;
use wscluster_runtime::critical_task::spawn_critical;
use wscluster_runtime::fds::{Budget, Permit};
use wscluster_runtime::log_limit::LogLimit;

use super::handshake;
use super::outcome::{Outcome, Unavailable};
use super::record::Record;
use super::registry::Registry;
use super::state::{Gateway, Order, Post, Stage};

/// After a failed accept the loop rests, because the reason (no descriptors) does not pass by trying again.
const REST: Duration = Duration::from_millis(100);

/// What a TCP handshake that has begun takes to end. A client that begins one meanwhile tries again after a second.
const SETTLE: Duration = Duration::from_millis(50);

static ACCEPT_ERRORS: LogLimit = LogLimit::new(1, Duration::from_mins(2));

/// Nearer than any usual timeout of a handshake.
const BEAT: Duration = Duration::from_secs(1);

/// What the futures of one thread share.
pub struct Worker {
    /// The process.
    pub gateway: Arc<Gateway>,
    /// The tunnels of this thread.
    pub registry: Registry,
}

/// Starts a worker on its own thread. The thread ends when the gateway has reached [`Stage::Closing`].
pub fn start(
    gateway: Arc<Gateway>,
    listener: std::net::TcpListener,
    index: usize,
) -> io::Result<thread::JoinHandle<()>> {
    let post = gateway.enlist();
    let failed = gateway.failing();
    spawn_critical(&format!("gateway-{index}"), gateway.failing(), move || {
        let served = Builder::new_current_thread()
            .enable_all()
            .build_local(LocalOptions::default())
            .and_then(|runtime| runtime.block_on(run(gateway, listener, post)));
        if let Err(error) = served {
            tracing::error!(%error, worker = index, "worker ended");
            failed();
        }
    })
}

/// The event loop; for tests also on a thread that has one already.
pub async fn run(gateway: Arc<Gateway>, listener: std::net::TcpListener, post: Post) -> io::Result<()> {
    let Post { mut orders, open } = post;
    let worker = Rc::new(Worker { registry: Registry::new(Arc::clone(&gateway), open), gateway: Arc::clone(&gateway) });
    let listener = TcpListener::from_std(listener)?;
    gateway.listening.fetch_add(1, Relaxed);
    let mut accepting = spawn_local(accept(Rc::clone(&worker), listener, Listening(Arc::clone(&gateway))));
    spawn_local(beat());
    let mut accepting_ended = false;
    let mut closing = std::pin::pin!(gateway.reached(Stage::Closing));
    loop {
        tokio::select! {
            () = &mut closing => break,
            ended = &mut accepting, if !accepting_ended => {
                accepting_ended = true;
                // It ends by itself only to drain.
                ended.map_err(io::Error::other)?;
            }
            order = orders.recv() => match order {
                Some(Order::EndTunnels(shard, before_ms)) => {
                    let ended = worker.registry.end(shard, before_ms);
                    if ended > 0 {
                        tracing::warn!(?shard, ended, "ended the tunnels of a shard that is gone");
                    }
                }
                Some(Order::Evict(count, retry_after)) => worker.registry.evict(count, &retry_after),
                None => break,
            }
        }
    }
    accepting.abort();
    worker.registry.end_all();
    // Their sockets close when the runtime has dropped the tasks, which takes one more turn.
    tokio::task::yield_now().await;
    Ok(())
}

/// Keeps one timer near. A timer that becomes the nearest one makes tokio wake its own driver, which is one `write` and
/// one wake-up for each handshake; behind this one, none does.
async fn beat() {
    let mut beat = tokio::time::interval(BEAT);
    loop {
        beat.tick().await;
    }
}

/// One worker that accepts; counted until dropped.
struct Listening(Arc<Gateway>);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.listening.fetch_sub(1, Relaxed);
    }
}

async fn accept(worker: Rc<Worker>, listener: TcpListener, _listening: Listening) {
    let gateway = Arc::clone(&worker.gateway);
    let mut draining = std::pin::pin!(gateway.reached(Stage::Draining));
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut draining => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => welcome(&worker, stream, peer),
            Err(error) if wscluster_runtime::sockets::is_shortage(&error) => {
                complain(&gateway, &error);
                tokio::time::sleep(REST).await;
            }
            // The client was gone before we came to it.
            Err(error) => tracing::debug!(%error, "accept"),
        }
    }
    // Those whom the kernel has accepted for us already, or begun to, would be reset with the listener.
    wscluster_runtime::sockets::refuse_new(&listener);
    let settled = tokio::time::Instant::now() + SETTLE;
    while let Ok(Ok((stream, peer))) = tokio::time::timeout_at(settled, listener.accept()).await {
        welcome(&worker, stream, peer);
    }
    while let Some(Ok((stream, peer))) = listener.accept().now_or_never() {
        welcome(&worker, stream, peer);
    }
    // A parent may hold the socket too, and nobody would accept.
    wscluster_runtime::sockets::stop_listening(&listener);
}

fn welcome(worker: &Rc<Worker>, stream: TcpStream, peer: SocketAddr) {
    let fds: &Arc<Budget> = &worker.gateway.fds;
    if let Some(permit) = fds.take(Permit::TUNNEL) {
        spawn_local(handshake::serve(Rc::clone(worker), stream, peer, permit));
    } else if let Some(permit) = fds.take_refusal() {
        let refused = handshake::turn_away(Rc::clone(worker), stream, peer);
        spawn_local(async move {
            refused.await;
            drop(permit);
        });
    } else {
        // So many are being told already that this one only sees its connection closed.
        Record::start(&worker.gateway, peer).end(Outcome::Unavailable(Unavailable::FdLimit), None);
    }
}

fn complain(gateway: &Gateway, error: &io::Error) {
    gateway.metrics.accept_errors.inc();
    gateway.fds.refused();
    if let Some(suppressed) = ACCEPT_ERRORS.admit() {
        tracing::error!(%error, suppressed, open_files_limit = gateway.fds.limit(), "failed to accept; raise the limit of open files (ulimit -n)");
    }
}
