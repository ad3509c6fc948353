//! Drives a run whose children are started: until it is ready, until a signal, and to its end. Decides what the reports of the
//! supervisors mean.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch as watch_order};
use tokio::task::JoinSet;
use wscluster_api::spec::Drain;

use super::event::{Event, millis};
use super::front::Restarts;
use super::run::{Ended, RunError};
use super::screen::Screen;
use super::stop::{self, Signals};
use super::supervise::{Order, Report};
use super::traffic::Rates;
use super::watch::{Shared, with};
use crate::health::Status;

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
    /// What they should do.
    pub orders: watch_order::Sender<Order>,
    /// What they do.
    pub reports: mpsc::Receiver<Report>,
    /// How often they did it again.
    pub restarts: Restarts,
    /// Their supervisors: name, and whether it had to be killed.
    pub children: JoinSet<(Arc<str>, bool)>,
    /// Rounds of health questions that were answered.
    pub ticks: mpsc::Receiver<Option<Rates>>,
}

impl Drive<'_> {
    /// Waits until everything is ready; `Some` with the signal that came first.
    pub async fn starting(&mut self, signals: &mut Signals) -> Result<Option<&'static str>, RunError> {
        let mut explained = Instant::now();
        loop {
            tokio::select! {
                Some(report) = self.reports.recv() => match self.take(report)? {
                    // Programs get the ready line first: what happens before it is for people.
                    Some(Event::Started(_)) | None => {}
                    Some(event) => self.screen.note(&format!("wscluster local: {event}")),
                },
                reason = signals.next() => return Ok(Some(reason)),
                Some(_) = self.ticks.recv() => {
                    let reasons = with(&self.board, |board| board.reasons());
                    if reasons.is_empty() {
                        return Ok(None);
                    }
                    if explained.elapsed() >= EXPLAIN {
                        explained = Instant::now();
                        self.screen.note(&format!("wscluster local: not ready yet: {}", reasons.join("; ")));
                    }
                }
            }
        }
    }

    /// Serves until a signal, and tells what changes.
    pub async fn serving(&mut self, signals: &mut Signals) -> Result<&'static str, RunError> {
        let mut status = Status::Healthy;
        loop {
            tokio::select! {
                Some(report) = self.reports.recv() => {
                    if let Some(event) = self.take(report)? {
                        self.screen.event(&event);
                    }
                }
                reason = signals.next() => return Ok(reason),
                Some(rates) = self.ticks.recv() => if let Some(rates) = rates {
                    let board = Arc::clone(&self.board);
                    with(&board, |board| self.screen.state(board, rates));
                }
            }
            let (now, reasons) = with(&self.board, |board| (board.status(), board.reasons()));
            if now != status {
                status = now;
                self.screen.event(&Event::Status { status, reasons });
            }
        }
    }

    /// Takes note of a report, and returns what is to be told; an error when the run cannot start for it.
    fn take(&mut self, report: Report) -> Result<Option<Event>, RunError> {
        let event = match report {
            Report::Log { name, line, dropped } => {
                self.screen.log(&name, &line, dropped);
                return Ok(None);
            }
            Report::NeverListened { name, how, log } => return Err(RunError::Child { name, how, log }),
            Report::Event(event) => event,
        };
        match &event {
            Event::Started(at) => with(&self.board, |board| board.listens(at)),
            Event::Restarted(at) => {
                with(&self.board, |board| board.listens(at));
                self.restarts.get_or_create(&[("child", at.name.to_string())]).inc();
            }
            Event::Exited { name, .. } => with(&self.board, |board| board.ended(name)),
            _ => {}
        }
        Ok(Some(event))
    }

    /// Moves connections away, then ends everything, within the grace period.
    pub async fn stop(&mut self, drain: &Drain, grace: Duration, signals: &mut Signals, reason: &'static str) -> Ended {
        let end = Instant::now() + grace;
        self.screen.close();
        let connections = with(&self.board, |board| board.connections());
        self.screen.event(&Event::Stopping { reason, connections, grace_ms: millis(grace) });
        let board = Arc::clone(&self.board);
        let moved = self.until(stop::drain(&board, drain, grace), signals).await;
        let Some(left) = moved else {
            return self.end_at_once(connections).await;
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
        self.orders.send_replace(Order::Kill);
        while let Some(Ok((name, was_killed))) = self.children.join_next().await {
            killed.extend(was_killed.then_some(name));
        }
        self.screen.event(&Event::Stopped { left, killed });
        Ended::AtOnce
    }

    /// Tells all children to end, to end at once when `within` is over, and kills what hangs even then or at a signal; says
    /// which were killed, and whether by a signal.
    pub async fn end(&mut self, within: Duration, signals: &mut Signals) -> (Vec<Arc<str>>, bool) {
        self.orders.send_replace(Order::End);
        let mut killed = Vec::new();
        let mut at_once = false;
        let deadline = tokio::time::sleep(within);
        tokio::pin!(deadline);
        loop {
            let order = *self.orders.borrow();
            tokio::select! {
                child = self.children.join_next() => match child {
                    Some(Ok((name, was_killed))) => killed.extend(was_killed.then_some(name)),
                    Some(Err(_)) => {}
                    None => return (killed, at_once),
                },
                Some(report) = self.reports.recv() => self.note_late(report),
                () = &mut deadline, if order != Order::Kill => {
                    self.orders.send_replace(if order == Order::End { Order::AtOnce } else { Order::Kill });
                    deadline.as_mut().reset(tokio::time::Instant::now() + HANGS);
                }
                _ = signals.next() => {
                    at_once = true;
                    self.orders.send_replace(Order::Kill);
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
        if let Ok(Some(event)) = self.take(report) {
            self.screen.event(&event);
        }
    }
}
