//! Drives a run whose children are started: until it is ready, until a signal, and to its end. Decides what the reports of the
//! supervisors mean.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use wscluster_admin::health::Status;
use wscluster_runtime::fds::explain;
use wscluster_runtime::process::is_traced;

use super::admin::Restarts;
use super::event::{Event, millis};
use super::fleet::{After, Fleet, Left};
use super::health_poller::{self, Shared, with};
use super::manifest_watcher::Edit;
use super::ready_message::Ready;
use super::reconciler::Course;
use super::run::{Ended, RunError};
use super::screen::Screen;
use super::shutdown::{self, Signals};
use super::supervise::{Order, Report};
use super::traffic::Rates;

/// Time after which a start that takes long is explained, and again.
const EXPLAIN: Duration = Duration::from_secs(10);
/// A child that was told to end at once and has not after this long hangs.
const HANGS: Duration = Duration::from_secs(1);

/// A run whose children are started.
pub struct Drive<'a> {
    /// All output.
    pub screen: &'a mut Screen,
    /// What is known of the children.
    pub board: Shared,
    /// The children themselves.
    pub fleet: Fleet,
    /// What they are to become.
    pub course: Course,
    /// Edits of the manifest.
    pub edits: mpsc::Receiver<Edit>,
    /// What the children do.
    pub reports: mpsc::Receiver<Report>,
    /// How often they did it again.
    pub restarts: Restarts,
    /// Rounds of health questions that were answered.
    pub ticks: mpsc::Receiver<Option<Rates>>,
    /// Whether the ready line was told.
    pub is_ready: bool,
}

impl Drive<'_> {
    /// Waits until every part serves; `Some` with the signal that came first. A child that ends before it listens ends the start.
    pub async fn starting(&mut self, signals: &mut Signals) -> Result<Option<&'static str>, RunError> {
        let mut explained = Instant::now();
        loop {
            if let Some(reason) = self.turn(signals).await? {
                return Ok(Some(reason));
            }
            let (missing, reasons) = with(&self.board, |board| (board.missing(), board.reasons()));
            if missing.is_empty() {
                return Ok(None);
            }
            if explained.elapsed() >= EXPLAIN {
                explained = Instant::now();
                self.screen.note(&format!("wscluster local: not ready yet: {}", reasons.join("; ")));
            }
        }
    }

    /// Tells that it is ready, serves until a signal, and tells what changes.
    pub async fn serving(&mut self, ready: &Ready, signals: &mut Signals) -> Result<&'static str, RunError> {
        self.screen.ready(ready);
        self.is_ready = true;
        let mut status = Status::Healthy;
        loop {
            if let Some(reason) = self.turn(signals).await? {
                return Ok(reason);
            }
            let (now, reasons) = with(&self.board, |board| (board.status(), board.reasons()));
            if now != status {
                status = now;
                self.tell(&Event::Status { status, reasons });
            }
        }
    }

    /// Takes the next thing that happens, and follows the manifest; `Some` with the signal if it is one.
    async fn turn(&mut self, signals: &mut Signals) -> Result<Option<&'static str>, RunError> {
        tokio::select! {
            Some(report) = self.reports.recv() => match report {
                Report::NeverListened { name, how, log, .. } if !self.is_ready => {
                    return Err(RunError::Child { name, how, log });
                }
                report => {
                    if let Some(event) = self.take(report) {
                        self.tell(&event);
                    }
                }
            },
            reason = signals.next() => return Ok(Some(reason)),
            Some(edit) = self.edits.recv() => {
                let event = self.course.edit(edit, &self.fleet);
                self.tell(&event);
                self.pursue();
            }
            Some(called) = self.course.called() => self.course.note(called, &mut self.fleet),
            Some(left) = self.fleet.left() => {
                self.follow_up(&left);
                self.pursue();
            }
            Some(rates) = self.ticks.recv() => {
                self.end_hung();
                self.pursue();
                if let Some(rates) = rates.filter(|_| self.is_ready) {
                    let board = Arc::clone(&self.board);
                    with(&board, |board| self.screen.state(board, rates));
                }
            }
        }
        Ok(None)
    }

    /// Programs get the ready line first: what happens before it is for people, who know that parts start then.
    fn tell(&self, event: &Event) {
        if self.is_ready {
            self.screen.event(event);
        } else if !matches!(event, Event::Started(_)) {
            self.screen.note(&format!("wscluster local: {event}"));
        }
    }

    /// Goes on towards what the manifest says.
    fn pursue(&mut self) {
        for event in self.course.pursue(&mut self.fleet) {
            self.tell(&event);
        }
    }

    /// A child has ended as it was told.
    fn follow_up(&mut self, left: &Left) {
        match self.fleet.follow_up(left) {
            Ok(After::Gone) => self.tell(&Event::Removed { name: left.name.clone(), killed: left.killed }),
            Ok(After::Replaced) => {}
            Err(error) => self.tell(&Event::Blocked { reason: explain(&error) }),
        }
    }

    /// Lets children that hang start again, but for those in a debugger's hands.
    fn end_hung(&self) {
        for (name, hung) in with(&self.board, |board| board.hung(Instant::now())) {
            if !is_traced(hung.pid) {
                self.fleet.end_hung(&name, hung);
            }
        }
    }

    /// Takes note of a report, and returns what is to be told.
    fn take(&mut self, report: Report) -> Option<Event> {
        let event = match report {
            Report::Log { name, line, dropped } => {
                self.screen.log(&name, &line, dropped);
                return None;
            }
            Report::NeverListened { name, how, log, restart_in_ms } => {
                let why = wrong(&log).map_or_else(String::new, |line| format!(": {line}"));
                Event::SpawnFailed { name, error: format!("{how} before it listened{why}"), restart_in_ms }
            }
            Report::Event(event) => event,
        };
        match &event {
            Event::Started(at) => with(&self.board, |board| board.listens(at)),
            Event::Restarted(at) => {
                with(&self.board, |board| board.listens(at));
                self.restarts.get_or_create(&[("child", at.name.to_string())]).inc();
            }
            Event::Exited { name, .. } => {
                with(&self.board, |board| board.ended(name));
                self.fleet.ended(name);
            }
            Event::CrashLoop { name, .. } => with(&self.board, |board| board.fails(name)),
            _ => {}
        }
        Some(event)
    }

    /// Moves connections away, then ends everything, within the grace period.
    pub async fn stop(&mut self, grace: Duration, signals: &mut Signals, reason: &'static str) -> Ended {
        let drain = self.course.cluster().spec.drain.clone();
        let end = Instant::now() + grace;
        self.screen.close();
        let board = Arc::clone(&self.board);
        health_poller::fresh(&board, shutdown::FRESH).await;
        let connections = with(&board, |board| board.connections());
        self.screen.event(&Event::Stopping { reason, connections, grace_ms: millis(grace) });
        let moved = self.until(shutdown::drain(&board, &drain, grace), signals).await;
        let Some(left) = moved else {
            return self.end_at_once(with(&board, |board| board.connections())).await;
        };
        let (killed, at_once) = self.end(end.saturating_duration_since(Instant::now()), signals).await;
        self.screen.event(&Event::Stopped { left, killed: killed.clone() });
        match (at_once, killed.is_empty()) {
            (true, _) => Ended::AtOnce,
            (false, true) => Ended::Well,
            (false, false) => Ended::Killed,
        }
    }

    async fn end_at_once(&mut self, left: u64) -> Ended {
        let mut killed = Vec::new();
        self.fleet.order(Order::Kill);
        while let Some(left) = self.fleet.left().await {
            killed.extend(left.killed.then_some(left.name));
        }
        self.screen.event(&Event::Stopped { left, killed });
        Ended::AtOnce
    }

    /// Tells all children to end, to end at once when `within` is over, and kills what hangs even then or at a signal; says
    /// which were killed, and whether by a signal.
    pub async fn end(&mut self, within: Duration, signals: &mut Signals) -> (Vec<Arc<str>>, bool) {
        self.fleet.order(Order::End);
        let mut killed = Vec::new();
        let (mut order, mut at_once) = (Order::End, false);
        let deadline = tokio::time::sleep(within);
        tokio::pin!(deadline);
        loop {
            tokio::select! {
                left = self.fleet.left() => match left {
                    Some(left) => killed.extend(left.killed.then_some(left.name)),
                    None => return (killed, at_once),
                },
                Some(report) = self.reports.recv() => self.note_late(report),
                () = &mut deadline, if order != Order::Kill => {
                    order = if order == Order::End { Order::AtOnce } else { Order::Kill };
                    self.fleet.order(order);
                    deadline.as_mut().reset(tokio::time::Instant::now() + HANGS);
                }
                _ = signals.next() => {
                    (order, at_once) = (Order::Kill, true);
                    self.fleet.order(order);
                }
            }
        }
    }

    /// Runs `work` to its end while reports are taken; none when a signal comes first.
    async fn until<T>(&mut self, work: impl Future<Output = T>, signals: &mut Signals) -> Option<T> {
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return Some(done),
                Some(report) = self.reports.recv() => self.note_late(report),
                _ = signals.next() => return None,
            }
        }
    }

    fn note_late(&mut self, report: Report) {
        // While the run ends, a child that did not start is no news.
        if matches!(report, Report::NeverListened { .. }) {
            return;
        }
        if let Some(event) = self.take(report) {
            self.tell(&event);
        }
    }
}

/// The line that says what went wrong; a command line that is refused ends in advice.
fn wrong(log: &[String]) -> Option<&String> {
    let is_error = |line: &&String| line.starts_with("error: ") || line.contains("ERROR");
    log.iter().rfind(is_error).or(log.last())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_line_that_says_what_went_wrong() {
        let of = |lines: &[&str]| wrong(&lines.iter().map(ToString::to_string).collect::<Vec<_>>()).cloned();
        let refused = "error: invalid value 'x=y=z' for '--log <LOG>'";
        assert_eq!(of(&[refused, "", "For more information, try '--help'."]).as_deref(), Some(refused));
        let logged = "2026-01-01T00:00:00Z ERROR failed to read source.kafka.rack";
        assert_eq!(of(&["WARN few files", logged]).as_deref(), Some(logged));
        assert_eq!(of(&["Killed by something"]).as_deref(), Some("Killed by something"));
        assert_eq!(of(&[]), None);
    }
}
