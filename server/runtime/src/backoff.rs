//! Growing waits between attempts: the one back-off of server and operator.
//!
//! A [`Policy`] is constant; a [`Backoff`] counts the consecutive failures of one task. As an `Iterator` it fits
//! libraries that take delays that way.

use std::time::Duration;

use rand::RngExt as _;

/// How long to wait after each failure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Policy {
    /// Wait after the first failure, before jitter.
    pub first: Duration,
    /// Each further wait is this many times as long.
    pub factor: u32,
    /// Longest wait, before jitter.
    pub max: Duration,
    /// Random part of each wait.
    pub jitter: Jitter,
}

/// Which part of a wait is random. Jitter keeps processes that failed together from trying again together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Jitter {
    /// Every wait is exact.
    None,
    /// A wait is drawn between this share of the exact one and the exact one; the share lies in 0..1.
    From(f64),
    /// A wait is drawn between zero and the exact one.
    Full,
}

impl Policy {
    /// The wait after `failures` failures in a row (1 or more), before jitter.
    pub fn bound(&self, failures: u32) -> Duration {
        let growth = self.factor.saturating_pow(failures.saturating_sub(1));
        self.first.saturating_mul(growth).min(self.max)
    }

    /// The wait after `failures` failures in a row (1 or more).
    pub fn delay(&self, failures: u32) -> Duration {
        let bound = self.bound(failures);
        match self.jitter {
            Jitter::None => bound,
            Jitter::From(share) => bound.mul_f64(rand::rng().random_range(share..=1.0)),
            Jitter::Full => bound.mul_f64(rand::rng().random_range(0.0..=1.0)),
        }
    }
}

/// The failures in a row of one task.
#[derive(Clone, Debug)]
pub struct Backoff {
    policy: Policy,
    failures: u32,
}

impl Backoff {
    /// No failure yet.
    pub const fn new(policy: Policy) -> Self {
        Self { policy, failures: 0 }
    }

    /// Counts a failure; returns the wait before the next attempt.
    pub fn next_delay(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        self.policy.delay(self.failures)
    }

    /// Forgets all failures: an attempt succeeded.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// Failures in a row.
    pub const fn failures(&self) -> u32 {
        self.failures
    }
}

/// Never ends.
impl Iterator for Backoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(self.next_delay())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Policy =
        Policy { first: Duration::from_millis(100), factor: 2, max: Duration::from_secs(5), jitter: Jitter::None };

    #[test]
    fn doubles_up_to_the_maximum_and_starts_over_after_a_reset() {
        let mut backoff = Backoff::new(POLICY);
        let waits: Vec<u128> = backoff.by_ref().take(8).map(|wait| wait.as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000]);
        assert_eq!(backoff.failures(), 8);
        backoff.reset();
        assert_eq!(backoff.next_delay(), POLICY.first);
    }

    #[test]
    fn draws_each_wait_from_the_range_of_its_jitter() {
        for (jitter, least) in [(Jitter::From(0.5), 0.5), (Jitter::Full, 0.0)] {
            let policy = Policy { jitter, ..POLICY };
            for failures in [1, 3, 40] {
                let (bound, waits) = (policy.bound(failures), (0..500).map(|_| policy.delay(failures)));
                let shares: Vec<f64> = waits.map(|wait| wait.as_secs_f64() / bound.as_secs_f64()).collect();
                assert!(shares.iter().all(|share| (least - 1e-6..=1.0 + 1e-6).contains(share)), "{jitter:?}");
                let width = 1.0 - least;
                assert!(shares.iter().any(|share| *share < least + width / 4.0), "{jitter:?}: low end unused");
                assert!(shares.iter().any(|share| *share > 1.0 - width / 4.0), "{jitter:?}: high end unused");
            }
        }
    }

    #[test]
    fn survives_any_number_of_failures() {
        let mut backoff = Backoff { failures: u32::MAX - 1, ..Backoff::new(POLICY) };
        (0..3).for_each(|_| assert_eq!(backoff.next_delay(), POLICY.max));
    }
}
