//! The record of one handshake, from accept to its one outcome. Whoever drops it without an outcome has aborted it: no
//! handshake is ever lost from the counts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use wscluster_runtime::log_limit::LogLimit;

use super::outcome::{Outcome, Phase, Retry, Stopwatch, Unavailable};
use super::state::Gateway;

/// Log lines about failed handshakes: ten a second.
static FAILURES: LogLimit = LogLimit::new(10, Duration::from_secs(1));

/// One handshake.
pub struct Record {
    gateway: Arc<Gateway>,
    peer: SocketAddr,
    watch: Stopwatch,
    tries: u32,
    /// Why the last try failed.
    pub last_retry: Option<Retry>,
    ended: bool,
}

impl Record {
    /// At accept.
    pub fn start(gateway: &Arc<Gateway>, peer: SocketAddr) -> Self {
        gateway.metrics.attempt();
        Self { gateway: Arc::clone(gateway), peer, watch: Stopwatch::start(), tries: 0, last_retry: None, ended: false }
    }

    /// The time since the last lap was `phase`.
    pub fn lap(&mut self, phase: Phase) {
        self.watch.lap(phase);
    }

    /// A shard was asked.
    pub fn tried(&mut self) {
        self.tries += 1;
    }

    /// It did not take the client.
    pub fn retried(&mut self, cause: Retry) {
        self.last_retry = Some(cause);
        self.gateway.metrics.retried(cause);
    }

    /// The one outcome. `shard`: the one that answered, if any.
    pub fn end(mut self, outcome: Outcome, shard: Option<&str>) {
        self.finish(outcome, shard);
    }

    fn finish(&mut self, outcome: Outcome, shard: Option<&str>) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        self.gateway.metrics.ended(outcome, &self.watch);
        if outcome == Outcome::Unavailable(Unavailable::FdLimit) {
            self.gateway.fds.refused();
        }
        let logged = self.gateway.settings.log_handshakes;
        if logged || outcome.is_failure() {
            let Some(suppressed) = (if logged { Some(0) } else { FAILURES.admit() }) else { return };
            self.log(outcome, shard.unwrap_or_default(), suppressed);
        }
    }

    fn log(&self, outcome: Outcome, shard: &str, suppressed: u64) {
        let (outcome, reason) = outcome.labels();
        let ms = |phase| millis(self.watch.spent(phase));
        let last_retry = self.last_retry.map_or("", Retry::code);
        tracing::info!(
            peer = %self.peer,
            outcome,
            reason,
            shard,
            tries = self.tries,
            last_retry,
            head_ms = ms(Phase::Head),
            queue_ms = ms(Phase::Queue),
            pick_ms = ms(Phase::Pick),
            dial_ms = ms(Phase::Dial),
            answer_ms = ms(Phase::Answer),
            write_ms = ms(Phase::Write),
            total_ms = millis(self.watch.total()),
            suppressed,
            "handshake"
        );
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.finish(Outcome::Aborted, None);
    }
}

/// Whole microseconds, told in milliseconds.
fn millis(time: Duration) -> f64 {
    time.as_micros() as f64 / 1e3
}
