//! A worker: one event loop on one thread with its own listener and its own tunnels. No socket crosses threads.

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

use super::gateway::Gateway;
use super::handshake;
use super::outcome::{Outcome, Unavailable};
use super::record::HandshakeRecord;
use super::registry::Registry;
use super::stage::Stage;
use super::worker_handle::{WorkerCommand, WorkerInbox};

/// Pause after a failed accept: its cause, such as a shortage of descriptors, does not pass at once.
const REST: Duration = Duration::from_millis(100);

/// Time for TCP handshakes under way to complete when the listener closes.
const SETTLE: Duration = Duration::from_millis(50);

static ACCEPT_ERRORS: LogLimit = LogLimit::new(1, Duration::from_mins(2));

/// Shorter than the usual timeouts of a handshake.
const BEAT: Duration = Duration::from_secs(1);

/// What the tasks of one worker share.
pub(crate) struct WorkerContext {
    pub(crate) gateway: Arc<Gateway>,
    /// The tunnels of this worker.
    pub(crate) registry: Registry,
}

/// Starts a worker on its own thread. The thread ends when the gateway has reached [`Stage::Closing`].
pub(crate) fn start(
    gateway: Arc<Gateway>,
    listener: std::net::TcpListener,
    index: usize,
) -> io::Result<thread::JoinHandle<()>> {
    let inbox = gateway.add_worker();
    let failed = gateway.failing();
    spawn_critical(&format!("gateway-{index}"), gateway.failing(), move || {
        let served = Builder::new_current_thread()
            .enable_all()
            .build_local(LocalOptions::default())
            .and_then(|runtime| runtime.block_on(run(gateway, listener, inbox)));
        if let Err(error) = served {
            tracing::error!(%error, worker = index, "worker ended");
            failed();
        }
    })
}

/// The event loop; tests run it on an event loop of their own.
pub(crate) async fn run(gateway: Arc<Gateway>, listener: std::net::TcpListener, inbox: WorkerInbox) -> io::Result<()> {
    let WorkerInbox { mut commands, open } = inbox;
    let worker =
        Rc::new(WorkerContext { registry: Registry::new(Arc::clone(&gateway), open), gateway: Arc::clone(&gateway) });
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
                // It ends only for a drain.
                ended.map_err(io::Error::other)?;
            }
            command = commands.recv() => match command {
                Some(WorkerCommand::EndTunnels(shard, before_ms)) => {
                    let ended = worker.registry.end(shard, before_ms);
                    if ended > 0 {
                        tracing::warn!(?shard, ended, "ended the tunnels of a lost shard");
                    }
                }
                Some(WorkerCommand::Evict(count, retry_after)) => worker.registry.evict(count, &retry_after),
                None => break,
            }
        }
    }
    accepting.abort();
    worker.registry.end_all();
    // Sockets close when the runtime drops the tasks, which takes one more turn of the loop.
    tokio::task::yield_now().await;
    Ok(())
}

/// Keeps a timer due soon. A new timer that becomes the earliest makes tokio wake its own driver, which costs a
/// `write` and a wake-up for each handshake; with this one pending, the timers of handshakes are never the earliest.
async fn beat() {
    let mut beat = tokio::time::interval(BEAT);
    loop {
        beat.tick().await;
    }
}

/// Counts a worker as accepting until dropped.
struct Listening(Arc<Gateway>);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.listening.fetch_sub(1, Relaxed);
    }
}

async fn accept(worker: Rc<WorkerContext>, listener: TcpListener, _listening: Listening) {
    let gateway = Arc::clone(&worker.gateway);
    let mut draining = std::pin::pin!(gateway.reached(Stage::Draining));
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut draining => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                if dispatch(&worker, stream, peer) {
                    tokio::task::yield_now().await;
                }
            }
            Err(error) => {
                report_accept_error(&gateway, &error);
                tokio::time::sleep(REST).await;
            }
        }
    }
    // Closing the listener would reset connections that the kernel has completed, or is completing.
    wscluster_runtime::sockets::refuse_new(&listener);
    let settled = tokio::time::Instant::now() + SETTLE;
    while let Ok(Ok((stream, peer))) = tokio::time::timeout_at(settled, listener.accept()).await {
        dispatch(&worker, stream, peer);
    }
    while let Some(Ok((stream, peer))) = listener.accept().now_or_never() {
        dispatch(&worker, stream, peer);
    }
    // A parent may hold the socket too: without this, the kernel would go on queueing connections that nothing
    // accepts.
    wscluster_runtime::sockets::stop_listening(&listener);
}

/// Serves or refuses a client. Returns whether another client had to make room, whose descriptor is still open.
fn dispatch(worker: &Rc<WorkerContext>, stream: TcpStream, peer: SocketAddr) -> bool {
    let fds: &Arc<Budget> = &worker.gateway.fds;
    if let Some(permit) = fds.take(Permit::TUNNEL) {
        spawn_local(handshake::serve(Rc::clone(worker), stream, peer, permit));
    } else if let Some(place) = fds.take_refusal() {
        let has_replaced = place.has_replaced;
        spawn_local(handshake::turn_away(Rc::clone(worker), stream, peer, place));
        return has_replaced;
    } else {
        // The limit leaves no descriptor for answers: this client only sees its connection closed.
        HandshakeRecord::start(&worker.gateway, peer).end(Outcome::Unavailable(Unavailable::FdLimit), None);
    }
    false
}

fn report_accept_error(gateway: &Gateway, error: &io::Error) {
    gateway.metrics.accept_errors.inc();
    let is_shortage = wscluster_runtime::sockets::is_shortage(error);
    if is_shortage {
        gateway.fds.refused();
    }
    let Some(suppressed) = ACCEPT_ERRORS.admit() else { return };
    if is_shortage {
        tracing::error!(%error, suppressed, open_files_limit = gateway.fds.limit(), "failed to accept; raise the limit of open files (ulimit -n)");
    } else {
        tracing::error!(%error, suppressed, "failed to accept");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{ANY, budget, settings};

    #[tokio::test(start_paused = true)]
    async fn rests_after_every_error_of_accept() {
        let gateway = Gateway::new(settings(), budget());
        let listener = wscluster_runtime::sockets::listen(ANY, wscluster_runtime::sockets::Share::Exclusive).unwrap();
        // From now on `accept` fails with EINVAL.
        wscluster_runtime::sockets::stop_listening(&listener);
        let inbox = gateway.add_worker();
        let registry = Registry::new(Arc::clone(&gateway), inbox.open);
        let worker = Rc::new(WorkerContext { registry, gateway: Arc::clone(&gateway) });
        let listener = TcpListener::from_std(listener).unwrap();
        let accepting = accept(worker, listener, Listening(Arc::clone(&gateway)));
        gateway.listening.fetch_add(1, Relaxed);
        assert!(tokio::time::timeout(10 * REST + REST / 2, accepting).await.is_err());
        assert_eq!(gateway.metrics.accept_errors.get(), 11);
    }
}
