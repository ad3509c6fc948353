//! Limits how many lines of a kind are logged, and counts the lines left out, so that a flood of refused clients or
//! bad records does not become a flood of log lines.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Admits a number of lines per period. Periods begin with their first line.
///
/// ```
/// # use std::time::Duration;
/// # use wscluster_runtime::log_limit::LogLimit;
/// static REFUSALS: LogLimit = LogLimit::new(10, Duration::from_secs(1));
/// if let Some(suppressed) = REFUSALS.admit() {
///     tracing::info!(suppressed, "client refused");
/// }
/// ```
#[derive(Debug)]
pub struct LogLimit {
    lines: u32,
    period: Duration,
    window: Mutex<Window>,
}

#[derive(Debug)]
struct Window {
    since: Option<Instant>,
    used: u32,
    suppressed: u64,
}

impl LogLimit {
    /// At most `lines` in each `period`.
    pub const fn new(lines: u32, period: Duration) -> Self {
        Self { lines, period, window: Mutex::new(Window { since: None, used: 0, suppressed: 0 }) }
    }

    /// Permission for one line, with the number of lines suppressed since the last one; `None`: this line is
    /// suppressed.
    pub fn admit(&self) -> Option<u64> {
        self.admit_at(Instant::now())
    }

    fn admit_at(&self, now: Instant) -> Option<u64> {
        let mut window = self.window.lock();
        if window.since.is_none_or(|since| now.saturating_duration_since(since) >= self.period) {
            (window.since, window.used) = (Some(now), 0);
        }
        if window.used >= self.lines {
            window.suppressed += 1;
            return None;
        }
        window.used += 1;
        Some(std::mem::take(&mut window.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn admits_so_many_lines_a_period_and_reports_the_rest_with_the_next_line() {
        let limit = LogLimit::new(2, Duration::from_secs(1));
        let start = Instant::now();
        let at = |millis| limit.admit_at(start + Duration::from_millis(millis));
        assert_eq!([at(0), at(1), at(2), at(999)], [Some(0), Some(0), None, None]);
        assert_eq!([at(1_000), at(1_001), at(1_002)], [Some(2), Some(0), None]);
        assert_eq!(at(60_000), Some(1));
    }
}
