//! The record of one handshake, from accept to its one outcome. A record dropped without an outcome counts as
//! aborted, so no handshake is missing from the counts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use wscluster_runtime::log_limit::LogLimit;

use super::admission::Principal;
use super::gateway::Gateway;
use super::outcome::{Outcome, Phase, Retry, Stopwatch, Unavailable};

/// Log lines about failed handshakes: ten a second.
static FAILURES: LogLimit = LogLimit::new(10, Duration::from_secs(1));

/// One handshake.
pub(crate) struct HandshakeRecord {
    gateway: Arc<Gateway>,
    peer: SocketAddr,
    watch: Stopwatch,
    principal: Principal,
    tries: u32,
    /// Why the last attempt failed.
    pub(crate) last_retry: Option<Retry>,
    ended: bool,
}

impl HandshakeRecord {
    /// Starts at accept.
    pub(crate) fn start(gateway: &Arc<Gateway>, peer: SocketAddr) -> Self {
        gateway.metrics.attempt();
        let principal = Principal::default();
        let gateway = Arc::clone(gateway);
        Self { gateway, peer, watch: Stopwatch::start(), principal, tries: 0, last_retry: None, ended: false }
    }

    /// Counts the time since the last lap as `phase`.
    pub(crate) fn lap(&mut self, phase: Phase) {
        self.watch.lap(phase);
    }

    /// The client was admitted as `principal`.
    pub(crate) fn identified(&mut self, principal: Principal) {
        self.principal = principal;
    }

    /// A shard was asked.
    pub(crate) fn tried(&mut self) {
        self.tries += 1;
    }

    /// The shard did not accept the client.
    pub(crate) fn retried(&mut self, cause: Retry) {
        self.last_retry = Some(cause);
        self.gateway.metrics.retried(cause);
    }

    /// Ends the handshake with its one outcome; `shard` is the one that answered, if any.
    pub(crate) fn end(mut self, outcome: Outcome, shard: Option<&str>) {
        self.finish(outcome, shard);
    }

    fn finish(&mut self, outcome: Outcome, shard: Option<&str>) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        self.gateway.metrics.ended(outcome, &self.watch);
        match outcome {
            Outcome::Unavailable(Unavailable::FdLimit) => self.gateway.fds.refused(),
            Outcome::Unavailable(Unavailable::PortLimit) => self.gateway.ports.refused(),
            _ => {}
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
            principal = self.principal.name(),
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

impl Drop for HandshakeRecord {
    fn drop(&mut self) {
        self.finish(Outcome::Aborted, None);
    }
}

/// Milliseconds with a resolution of a microsecond.
fn millis(time: Duration) -> f64 {
    time.as_micros() as f64 / 1e3
}
