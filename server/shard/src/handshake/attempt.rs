//! Counts, times and logs one handshake.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use wscluster_runtime::log_limit::LogLimit;

use super::outcome::HandshakeOutcome;
use crate::metrics::{Label, outcomes};
use crate::shared::Shared;

/// A running handshake. Dropping it without [`Attempt::end`] counts as `aborted`: the worker has ended.
pub(super) struct Attempt {
    shared: Arc<Shared>,
    peer: SocketAddr,
    accepted: Instant,
    head: Option<Instant>,
    outcome: HandshakeOutcome,
}

thread_local! {
    /// Log lines about failed handshakes: five a second for each worker.
    static FAILURES: LogLimit = const { LogLimit::new(5, Duration::from_secs(1)) };
}

impl Attempt {
    pub(super) fn begin(shared: &Arc<Shared>, peer: SocketAddr) -> Self {
        shared.metrics.attempts.inc();
        Self {
            shared: Arc::clone(shared),
            peer,
            accepted: Instant::now(),
            head: None,
            outcome: HandshakeOutcome::Aborted,
        }
    }

    /// The head is complete or known to be invalid.
    pub(super) fn head_complete(&mut self) {
        self.head = Some(Instant::now());
    }

    /// Ends the handshake with its outcome.
    pub(super) fn end(mut self, outcome: HandshakeOutcome) {
        self.outcome = outcome;
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let Self { shared, peer, accepted, head, outcome } = self;
        let is_accepted = *outcome == HandshakeOutcome::Accepted;
        let outcome = outcome.as_str();
        debug_assert!(outcomes().any(|known| known == outcome), "{outcome} is not in metrics::outcomes");
        shared.metrics.outcomes.get_or_create(&Label("outcome", outcome)).inc();
        let head_time = head.map(|head| head - *accepted);
        let answer_time = head.map(|head| head.elapsed());
        for (phase, time) in [("head", head_time), ("answer", answer_time)] {
            if let Some(time) = time {
                shared.metrics.phases.get_or_create(&Label("phase", phase)).observe(time.as_secs_f64());
            }
        }
        if is_accepted && !shared.settings.log_handshakes {
            return;
        }
        let micros = |time: Option<Duration>| time.map(|time| time.as_micros() as u64);
        let (head_us, answer_us) = (micros(head_time), micros(answer_time));
        if shared.settings.log_handshakes {
            tracing::info!(outcome, %peer, head_us, answer_us, "handshake");
        } else if let Some(suppressed) = FAILURES.with(LogLimit::admit) {
            tracing::warn!(outcome, %peer, head_us, answer_us, suppressed, "handshake failed");
        }
    }
}
