//! Takes connections from the kernel, and keeps calm when there are no file descriptors left.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use rustix::io::Errno;
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::handshake;
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
                tokio::task::spawn_local(handshake::run(Rc::clone(&worker), stream, peer));
            }
            Err(error) if is_shortage(&error) => {
                // The connections at hand are not touched; those in the backlog wait until some of them end.
                worker.borrow().shared.metrics.accept_pauses.inc();
                if logged.is_none_or(|at| at.elapsed() >= QUIET) {
                    logged = Some(Instant::now());
                    let limit = crate::net::raise_open_files();
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

/// Whether accepting again at once would fail again.
fn is_shortage(error: &io::Error) -> bool {
    let shortages = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    error.raw_os_error().is_some_and(|code| shortages.contains(&Errno::from_raw_os_error(code)))
}
