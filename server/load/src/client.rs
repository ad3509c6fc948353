//! One planned client from its start to its end: it connects, stays, reconnects as the server asks, and is replaced.
//! Every outcome is counted here, once.

use std::rc::Rc;
use std::time::Instant;

use tokio::sync::OwnedSemaphorePermit;

use super::dial::{Times, dial};
use super::failure::{Failure, Phase};
use super::ground_truth::ClientLog;
use super::inbox::Inbox;
use super::session::{End, Session};
use super::worker::LoadWorker;
use super::worker_plan::Sending;

/// Runs client `k`, which starts at `due`. The `permit` of a closed loop is returned after the first handshake.
pub(super) async fn live(worker: Rc<LoadWorker>, k: u32, mut due: Instant, mut permit: Option<OwnedSemaphorePermit>) {
    let mut life = Life { worker: &worker, k, failures: 0, lost_at: None, dropped: false, resolved: false };
    let mut log = life.new_log();
    worker.stats.borrow_mut().counts.started += 1;
    if permit.is_some() {
        // A closed loop has no planned instants: latencies count from the actual start.
        due = Instant::now();
    }
    loop {
        // Timers fire up to a millisecond late, so the timer is set early. Latencies count from the actual start then.
        if !worker.sleep_until(early(due)).await {
            life.cancelled();
            break;
        }
        let opened = life.attempt(due).await;
        permit.take();
        let failure = match opened {
            Err(failure) => failure,
            Ok((opened, rest)) => {
                let slow = worker.plan.is_slow(k);
                let echo = matches!(worker.plan.sending, Sending::Echoes(_));
                let inbox = Inbox::new(std::mem::take(&mut log), opened.at, echo, slow);
                let mut session = Session::new(Rc::clone(&worker), k, opened.stream, inbox, opened.at);
                worker.stats.borrow_mut().counts.live += 1;
                let end = session.run(rest, |_| life.settled(opened.at)).await;
                let was_settled = session.inbox.phase == Phase::Hold;
                session.inbox.left();
                worker.stats.borrow_mut().counts.live -= 1;
                log = std::mem::take(&mut session.inbox.log);
                match end {
                    End::Lost(failure) if slow && was_settled => {
                        let mut stats = worker.stats.borrow_mut();
                        super::stats::count(&mut stats.slow_ends, failure.to_string());
                        return;
                    }
                    End::Lost(failure) if was_settled => {
                        life.dropped(&failure);
                        failure
                    }
                    End::Lost(failure) => {
                        worker.stats.borrow_mut().failure(&failure);
                        failure
                    }
                    End::Finished | End::Stopped => {
                        session.inbox.log = std::mem::take(&mut log);
                        worker.left(session.leave().await);
                        return;
                    }
                    End::Churned(at) => {
                        due = at;
                        worker.stats.borrow_mut().counts.churned += 1;
                        session.inbox.log = std::mem::replace(&mut log, life.new_log());
                        worker.let_go(session);
                        life.lost_at = None;
                        continue;
                    }
                    End::Stormed(at) => {
                        due = at;
                        worker.stats.borrow_mut().counts.stormed += 1;
                        life.lost_at = Some(due);
                        session.cut();
                        continue;
                    }
                }
            }
        };
        match life.retry_at(&failure) {
            Some(at) => due = at,
            None => break,
        }
    }
    worker.keep(log);
}

/// Granularity of the event loop's timers.
const TIMER: std::time::Duration = std::time::Duration::from_millis(1);

/// When a timer must be set so that it has fired at `due`.
pub(super) fn early(due: Instant) -> Instant {
    due.checked_sub(TIMER).unwrap_or(due)
}

/// State of a client between two connections.
struct Life<'w> {
    worker: &'w LoadWorker,
    k: u32,
    /// Failed attempts and lost connections in a row.
    failures: u32,
    lost_at: Option<Instant>,
    dropped: bool,
    resolved: bool,
}

impl Life<'_> {
    fn new_log(&self) -> ClientLog {
        ClientLog { channels: self.worker.plan.channels_of(self.k), ..ClientLog::default() }
    }

    async fn attempt(&self, due: Instant) -> Result<(super::dial::Opened, Vec<u8>), Failure> {
        let begun = Instant::now();
        let mut times = Times::default();
        self.worker.stats.borrow_mut().counts.attempts += 1;
        // Boxed, so that the task of an idle connection does not contain the state of its handshake.
        let result = Box::pin(dial(&self.worker.plan, self.k, &mut times)).await;
        let mut stats = self.worker.stats.borrow_mut();
        stats.latencies.late.record(begun.saturating_duration_since(due));
        let since = |at: Instant| at.duration_since(due.min(begun));
        times.connected.map(since).inspect(|time| stats.latencies.connect.record(*time));
        times.first_byte.map(since).inspect(|time| stats.latencies.first_byte.record(*time));
        match result {
            Ok(mut opened) => {
                stats.counts.opened += 1;
                stats.slow_opened += u64::from(self.worker.plan.is_slow(self.k));
                stats.latencies.upgrade.record(since(opened.at));
                let rest = std::mem::take(&mut opened.rest);
                Ok((opened, rest))
            }
            Err(failure) => {
                stats.failure(&failure);
                Err(failure)
            }
        }
    }

    fn settled(&mut self, opened: Instant) {
        let mut stats = self.worker.stats.borrow_mut();
        stats.counts.settled += 1;
        if let Some(lost) = self.lost_at.take() {
            stats.latencies.reconnect.record(opened.saturating_duration_since(lost));
        }
        stats.counts.reconnected += u64::from(std::mem::take(&mut self.dropped));
        if !std::mem::replace(&mut self.resolved, true) {
            stats.counts.connected += 1;
            stats.counts.resolved += 1;
        }
        self.failures = 0;
    }

    fn dropped(&mut self, failure: &Failure) {
        self.lost_at = Some(Instant::now());
        // If the connection is lost again before it settles, it is the same absence.
        self.dropped = true;
        self.worker.stats.borrow_mut().drop_of(failure);
    }

    /// The run ended before the next attempt.
    fn cancelled(&mut self) {
        if self.failures > 0 && !self.worker.control.borrow().stop {
            self.worker.stats.borrow_mut().counts.failed += 1;
        }
    }

    fn retry_at(&mut self, failure: &Failure) -> Option<Instant> {
        self.failures += 1;
        let delay = self.worker.plan.backoff.delay(failure.retry(), self.failures);
        let mut stats = self.worker.stats.borrow_mut();
        if let Some(delay) = delay {
            stats.counts.retries += 1;
            return Some(Instant::now() + delay);
        }
        stats.counts.failed += 1;
        if !std::mem::replace(&mut self.resolved, true) {
            stats.counts.resolved += 1;
        }
        None
    }
}
