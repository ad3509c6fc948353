//! Takes connections from the kernel, and keeps calm when there are no file descriptors left.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::Instant;

use super::handshake::{self, Room};
use super::worker::Worker;

/// How long accepting pauses when the process or the machine has no room for another socket.
const PAUSE: Duration = Duration::from_millis(100);

/// Time between two log lines about that.
const QUIET: Duration = Duration::from_secs(10);

/// Accepts for ever; each connection gets a handshake of its own.
pub(super) async fn run(worker: Rc<RefCell<Worker>>, listener: TcpListener) {
    let mut logged: Option<Instant> = None;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let room = Room::take(worker.borrow().shared.slots.fds());
                tokio::task::spawn_local(handshake::run(Rc::clone(&worker), stream, peer, room));
            }
            Err(error) if wscluster_runtime::sockets::is_shortage(&error) => {
                // The connections at hand are not touched; those in the backlog wait until some of them end.
                worker.borrow().shared.metrics.accept_pauses.inc();
                if logged.is_none_or(|at| at.elapsed() >= QUIET) {
                    logged = Some(Instant::now());
                    let limit = wscluster_runtime::sockets::raise_open_files();
                    tracing::error!(
                        %error, open_files_limit = limit,
                        "cannot accept: raise the limit of open files (ulimit -n, LimitNOFILE) above capacity, or lower capacity"
                    );
                }
                tokio::time::sleep(PAUSE).await;
            }
            // The client was gone before we came to it.
            Err(error) => tracing::debug!(%error, "accept"),
        }
    }
}
