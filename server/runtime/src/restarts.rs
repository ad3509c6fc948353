//! When a child that ended starts again: at once the first time, then ever later, and what counts as a crash loop.

use std::time::Duration;

/// Wait before the first restart.
const FIRST: Duration = Duration::from_millis(100);
/// Longest wait.
const LONGEST: Duration = Duration::from_secs(10);
/// A child that ran this long has started well: what it did before is forgotten.
pub const STEADY: Duration = Duration::from_secs(10);
/// Short lives in a row that make a crash loop.
const LOOP: u32 = 5;

/// Memory of one child's short lives.
#[derive(Debug, Default)]
pub struct Backoff {
    short_lives: u32,
}

/// What follows an exit.
#[derive(Debug, PartialEq, Eq)]
pub struct Restart {
    /// Wait before the next start.
    pub after: Duration,
    /// `Some(short lives in a row)` when this exit made it a crash loop: once a loop.
    pub crash_loop: Option<u32>,
}

impl Backoff {
    /// A child ended after it `ran`.
    pub fn exited(&mut self, ran: Duration) -> Restart {
        self.short_lives = if ran >= STEADY { 1 } else { self.short_lives.saturating_add(1) };
        let doublings = (self.short_lives - 1).min(16);
        Restart {
            after: (FIRST * 2u32.pow(doublings)).min(LONGEST),
            crash_loop: (self.short_lives == LOOP).then_some(LOOP),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(20);

    #[test]
    fn waits_twice_as_long_after_each_short_life_up_to_a_limit() {
        let mut backoff = Backoff::default();
        let waits: Vec<u128> = (0..10).map(|_| backoff.exited(SHORT).after.as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000, 10_000]);
    }

    #[test]
    fn reports_a_crash_loop_once() {
        let mut backoff = Backoff::default();
        let reports: Vec<_> = (0..8).map(|_| backoff.exited(SHORT).crash_loop).collect();
        assert_eq!(reports, [None, None, None, None, Some(5), None, None, None]);
    }

    #[test]
    fn forgets_short_lives_after_a_long_one() {
        let mut backoff = Backoff::default();
        for _ in 0..7 {
            backoff.exited(SHORT);
        }
        assert_eq!(backoff.exited(STEADY), Restart { after: FIRST, crash_loop: None });
        let again: Vec<_> = (0..4).map(|_| backoff.exited(SHORT).crash_loop).collect();
        assert_eq!(again, [None, None, None, Some(5)], "and a new loop is reported again");
    }

    #[test]
    fn survives_endless_short_lives() {
        let mut backoff = Backoff { short_lives: u32::MAX - 1 };
        (0..3).for_each(|_| assert_eq!(backoff.exited(SHORT).after, LONGEST));
    }
}
