//! When to come back after an attempt failed or a connection was lost: what the server said, then full jitter
//! (a uniform draw from 0 to a bound that doubles), so that clients that failed together do not return together.

use std::time::Duration;

use rand::RngExt as _;
use serde::{Deserialize, Serialize};

/// What a failure says about coming back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Advice {
    /// Full jitter.
    BackOff,
    /// Not before this, then full jitter from the second time in a row.
    After(Duration),
    /// Something of the client's own doing: start from the long end of the jitter.
    BackOffFirst,
    /// At once.
    AtOnce,
    /// Not at all.
    Never,
}

impl Advice {
    /// What a Close frame says: `docs/protocol.md`. `reason` may carry `{"retry_after_ms":n}`.
    pub(super) fn of_close(code: Option<u16>, reason: &str) -> Self {
        match code {
            Some(4000..=4099) => Self::Never,
            Some(4100..=4199) => Self::BackOffFirst,
            Some(4200..=4299) => Self::AtOnce,
            Some(1012 | 1013) => hint_of(reason).map_or(Self::BackOff, Self::After),
            _ => Self::BackOff,
        }
    }
}

/// `retry_after_ms` of a JSON object.
pub(super) fn hint_of(json: &str) -> Option<Duration> {
    let value: serde_json::Value = serde_json::from_str(json).ok()?;
    Some(Duration::from_millis(value.get("retry_after_ms")?.as_u64()?))
}

/// Bounds of the jitter, and how often to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Backoff {
    /// Attempts after a failed one.
    pub(super) retries: u32,
    /// Bound of the first delay.
    pub(super) base: Duration,
    /// Bound of every delay.
    pub(super) max: Duration,
}

impl Backoff {
    /// Longer than any run: what a server asks beyond it is not a time that can be told.
    const LONGEST_HINT: Duration = Duration::from_hours(24);

    /// How long to wait before the attempt that follows `failures` failed ones in a row (1 or more); `None`: give up.
    pub(super) fn delay(&self, advice: Advice, failures: u32) -> Option<Duration> {
        if failures > self.retries {
            return None;
        }
        match advice {
            Advice::Never => None,
            Advice::AtOnce => Some(if failures > 1 { self.jitter(failures - 1) } else { Duration::ZERO }),
            Advice::After(hint) => {
                let jitter = if failures > 1 { self.jitter(failures - 1) } else { Duration::ZERO };
                Some(hint.min(Self::LONGEST_HINT) + jitter)
            }
            Advice::BackOff => Some(self.jitter(failures)),
            Advice::BackOffFirst => Some(self.jitter(failures.saturating_add(4))),
        }
    }

    fn jitter(&self, failures: u32) -> Duration {
        let bound = self.base.saturating_mul(1 << (failures - 1).min(20)).min(self.max);
        bound.mul_f64(rand::rng().random_range(0.0..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff { retries: 100, base: Duration::from_millis(100), max: Duration::from_secs(5) };

    #[test]
    fn draws_from_zero_to_a_doubling_bound() {
        for (failures, bound) in [(1, 100), (2, 200), (4, 800), (9, 5_000), (90, 5_000)] {
            let bound = Duration::from_millis(bound);
            let delays: Vec<_> = (0..500).map(|_| BACKOFF.delay(Advice::BackOff, failures).unwrap()).collect();
            assert!(delays.iter().all(|delay| *delay <= bound));
            assert!(delays.iter().any(|delay| *delay < bound / 4), "not full jitter");
            assert!(delays.iter().any(|delay| *delay > bound * 3 / 4), "bound not used");
        }
    }

    #[test]
    fn gives_up_after_its_retries() {
        let backoff = Backoff { retries: 2, ..BACKOFF };
        assert!(backoff.delay(Advice::BackOff, 2).is_some());
        assert_eq!(backoff.delay(Advice::BackOff, 3), None);
        assert_eq!(backoff.delay(Advice::AtOnce, 3), None);
    }

    #[test]
    fn never_comes_back_before_the_hint() {
        let hint = Duration::from_secs(7);
        assert_eq!(BACKOFF.delay(Advice::After(hint), 1), Some(hint));
        assert!(BACKOFF.delay(Advice::After(hint), 5).unwrap() >= hint);
    }

    #[test]
    fn takes_an_endless_hint_for_one_that_outlasts_the_run() {
        let delay = BACKOFF.delay(Advice::After(Duration::from_secs(u64::MAX)), 2).unwrap();
        assert!(delay >= Backoff::LONGEST_HINT);
        assert!(std::time::Instant::now().checked_add(delay).is_some());
    }

    #[test]
    fn obeys_the_table_of_close_codes() {
        let hint = r#"{"retry_after_ms":250}"#;
        for code in [1012, 1013] {
            assert_eq!(Advice::of_close(Some(code), hint), Advice::After(Duration::from_millis(250)));
            assert_eq!(Advice::of_close(Some(code), "bye"), Advice::BackOff);
        }
        assert_eq!(Advice::of_close(Some(4001), ""), Advice::Never);
        assert_eq!(BACKOFF.delay(Advice::Never, 1), None);
        assert_eq!(Advice::of_close(Some(4100), hint), Advice::BackOffFirst);
        assert_eq!(BACKOFF.delay(Advice::of_close(Some(4200), ""), 1), Some(Duration::ZERO));
        assert_eq!(Advice::of_close(None, ""), Advice::BackOff);
        assert_eq!(Advice::of_close(Some(1001), hint), Advice::BackOff);
    }
}
