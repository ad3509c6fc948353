//! The record of one handshake, from accept to its one outcome. Whoever drops it without an outcome has aborted it: no
//! handshake is ever lost from the counts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::outcome::{Outcome, Phase, Retry, Stopwatch, Unavailable};
use super::state::Gateway;

/// Failed handshakes that are logged a second; the rest is counted and told with the next line.
const LINES_PER_SECOND: u32 = 10;

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
            let Some(suppressed) = (if logged { Some(0) } else { LINES.take() }) else { return };
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

static LINES: Lines = Lines(Mutex::new(None));

/// A bucket that fills once a second.
struct Lines(Mutex<Option<Bucket>>);

struct Bucket {
    since: Instant,
    used: u32,
    suppressed: u64,
}

impl Lines {
    /// Leave for one line, with the number of lines that got none since the last.
    fn take(&self) -> Option<u64> {
        let mut bucket = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let bucket = bucket.get_or_insert_with(|| Bucket { since: Instant::now(), used: 0, suppressed: 0 });
        if bucket.since.elapsed() >= Duration::from_secs(1) {
            (bucket.since, bucket.used) = (Instant::now(), 0);
        }
        if bucket.used >= LINES_PER_SECOND {
            bucket.suppressed += 1;
            return None;
        }
        bucket.used += 1;
        Some(std::mem::take(&mut bucket.suppressed))
    }
}
