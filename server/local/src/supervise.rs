//! Keeps one child running until it is ordered to end. Only reports; what a report means for the run is decided elsewhere.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::sync::{mpsc, oneshot, watch};
use wscluster_runtime::child_process::{Addresses, LogLine, Program, Running};
use wscluster_runtime::fds::explain;
use wscluster_runtime::restarts::Restarts;

use super::event::{Event, Listening, millis};
use super::listen_sockets::Held;

/// What a supervised child does.
#[derive(Debug)]
pub enum Report {
    /// Something happened to it.
    Event(Event),
    /// It ended before it ever listened: its last log lines say why.
    NeverListened {
        /// Its name.
        name: Arc<str>,
        /// How it ended, or why it did not start.
        how: String,
        /// Its last log lines.
        log: Vec<String>,
        /// When it is tried again.
        restart_in_ms: u64,
    },
    /// It logged.
    Log {
        /// Its name.
        name: Arc<str>,
        /// The line.
        line: String,
        /// Lines before it that could not be kept.
        dropped: u64,
    },
}

/// What a supervised child should do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Order {
    /// Run, and start again when it ends.
    #[default]
    Run,
    /// End by itself (SIGTERM): move connections away first.
    End,
    /// End by itself at once (SIGTERM again), whoever is still connected.
    AtOnce,
    /// End at once (SIGKILL).
    Kill,
}

/// What is wanted of a supervised child.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted {
    /// What it should do.
    pub order: Order,
    /// A life of it that is to end, because it does not answer.
    pub hung: Option<Hung>,
}

/// A process that has said nothing for long.
#[derive(Clone, Copy, Debug)]
pub struct Hung {
    /// Its process.
    pub pid: u32,
    /// For how long.
    pub silent: Duration,
}

/// A hung child has this long to end by itself: clients that it still serves are told to come back.
const HUNG_GRACE: Duration = Duration::from_secs(5);
/// For longer than this no client has to wait for the next life of a child.
const PATIENCE: Duration = Duration::from_secs(1);

/// Keeps `program` running until an order says otherwise; returns whether it had to be killed.
pub async fn keep(program: Program, reports: mpsc::Sender<Report>, mut orders: watch::Receiver<Wanted>) -> bool {
    let mut backoff = Restarts::default();
    let mut restarts = 0;
    let mut listened_before = false;
    let mut held = Held::default();
    while orders.borrow().order == Order::Run {
        let started = Instant::now();
        let spawned = match held.sockets(program.listen) {
            Ok(sockets) => {
                Running::start(&program, sockets, forward(&program, &reports)).map_err(|error| explain(&error))
            }
            Err(error) => Err(explain(&error)),
        };
        let (mut running, addresses) = match spawned {
            Ok(started) => started,
            Err(error) => {
                let name = program.name.clone();
                let restart = backoff.exited(started.elapsed());
                let restart_in_ms = millis(restart.after);
                let report = if listened_before {
                    Report::Event(Event::SpawnFailed { name, error, restart_in_ms })
                } else {
                    Report::NeverListened { name, how: error, log: vec![], restart_in_ms }
                };
                let _ = reports.send(report).await;
                held.let_go();
                wait(restart.after, &mut orders).await;
                continue;
            }
        };
        let life = live(&program, &mut running, addresses, &reports, &mut orders, restarts).await;
        listened_before |= life.listened;
        let status = match life.end {
            End::Ordered { killed } => return killed,
            End::Itself(status) => status,
        };
        let name = program.name.clone();
        let ran = started.elapsed();
        let restart = backoff.exited(ran);
        let restart_in_ms = millis(restart.after);
        let ended = if listened_before {
            let (pid, ran_ms) = (running.pid, millis(ran));
            Report::Event(Event::Exited { name: name.clone(), pid, how: status, ran_ms, restart_in_ms })
        } else {
            let (how, log) = (status.to_string(), running.tail.lines());
            Report::NeverListened { name: name.clone(), how, log, restart_in_ms }
        };
        let _ = reports.send(ended).await;
        if let Some(exits) = restart.crash_loop {
            let log = running.tail.lines();
            let _ = reports.send(Report::Event(Event::CrashLoop { name, exits, restart_in_ms, log })).await;
        }
        drop(running);
        if !life.listened || restart.after > PATIENCE || !held.listen() {
            held.let_go();
        }
        wait(restart.after, &mut orders).await;
        restarts += u32::from(listened_before);
    }
    false
}

/// Sends log lines of `program` to `reports` while there is room.
fn forward(program: &Program, reports: &mpsc::Sender<Report>) -> impl FnMut(LogLine) -> bool + Send + 'static {
    let (name, reports) = (program.name.clone(), reports.clone());
    move |LogLine { text, dropped }| reports.try_send(Report::Log { name: name.clone(), line: text, dropped }).is_ok()
}

struct Life {
    listened: bool,
    end: End,
}

enum End {
    Itself(super::event::Exit),
    Ordered { killed: bool },
}

/// One life of the child, from its start to its end.
async fn live(
    program: &Program,
    running: &mut Running,
    mut addresses: oneshot::Receiver<Addresses>,
    reports: &mpsc::Sender<Report>,
    orders: &mut watch::Receiver<Wanted>,
    restarts: u32,
) -> Life {
    let mut listened = false;
    let mut announced = false;
    let mut told = Order::Run;
    let (mut hung_until, mut killed) = (None, false);
    loop {
        let Wanted { order, hung } = *orders.borrow_and_update();
        if order > told {
            // Once each: a part takes a second SIGTERM as "at once".
            running.signal(if order == Order::Kill { Signal::KILL } else { Signal::TERM });
            told = order;
        }
        if let Some(Hung { pid, silent }) = hung
            && pid == running.pid
            && hung_until.is_none()
        {
            hung_until = Some(tokio::time::Instant::now() + HUNG_GRACE);
            running.signal(Signal::TERM);
            let hung = Event::Hung { name: program.name.clone(), pid, silent_ms: millis(silent) };
            let _ = reports.send(Report::Event(hung)).await;
        }
        let until = hung_until.unwrap_or_else(tokio::time::Instant::now);
        tokio::select! {
            // Where it listens comes before how it ended, when both are there.
            biased;
            found = &mut addresses, if !announced => {
                announced = true;
                if let Ok(at) = found {
                    listened = true;
                    let (name, pid) = (program.name.clone(), running.pid);
                    let at = Listening { name, pid, ws: at.ws, admin: at.admin, restarts };
                    let event = if restarts == 0 { Event::Started(at) } else { Event::Restarted(at) };
                    let _ = reports.send(Report::Event(event)).await;
                }
            }
            status = running.ended() => {
                let how = status.map_or(super::event::Exit { code: None, signal: None }, Into::into);
                let end = match order {
                    Order::Run => End::Itself(how),
                    Order::End | Order::AtOnce => End::Ordered { killed: false },
                    Order::Kill => End::Ordered { killed: true },
                };
                return Life { listened, end };
            }
            () = tokio::time::sleep_until(until), if hung_until.is_some() && !killed => {
                killed = true;
                running.signal(Signal::KILL);
            }
            changed = orders.changed() => {
                if changed.is_err() {
                    // Whoever gave the orders is gone: so is the reason to run.
                    running.signal(Signal::KILL);
                    let _ = running.ended().await;
                    return Life { listened, end: End::Ordered { killed: true } };
                }
            }
        }
    }
}

/// Waits for `time` or for another order.
async fn wait(time: Duration, orders: &mut watch::Receiver<Wanted>) {
    tokio::select! {
        () = tokio::time::sleep(time) => {}
        _ = orders.wait_for(|wanted| wanted.order != Order::Run) => {}
    }
}

#[cfg(test)]
mod tests;
