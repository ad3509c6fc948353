//! A shortage of a resource of this process: when clients were last refused because of it, and log lines about it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::log_limit::LogLimit;

/// How long after a refusal the shortage counts as present: longer than the usual interval of health checks.
const RECENT: Duration = Duration::from_secs(30);

/// Interval of log lines.
const QUIET: Duration = Duration::from_secs(10);

/// The refusals because of one resource.
#[derive(Debug)]
pub struct Shortage {
    began: Instant,
    /// Milliseconds after `began`, plus one, at which a client was last refused. 0: never.
    refused: AtomicU64,
    log: LogLimit,
}

impl Default for Shortage {
    fn default() -> Self {
        Self { began: Instant::now(), refused: AtomicU64::new(0), log: LogLimit::new(1, QUIET) }
    }
}

impl Shortage {
    /// Records that a client was refused. If a log line is due, returns the number of refusals without one.
    pub fn refused(&self) -> Option<u64> {
        let now = self.began.elapsed().as_millis() as u64 + 1;
        self.refused.store(now, Relaxed);
        self.log.admit()
    }

    /// Whether clients were refused within the last 30 s.
    pub fn is_recent(&self) -> bool {
        let refused = self.refused.load(Relaxed);
        let age = || self.began.elapsed().saturating_sub(Duration::from_millis(refused));
        refused > 0 && age() < RECENT
    }
}
