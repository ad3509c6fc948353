//! When a client reconnects after a failed handshake or a lost connection: first what the server asked for, then full
//! jitter. Full jitter is a uniform draw between 0 and a bound that doubles with each failure; it spreads clients that
//! failed at the same time.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use wscluster_protocol::close::{Advice, retry_after};
use wscluster_runtime::backoff::{Jitter, Policy};

/// When a client may reconnect after the end of a connection or a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// When to reconnect.
    pub advice: Advice,
    /// The delay for [`Advice::AfterHint`].
    pub after: Option<Duration>,
}

impl Retry {
    /// Reconnect with jitter: the server asked for nothing.
    pub const JITTER: Self = Self { advice: Advice::Jitter, after: None };

    /// Do not reconnect.
    pub const NEVER: Self = Self { advice: Advice::Never, after: None };

    /// Reconnect after `delay`.
    pub const fn after(delay: Duration) -> Self {
        Self { advice: Advice::AfterHint, after: Some(delay) }
    }

    /// The advice of a Close frame. `reason` may be `{"retry_after_ms":n}`.
    pub fn of_close(code: Option<u16>, reason: &str) -> Self {
        let advice = Advice::of_close(code);
        let after = if advice == Advice::AfterHint { retry_after(reason) } else { None };
        Self { advice, after }
    }

    /// The advice of a response other than 101; `after` is its `Retry-After` or `retry_after_ms`.
    pub fn of_status(status: u16, after: Option<Duration>) -> Self {
        match (status, after) {
            (_, Some(after)) => Self::after(after),
            // The same request gets the same answer, except after timeouts, rate limits and failures of the server.
            (408 | 429 | 500 | 502..=504 | 506..=599, None) => Self::JITTER,
            _ => Self::NEVER,
        }
    }
}

/// Limits of the delays and of the number of attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReconnectPolicy {
    /// Attempts after a failure; a success resets the count.
    pub retries: u32,
    /// Bound of the first delay.
    pub base: Duration,
    /// Bound of every delay, except for hints of the server.
    pub max: Duration,
}

impl Default for ReconnectPolicy {
    fn default() -> Self {
        Self { retries: u32::MAX, base: Duration::from_millis(200), max: Duration::from_secs(10) }
    }
}

impl ReconnectPolicy {
    /// Hints above this are cut, so that the delay can be added to an instant.
    const LONGEST_HINT: Duration = Duration::from_hours(24);

    /// [`Advice::BackOff`] starts with the bound of a later failure.
    const BACK_OFF_FAILURES: u32 = 4;

    /// The delay before the next attempt after `failures` failures in a row (1 or more); `None`: give up.
    pub fn delay(&self, retry: Retry, failures: u32) -> Option<Duration> {
        if failures > self.retries {
            return None;
        }
        let first = failures <= 1;
        let repeated = || if first { Duration::ZERO } else { self.jitter(failures - 1) };
        match (retry.advice, retry.after) {
            (Advice::Never, _) => None,
            // Advice that is repeated has not helped. Jitter prevents a tight loop.
            (Advice::AtOnce, _) => Some(repeated()),
            (Advice::AfterHint, Some(hint)) => Some(hint.min(Self::LONGEST_HINT) + repeated()),
            (Advice::AfterHint, None) | (Advice::Jitter, _) => Some(self.jitter(failures)),
            (Advice::BackOff, _) => Some(self.jitter(failures.saturating_add(Self::BACK_OFF_FAILURES))),
        }
    }

    fn jitter(&self, failures: u32) -> Duration {
        Policy { first: self.base, factor: 2, max: self.max, jitter: Jitter::Full }.delay(failures)
    }
}

#[cfg(test)]
mod tests {
    use wscluster_protocol::close::CloseCode;

    use super::*;

    const BACKOFF: ReconnectPolicy =
        ReconnectPolicy { retries: 100, base: Duration::from_millis(100), max: Duration::from_secs(5) };

    #[test]
    fn draws_from_zero_to_a_doubling_bound() {
        for (failures, bound) in [(1, 100), (2, 200), (4, 800), (9, 5_000), (90, 5_000)] {
            let bound = Duration::from_millis(bound);
            let delays: Vec<_> = (0..500).map(|_| BACKOFF.delay(Retry::JITTER, failures).unwrap()).collect();
            assert!(delays.iter().all(|delay| *delay <= bound));
            assert!(delays.iter().any(|delay| *delay < bound / 4), "not full jitter");
            assert!(delays.iter().any(|delay| *delay > bound * 3 / 4), "bound not used");
        }
    }

    #[test]
    fn gives_up_after_its_retries() {
        let backoff = ReconnectPolicy { retries: 2, ..BACKOFF };
        assert!(backoff.delay(Retry::JITTER, 2).is_some());
        assert_eq!(backoff.delay(Retry::JITTER, 3), None);
        assert_eq!(backoff.delay(Retry { advice: Advice::AtOnce, after: None }, 3), None);
    }

    #[test]
    fn never_reconnects_before_the_hint() {
        let hint = Duration::from_secs(7);
        assert_eq!(BACKOFF.delay(Retry::after(hint), 1), Some(hint));
        assert!(BACKOFF.delay(Retry::after(hint), 5).unwrap() >= hint);
    }

    #[test]
    fn cuts_a_hint_that_no_instant_can_hold() {
        let delay = BACKOFF.delay(Retry::after(Duration::from_secs(u64::MAX)), 2).unwrap();
        assert!(delay >= ReconnectPolicy::LONGEST_HINT);
        assert!(std::time::Instant::now().checked_add(delay).is_some());
    }

    #[test]
    fn obeys_the_advice_of_every_close_code() {
        let text = r#"{"retry_after_ms":250}"#;
        let hint = Duration::from_millis(250);
        let ours = CloseCode::ALL.map(CloseCode::number);
        for code in ours.into_iter().chain([1006, 3000, 4000, 4099, 4199, 4200, 4299, 4300]) {
            let retry = Retry::of_close(Some(code), text);
            let delays: Vec<_> = (0..200).map(|_| BACKOFF.delay(retry, 1)).collect();
            let all = |obeys: &dyn Fn(Duration) -> bool| delays.iter().all(|delay| delay.is_some_and(obeys));
            let obeyed = match Advice::of_close(Some(code)) {
                Advice::Never => delays.iter().all(Option::is_none),
                Advice::AtOnce => all(&|delay| delay.is_zero()),
                Advice::AfterHint => all(&|delay| delay == hint),
                Advice::Jitter => all(&|delay| delay <= BACKOFF.base),
                Advice::BackOff => {
                    let longer = delays.iter().flatten().filter(|delay| **delay > BACKOFF.base).count();
                    all(&|delay| delay <= BACKOFF.base * 16) && longer > 150
                }
            };
            assert!(obeyed, "{code}: {retry:?} led to {delays:?}");
        }
    }

    #[test]
    fn reads_the_advice_of_a_close_frame() {
        let hint = r#"{"retry_after_ms":250}"#;
        for code in [1012, 1013] {
            assert_eq!(Retry::of_close(Some(code), hint), Retry::after(Duration::from_millis(250)));
            let without = Retry::of_close(Some(code), "bye");
            assert!(BACKOFF.delay(without, 1).unwrap() <= BACKOFF.base);
        }
        assert_eq!(Retry::of_close(Some(4001), ""), Retry::NEVER);
        assert_eq!(BACKOFF.delay(Retry::NEVER, 1), None);
        assert_eq!(Retry::of_close(Some(4100), hint), Retry { advice: Advice::BackOff, after: None });
        assert_eq!(BACKOFF.delay(Retry::of_close(Some(4200), ""), 1), Some(Duration::ZERO));
        assert_eq!(Retry::of_close(None, ""), Retry::JITTER);
        assert_eq!(Retry::of_close(Some(1001), hint), Retry::JITTER);
    }

    #[test]
    fn retries_what_may_pass_and_nothing_else() {
        for status in [408, 429, 500, 502, 503, 504] {
            assert_eq!(Retry::of_status(status, None), Retry::JITTER, "{status}");
        }
        for status in [200, 301, 400, 401, 403, 404, 405, 426, 431, 501, 505] {
            assert_eq!(Retry::of_status(status, None), Retry::NEVER, "{status}");
        }
        let after = Duration::from_secs(3);
        assert_eq!(Retry::of_status(503, Some(after)), Retry::after(after));
    }
}
