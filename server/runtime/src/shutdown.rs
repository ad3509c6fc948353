//! The end of a server process, one sequence for shard and gateway: announce, wait for a reason to stop, drain, wait
//! until the connections are gone. A second signal cuts the drain short.
//!
//! The caller decides what each end means for its exit code, and whether a failure drains at all.

use std::io;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;
use wscluster_api::spec::Drain;
use wscluster_api::units::Span;

use crate::drain::{Drains, Holds, STEP};

/// Why a process has to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// SIGTERM or SIGINT.
    Signal,
    /// The parent process is gone: standard input was closed.
    ParentGone,
    /// A critical task has ended.
    Failure,
}

/// How a drain at the end of a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainEnd {
    /// No connection is left, or the deadline is over.
    Over,
    /// A second signal arrived first.
    Interrupted,
}

/// Resolves at SIGTERM or SIGINT and, if `watch_parent` is set, at the end of standard input. The parent holds the
/// other end of that pipe, so the kernel closes it however the parent dies.
///
/// Call it again to wait for a second signal.
pub async fn stop_requested(watch_parent: bool) -> io::Result<StopReason> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    let parent_gone = async {
        if !watch_parent {
            std::future::pending::<()>().await;
        }
        let stdin = rustix::io::dup(rustix::stdio::stdin())?;
        let mut stdin = tokio::net::unix::pipe::Receiver::from_file(std::fs::File::from(stdin))?;
        let mut byte = [0];
        while stdin.read(&mut byte).await? > 0 {}
        Ok::<_, io::Error>(())
    };
    tokio::select! {
        _ = term.recv() => Ok(StopReason::Signal),
        _ = int.recv() => Ok(StopReason::Signal),
        end = parent_gone => end.map(|()| StopReason::ParentGone),
    }
}

/// Calls `announce`, then waits until the process has to stop; `failed` resolves when a critical task has ended.
pub async fn wait_for_stop(
    watch_parent: bool,
    failed: impl Future<Output = ()>,
    announce: impl FnOnce(),
) -> io::Result<StopReason> {
    let announced = async {
        announce();
        std::future::pending::<std::convert::Infallible>().await
    };
    tokio::select! {
        // In this order: the reader of the announcement may send a signal at once, and the handler must be in place
        // by then.
        biased;
        reason = stop_requested(watch_parent) => reason,
        () = failed => Ok(StopReason::Failure),
        never = announced => match never {},
    }
}

/// Starts the last drain of the process and waits until `is_drained`, until the drain's deadline and `linger` (the
/// time that connections take to close) have passed, or until a second signal.
pub async fn drain_to_the_end<H: Holds>(
    drains: &Drains<H>,
    reason: StopReason,
    linger: Duration,
    is_drained: impl Fn() -> bool,
) -> io::Result<DrainEnd> {
    let configured = drains.own();
    let drain = match reason {
        StopReason::Signal | StopReason::Failure => configured,
        // Nothing restarts this process without its parent: its clients should reconnect elsewhere at once.
        StopReason::ParentGone => Drain { deadline: Span::millis(0), ..configured },
    };
    let end = Instant::now() + drain.deadline.0 + linger + 2 * STEP;
    drains.begin_last(drain);
    let over = async {
        while !is_drained() && Instant::now() < end {
            tokio::time::sleep(STEP).await;
        }
    };
    tokio::select! {
        () = over => Ok(DrainEnd::Over),
        again = stop_requested(false) => again.map(|_| DrainEnd::Interrupted),
    }
}
