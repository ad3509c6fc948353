//! When a watch that broke is tried again. A watch that is back may end once more at once (its version has expired), so the wait counts
//! twice: with kube's own delays, of a minute at most, the operator saw an edit a minute after the API server was back.

use std::time::Duration;

use kube::runtime::utils::Backoff;
use kube::runtime::watcher::DefaultBackoff;

/// The delays of kube, with their jitter, divided by this: 0.13 s at first, 10 s at most.
const SOONER: u32 = 6;

/// Delays that grow until a watch delivers.
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
    fn waits_ten_seconds_at_most_and_begins_anew_after_a_success() {
        let mut delays = Soon::default();
        let all: Vec<_> = delays.by_ref().take(30).collect();
        assert!(all[0] < Duration::from_millis(300), "{all:?}");
        assert!(all.iter().all(|delay| *delay <= Duration::from_secs(10)), "{all:?}");
        assert!(all[29] >= Duration::from_secs(5), "{all:?}");
        delays.reset();
        assert!(delays.next().is_some_and(|delay| delay < Duration::from_millis(300)));
    }
}
