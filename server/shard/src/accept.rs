//! Accepts connections, and pauses while the process has no file descriptors left.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::Instant;

use super::handshake::{self, Room};
use super::worker::Worker;

/// Pause of accepting when the process or the machine is out of file descriptors or memory.
const PAUSE: Duration = Duration::from_millis(100);

/// Time between two log lines about that.
const QUIET: Duration = Duration::from_secs(10);

/// Accepts until dropped. Each connection gets its own handshake task.
pub(super) async fn run(worker: Rc<RefCell<Worker>>, listener: TcpListener) {
    let mut logged: Option<Instant> = None;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let room = Room::take(worker.borrow().shared.slots.fds());
                tokio::task::spawn_local(handshake::run(Rc::clone(&worker), stream, peer, room));
            }
            Err(error) if wscluster_runtime::sockets::is_shortage(&error) => {
                // Existing connections continue; those in the backlog wait until some of them end.
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
            // The client had left before it was accepted.
            Err(error) => tracing::debug!(%error, "accept"),
        }
    }
}
