//! The back-off of interrupted watches. A resumed watch may fail again at once because its version has expired, so
//! the delay counts twice. With kube's default of up to a minute, the operator would see edits a minute after the API
//! server is back.

use std::time::Duration;

use wscluster_runtime::backoff::{Backoff, Jitter, Policy};

const POLICY: Policy =
    Policy { first: Duration::from_millis(200), factor: 2, max: Duration::from_secs(10), jitter: Jitter::From(0.5) };

/// Delays that grow until a watch receives an event.
pub(super) struct WatchBackoff(Backoff);

impl Default for WatchBackoff {
    fn default() -> Self {
        Self(Backoff::new(POLICY))
    }
}

impl Iterator for WatchBackoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.0.next()
    }
}

impl kube::runtime::utils::Backoff for WatchBackoff {
    fn reset(&mut self) {
        self.0.reset();
    }
}

#[cfg(test)]
mod tests {
    use kube::runtime::utils::Backoff as _;

    use super::*;

    #[test]
    fn waits_at_most_ten_seconds_and_starts_over_after_a_success() {
        let mut delays = WatchBackoff::default();
        let all: Vec<_> = delays.by_ref().take(30).collect();
        assert!(all[0] < Duration::from_millis(300), "{all:?}");
        assert!(all.iter().all(|delay| *delay <= Duration::from_secs(10)), "{all:?}");
        assert!(all[29] >= Duration::from_secs(5), "{all:?}");
        delays.reset();
        assert!(delays.next().is_some_and(|delay| delay < Duration::from_millis(300)));
    }
}
