//! Accepts connections, and pauses after each error: most mean that the process has no file descriptors left.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::Instant;

use super::handshake::{self, Room};
use super::worker::Worker;

/// Pause after a failed accept: its cause, such as a shortage of file descriptors or memory, does not pass at once.
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
                let has_replaced = room.has_replaced();
                tokio::task::spawn_local(handshake::run(Rc::clone(&worker), stream, peer, room));
                if has_replaced {
                    tokio::task::yield_now().await;
                }
            }
            Err(error) => {
                // Existing connections continue; those in the backlog wait.
                worker.borrow().shared.metrics.accept_pauses.inc();
                if logged.is_none_or(|at| at.elapsed() >= QUIET) {
                    logged = Some(Instant::now());
                    report(&error);
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn report(error: &io::Error) {
    if wscluster_runtime::sockets::is_shortage(error) {
        let limit = wscluster_runtime::sockets::raise_open_files();
        tracing::error!(
            %error, open_files_limit = limit,
            "cannot accept: raise the limit of open files (ulimit -n, LimitNOFILE) above capacity, or lower capacity"
        );
    } else {
        tracing::error!(%error, "cannot accept");
    }
}

#[cfg(test)]
mod tests {
    use wscluster_runtime::sockets::{self, Share};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn rests_after_every_error_of_accept() {
        let (worker, shared) = crate::tests::worker();
        let listener = sockets::listen(([127, 0, 0, 1], 0).into(), Share::Exclusive).unwrap();
        // From now on `accept` fails with EINVAL.
        sockets::stop_listening(&listener);
        let accepting = run(worker, TcpListener::from_std(listener).unwrap());
        assert!(tokio::time::timeout(10 * PAUSE + PAUSE / 2, accepting).await.is_err());
        assert_eq!(shared.metrics.accept_pauses.get(), 11);
    }
}
