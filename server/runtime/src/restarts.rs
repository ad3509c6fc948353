//! When a child process that ended is started again: at once the first time, later after each short life. Several
//! short lives in a row are a crash loop.

use std::time::Duration;

use crate::backoff::{Backoff, Jitter, Policy};

const POLICY: Policy =
    Policy { first: Duration::from_millis(100), factor: 2, max: Duration::from_secs(10), jitter: Jitter::None };
/// After a life of this length the child has started well; earlier short lives are forgotten.
pub const STEADY: Duration = Duration::from_secs(10);
/// Short lives in a row that make a crash loop.
const CRASH_LOOP: u32 = 5;

/// The short lives of one child in a row.
#[derive(Debug)]
pub struct Restarts(Backoff);

/// What follows an exit.
#[derive(Debug, PartialEq, Eq)]
pub struct Restart {
    /// Wait before the next start.
    pub after: Duration,
    /// Short lives in a row, if this exit completed a crash loop; reported once per loop.
    pub crash_loop: Option<u32>,
}

impl Restarts {
    /// Records that the child ended after it `ran` for this long.
    pub fn exited(&mut self, ran: Duration) -> Restart {
        if ran >= STEADY {
            self.0.reset();
        }
        let after = self.0.next_delay();
        Restart { after, crash_loop: (self.0.failures() == CRASH_LOOP).then_some(CRASH_LOOP) }
    }
}

impl Default for Restarts {
    fn default() -> Self {
        Self(Backoff::new(POLICY))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(20);

    #[test]
    fn waits_twice_as_long_after_each_short_life_up_to_a_limit() {
        let mut restarts = Restarts::default();
        let waits: Vec<u128> = (0..10).map(|_| restarts.exited(SHORT).after.as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000, 10_000]);
    }

    #[test]
    fn reports_a_crash_loop_once() {
        let mut restarts = Restarts::default();
        let reports: Vec<_> = (0..8).map(|_| restarts.exited(SHORT).crash_loop).collect();
        assert_eq!(reports, [None, None, None, None, Some(5), None, None, None]);
    }

    #[test]
    fn forgets_short_lives_after_a_long_one() {
        let mut restarts = Restarts::default();
        for _ in 0..7 {
            restarts.exited(SHORT);
        }
        assert_eq!(restarts.exited(STEADY), Restart { after: POLICY.first, crash_loop: None });
        let again: Vec<_> = (0..4).map(|_| restarts.exited(SHORT).crash_loop).collect();
        assert_eq!(again, [None, None, None, Some(5)], "and a new loop is reported again");
    }

    #[test]
    fn survives_endless_short_lives() {
        let mut restarts = Restarts::default();
        for _ in 0..1_000 {
            restarts.exited(SHORT);
        }
        (0..3).for_each(|_| assert_eq!(restarts.exited(SHORT).after, POLICY.max));
    }
}
