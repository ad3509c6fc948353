//! Keeps one child process running: restarts it with a back-off when it ends or hangs, until an order to end. Reports
//! what happens; the event loop decides what that means for the run.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::sync::{mpsc, oneshot, watch};
use wscluster_runtime::child_process::{Addresses, LogLine, Program, Running};
use wscluster_runtime::fds::explain;
use wscluster_runtime::restarts::Restarts;

use super::event::{ChildExit, Event, ListeningChild, millis};
use super::listen_sockets::ListenSockets;

/// What happened to a supervised child.
#[derive(Debug)]
pub(crate) enum ChildReport {
    Event(Event),
    /// It could not be started, or ended, before it ever listened.
    NeverListened {
        name: Arc<str>,
        /// How it ended, or why it did not start.
        how: String,
        /// Its last log lines.
        log: Vec<String>,
        restart_in_ms: u64,
    },
    /// It wrote a log line.
    Log {
        name: Arc<str>,
        line: String,
        /// Lines before this one that were dropped.
        dropped: u64,
    },
}

/// What a supervised child should do. Later orders are harder, and never taken back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ChildOrder {
    /// Run, and restart after an exit.
    #[default]
    Run,
    /// End after moving connections away (SIGTERM).
    Stop,
    /// End at once, closing all connections (a second SIGTERM).
    StopNow,
    /// Be killed (SIGKILL).
    Kill,
}

/// The input of a supervisor.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ChildGoal {
    pub(crate) order: ChildOrder,
    /// A process of the child to end, because it hangs.
    pub(crate) hung: Option<HungChild>,
}

/// A process that does not answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HungChild {
    pub(crate) pid: u32,
    /// Time since its last answer.
    pub(crate) silent: Duration,
}

/// Time for a hung child to end by itself and, if it can, to close its connections with a hint to reconnect.
const HUNG_GRACE: Duration = Duration::from_secs(5);
/// Clients wait at most this long for the next process of a gateway.
const MAX_CLIENT_WAIT: Duration = Duration::from_secs(1);

/// Keeps `program` running until an order to end. Returns whether the process had to be killed.
pub(crate) async fn supervise(
    program: Program,
    reports: mpsc::Sender<ChildReport>,
    mut goal: watch::Receiver<ChildGoal>,
) -> bool {
    let mut policy = Restarts::default();
    let mut restarts = 0;
    let mut listened_before = false;
    let mut sockets = ListenSockets::default();
    while goal.borrow().order == ChildOrder::Run {
        let started = Instant::now();
        let spawned = match sockets.sockets(program.listen) {
            Ok(sockets) => {
                Running::start(&program, sockets, forward(&program, &reports)).map_err(|error| explain(&error))
            }
            Err(error) => Err(explain(&error)),
        };
        let (mut running, addresses) = match spawned {
            Ok(started) => started,
            Err(error) => {
                let name = program.name.clone();
                let restart = policy.exited(started.elapsed());
                let restart_in_ms = millis(restart.after);
                let report = if listened_before {
                    ChildReport::Event(Event::SpawnFailed { name, error, restart_in_ms })
                } else {
                    ChildReport::NeverListened { name, how: error, log: vec![], restart_in_ms }
                };
                let _ = reports.send(report).await;
                sockets.close();
                wait(restart.after, &mut goal).await;
                continue;
            }
        };
        let life = watch_process(&program, &mut running, addresses, &reports, &mut goal, restarts).await;
        listened_before |= life.listened;
        let status = match life.end {
            End::Ordered { killed } => return killed,
            End::Exit(status) => status,
        };
        let name = program.name.clone();
        let ran = started.elapsed();
        let restart = policy.exited(ran);
        let restart_in_ms = millis(restart.after);
        let ended = if listened_before {
            let (pid, ran_ms) = (running.pid, millis(ran));
            ChildReport::Event(Event::Exited { name: name.clone(), pid, how: status, ran_ms, restart_in_ms })
        } else {
            let (how, log) = (status.to_string(), running.tail.lines());
            ChildReport::NeverListened { name: name.clone(), how, log, restart_in_ms }
        };
        let _ = reports.send(ended).await;
        if let Some(exits) = restart.crash_loop {
            let log = running.tail.lines();
            let _ = reports.send(ChildReport::Event(Event::CrashLoop { name, exits, restart_in_ms, log })).await;
        }
        drop(running);
        if !life.listened || restart.after > MAX_CLIENT_WAIT || !sockets.listen() {
            sockets.close();
        }
        wait(restart.after, &mut goal).await;
        restarts += u32::from(listened_before);
    }
    false
}

/// Sends log lines of `program` to `reports` while there is room.
fn forward(program: &Program, reports: &mpsc::Sender<ChildReport>) -> impl FnMut(LogLine) -> bool + Send + 'static {
    let (name, reports) = (program.name.clone(), reports.clone());
    move |LogLine { text, dropped }| {
        reports.try_send(ChildReport::Log { name: name.clone(), line: text, dropped }).is_ok()
    }
}

/// How one process of the child went.
struct Life {
    listened: bool,
    end: End,
}

enum End {
    /// Without an order.
    Exit(ChildExit),
    Ordered {
        killed: bool,
    },
}

/// Watches one process until it ends.
async fn watch_process(
    program: &Program,
    running: &mut Running,
    mut addresses: oneshot::Receiver<Addresses>,
    reports: &mpsc::Sender<ChildReport>,
    goal: &mut watch::Receiver<ChildGoal>,
    restarts: u32,
) -> Life {
    let mut listened = false;
    let mut announced = false;
    let mut obeyed = ChildOrder::Run;
    let (mut hung_until, mut killed) = (None, false);
    loop {
        let ChildGoal { order, hung } = *goal.borrow_and_update();
        if order > obeyed {
            // Send each signal once: a second SIGTERM means "at once".
            running.signal(if order == ChildOrder::Kill { Signal::KILL } else { Signal::TERM });
            obeyed = order;
        }
        if let Some(HungChild { pid, silent }) = hung
            && pid == running.pid
            && hung_until.is_none()
        {
            hung_until = Some(tokio::time::Instant::now() + HUNG_GRACE);
            running.signal(Signal::TERM);
            let hung = Event::Hung { name: program.name.clone(), pid, silent_ms: millis(silent) };
            let _ = reports.send(ChildReport::Event(hung)).await;
        }
        let until = hung_until.unwrap_or_else(tokio::time::Instant::now);
        tokio::select! {
            // Report that it listens before that it ended.
            biased;
            found = &mut addresses, if !announced => {
                announced = true;
                if let Ok(at) = found {
                    listened = true;
                    let (name, pid) = (program.name.clone(), running.pid);
                    let at = ListeningChild { name, pid, ws: at.ws, admin: at.admin, restarts };
                    let event = if restarts == 0 { Event::Started(at) } else { Event::Restarted(at) };
                    let _ = reports.send(ChildReport::Event(event)).await;
                }
            }
            status = running.ended() => {
                let how = status.map_or(ChildExit { code: None, signal: None }, Into::into);
                let end = match order {
                    ChildOrder::Run => End::Exit(how),
                    ChildOrder::Stop | ChildOrder::StopNow => End::Ordered { killed: false },
                    ChildOrder::Kill => End::Ordered { killed: true },
                };
                return Life { listened, end };
            }
            () = tokio::time::sleep_until(until), if hung_until.is_some() && !killed => {
                killed = true;
                running.signal(Signal::KILL);
            }
            changed = goal.changed() => {
                if changed.is_err() {
                    // The fleet is gone, and with it the reason to run.
                    running.signal(Signal::KILL);
                    let _ = running.ended().await;
                    return Life { listened, end: End::Ordered { killed: true } };
                }
            }
        }
    }
}

/// Waits for `time`, or for an order to end.
async fn wait(time: Duration, goal: &mut watch::Receiver<ChildGoal>) {
    tokio::select! {
        () = tokio::time::sleep(time) => {}
        _ = goal.wait_for(|goal| goal.order != ChildOrder::Run) => {}
    }
}

#[cfg(test)]
mod tests;
