//! Drives a run from the start of its children to their end: handles reports of children, edits of the manifest,
//! signals and polls, one at a time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use wscluster_admin::client::AdminClient;
use wscluster_admin::health::Status;
use wscluster_runtime::fds::explain;
use wscluster_runtime::process::is_traced;

use super::admin::Restarts;
use super::event::{Event, StopSignal, millis};
use super::fleet::{EndedChild, Fleet, FollowUp};
use super::health_poller;
use super::manifest_watcher::Edit;
use super::ready_message::ReadyMessage;
use super::reconciler::Reconciler;
use super::run::{RunEnd, RunError};
use super::screen::Screen;
use super::shutdown::{self, Signals};
use super::state::{SharedState, with};
use super::supervise::{ChildOrder, ChildReport};
use super::traffic::TrafficRates;

/// Interval of the explanations of a slow start.
const EXPLAIN_INTERVAL: Duration = Duration::from_secs(10);
/// Time for a child to end at once, before it is killed.
const HANGS: Duration = Duration::from_secs(1);

/// A run whose children have been started.
pub(crate) struct EventLoop<'a> {
    pub(crate) screen: &'a mut Screen,
    pub(crate) state: SharedState,
    pub(crate) fleet: Fleet,
    pub(crate) reconciler: Reconciler,
    pub(crate) edits: mpsc::Receiver<Edit>,
    /// From the supervisors of the children.
    pub(crate) reports: mpsc::Receiver<ChildReport>,
    pub(crate) restarts: Restarts,
    /// One item for each round of polls, with rates about once a second.
    pub(crate) ticks: mpsc::Receiver<Option<TrafficRates>>,
    /// Sends orders to children.
    pub(crate) control: AdminClient,
    /// Whether the ready message was written.
    pub(crate) is_ready: bool,
}

impl EventLoop<'_> {
    /// Waits until every child serves, or returns the signal that came first. A child that ends before it listens is
    /// an error.
    pub(crate) async fn starting(&mut self, signals: &mut Signals) -> Result<Option<StopSignal>, RunError> {
        let mut explained = Instant::now();
        loop {
            if let Some(reason) = self.turn(signals).await? {
                return Ok(Some(reason));
            }
            let (missing, reasons) = with(&self.state, |state| (state.missing(), state.reasons()));
            if missing.is_empty() {
                return Ok(None);
            }
            if explained.elapsed() >= EXPLAIN_INTERVAL {
                explained = Instant::now();
                self.screen
                    .note(&format!("wscluster local: waiting until every part is ready: {}", reasons.join("; ")));
            }
        }
    }

    /// Writes the ready message and reports changes until a signal.
    pub(crate) async fn serving(
        &mut self,
        ready: &ReadyMessage,
        signals: &mut Signals,
    ) -> Result<StopSignal, RunError> {
        self.screen.ready(ready);
        self.is_ready = true;
        let mut status = Status::Healthy;
        loop {
            if let Some(reason) = self.turn(signals).await? {
                return Ok(reason);
            }
            let (now, reasons) = with(&self.state, |state| (state.status(), state.reasons()));
            if now != status {
                status = now;
                self.report(&Event::Status { status, reasons });
            }
        }
    }

    /// Handles one occurrence; returns the signal if it was one.
    async fn turn(&mut self, signals: &mut Signals) -> Result<Option<StopSignal>, RunError> {
        tokio::select! {
            Some(report) = self.reports.recv() => match report {
                ChildReport::NeverListened { name, how, log, .. } if !self.is_ready => {
                    return Err(RunError::Child { name, how, log });
                }
                report => {
                    if let Some(event) = self.record(report) {
                        self.report(&event);
                    }
                }
            },
            reason = signals.next() => return Ok(Some(reason)),
            Some(edit) = self.edits.recv() => {
                let event = self.reconciler.edit(edit, &self.fleet);
                self.report(&event);
                self.reconcile();
            }
            Some(answer) = self.reconciler.answered() => Reconciler::record(answer, &mut self.fleet),
            Some(ended) = self.fleet.ended() => {
                self.follow_up(&ended);
                self.reconcile();
            }
            Some(rates) = self.ticks.recv() => {
                self.end_hung();
                self.reconcile();
                if let Some(rates) = rates.filter(|_| self.is_ready) {
                    let state = Arc::clone(&self.state);
                    with(&state, |state| self.screen.state(state, rates));
                }
            }
        }
        Ok(None)
    }

    /// Before the ready message, which programs read first, events go to standard error only; starts are expected
    /// then.
    fn report(&self, event: &Event) {
        if self.is_ready {
            self.screen.event(event);
        } else if !matches!(event, Event::Started(_)) {
            self.screen.note(&format!("wscluster local: {event}"));
        }
    }

    /// Takes the steps towards the manifest that are due.
    fn reconcile(&mut self) {
        for event in self.reconciler.reconcile(&mut self.fleet) {
            self.report(&event);
        }
    }

    /// A child has ended as it was asked to.
    fn follow_up(&mut self, ended: &EndedChild) {
        match self.fleet.follow_up(ended) {
            Ok(FollowUp::Removed) => self.report(&Event::Removed { name: ended.name.clone(), killed: ended.killed }),
            Ok(FollowUp::Replaced) => {}
            Err(error) => self.report(&Event::Blocked { reason: explain(&error) }),
        }
    }

    /// Restarts children that hang, except under a debugger.
    fn end_hung(&self) {
        for (name, hung) in with(&self.state, |state| state.hung(Instant::now())) {
            if !is_traced(hung.pid) {
                self.fleet.end_hung(&name, hung);
            }
        }
    }

    /// Records a report in the state and the fleet, and returns the event to write.
    fn record(&mut self, report: ChildReport) -> Option<Event> {
        let event = match report {
            ChildReport::Log { name, line, dropped } => {
                self.screen.log(&name, &line, dropped);
                return None;
            }
            ChildReport::NeverListened { name, how, log, restart_in_ms } => {
                let why = error_line(&log).map_or_else(String::new, |line| format!(": {line}"));
                Event::SpawnFailed { name, error: format!("{how} before it listened{why}"), restart_in_ms }
            }
            ChildReport::Event(event) => event,
        };
        match &event {
            Event::Started(at) => with(&self.state, |state| state.listens(at)),
            Event::Restarted(at) => {
                with(&self.state, |state| state.listens(at));
                self.restarts.get_or_create(&[("child", at.name.to_string())]).inc();
            }
            Event::Exited { name, .. } => {
                with(&self.state, |state| state.ended(name));
                self.fleet.exited(name);
            }
            Event::CrashLoop { name, .. } => with(&self.state, |state| state.fails(name)),
            _ => {}
        }
        Some(event)
    }

    /// Moves connections away, then ends every child, within the grace period.
    pub(crate) async fn stop(&mut self, grace: Duration, signals: &mut Signals, reason: StopSignal) -> RunEnd {
        let drain = self.reconciler.cluster().spec.drain.clone();
        let end = Instant::now() + grace;
        self.screen.close();
        let state = Arc::clone(&self.state);
        health_poller::poll_within(&state, shutdown::POLL_TIMEOUT).await;
        let connections = with(&state, |state| state.connections());
        self.screen.event(&Event::Stopping { reason, connections, grace_ms: millis(grace) });
        let control = self.control.clone();
        let moved = self.until(shutdown::drain(&state, &control, &drain, grace), signals).await;
        let Some(left) = moved else {
            return self.end_at_once(with(&state, |state| state.connections())).await;
        };
        let (killed, at_once) = self.end(end.saturating_duration_since(Instant::now()), signals).await;
        self.screen.event(&Event::Stopped { left, killed: killed.clone() });
        match (at_once, killed.is_empty()) {
            (true, _) => RunEnd::Interrupted,
            (false, true) => RunEnd::Clean,
            (false, false) => RunEnd::Killed,
        }
    }

    async fn end_at_once(&mut self, left: u64) -> RunEnd {
        let mut killed = Vec::new();
        self.fleet.order(ChildOrder::Kill);
        while let Some(ended) = self.fleet.ended().await {
            killed.extend(ended.killed.then_some(ended.name));
        }
        self.screen.event(&Event::Stopped { left, killed });
        RunEnd::Interrupted
    }

    /// Asks all children to end; after `within`, to end at once; then kills those that hang. A signal kills all at
    /// once. Returns the killed children, and whether a signal came.
    pub(crate) async fn end(&mut self, within: Duration, signals: &mut Signals) -> (Vec<Arc<str>>, bool) {
        self.fleet.order(ChildOrder::Stop);
        let mut killed = Vec::new();
        let (mut order, mut at_once) = (ChildOrder::Stop, false);
        let deadline = tokio::time::sleep(within);
        tokio::pin!(deadline);
        loop {
            tokio::select! {
                ended = self.fleet.ended() => match ended {
                    Some(ended) => killed.extend(ended.killed.then_some(ended.name)),
                    None => return (killed, at_once),
                },
                Some(report) = self.reports.recv() => self.record_late(report),
                () = &mut deadline, if order != ChildOrder::Kill => {
                    order = if order == ChildOrder::Stop { ChildOrder::StopNow } else { ChildOrder::Kill };
                    self.fleet.order(order);
                    deadline.as_mut().reset(tokio::time::Instant::now() + HANGS);
                }
                _ = signals.next() => {
                    (order, at_once) = (ChildOrder::Kill, true);
                    self.fleet.order(order);
                }
            }
        }
    }

    /// Runs `work` while reports are handled; `None` if a signal comes first.
    async fn until<T>(&mut self, work: impl Future<Output = T>, signals: &mut Signals) -> Option<T> {
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return Some(done),
                Some(report) = self.reports.recv() => self.record_late(report),
                _ = signals.next() => return None,
            }
        }
    }

    fn record_late(&mut self, report: ChildReport) {
        // A child that fails to start while the run ends does not matter.
        if matches!(report, ChildReport::NeverListened { .. }) {
            return;
        }
        if let Some(event) = self.record(report) {
            self.report(&event);
        }
    }
}

/// The line with the error. It is not always the last one: after a rejected command line comes advice.
fn error_line(log: &[String]) -> Option<&String> {
    let is_error = |line: &&String| line.starts_with("error: ") || line.contains("ERROR");
    log.iter().rfind(is_error).or(log.last())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_line_with_the_error() {
        let of = |lines: &[&str]| error_line(&lines.iter().map(ToString::to_string).collect::<Vec<_>>()).cloned();
        let refused = "error: invalid value 'x=y=z' for '--log <LOG>'";
        assert_eq!(of(&[refused, "", "For more information, try '--help'."]).as_deref(), Some(refused));
        let logged = "2026-01-01T00:00:00Z ERROR failed to read source.kafka.rack";
        assert_eq!(of(&["WARN few files", logged]).as_deref(), Some(logged));
        assert_eq!(of(&["Killed by something"]).as_deref(), Some("Killed by something"));
        assert_eq!(of(&[]), None);
    }
}
