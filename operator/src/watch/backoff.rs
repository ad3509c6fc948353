//! The back-off of interrupted watches. A resumed watch may fail again at once because its version has expired, so
//! the delay counts twice. With kube's own delays of up to a minute, the operator would see edits a minute after the
//! API server is back.

use std::time::Duration;

use kube::runtime::utils::Backoff;
use kube::runtime::watcher::DefaultBackoff;

/// Divisor of kube's delays, which include jitter: the first is 0.13 s, the longest 10 s.
const SOONER: u32 = 6;

/// Delays that grow until a watch receives an event.
#[derive(Default)]
pub(super) struct Soon(DefaultBackoff);

impl Iterator for Soon {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.0.next().map(|delay| delay / SOONER)
    }
}

impl Backoff for Soon {
    fn reset(&mut self) {
        self.0.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_at_most_ten_seconds_and_starts_over_after_a_success() {
        let mut delays = Soon::default();
        let all: Vec<_> = delays.by_ref().take(30).collect();
        assert!(all[0] < Duration::from_millis(300), "{all:?}");
        assert!(all.iter().all(|delay| *delay <= Duration::from_secs(10)), "{all:?}");
        assert!(all[29] >= Duration::from_secs(5), "{all:?}");
        delays.reset();
        assert!(delays.next().is_some_and(|delay| delay < Duration::from_millis(300)));
    }
}
