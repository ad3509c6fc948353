//! Age of the oldest unread record, estimated from the end offsets alone: clocks of producers are not trusted.
//!
//! A record that was at the end of the log some seconds ago and is still unread is at least that old. Offsets are
//! summed over all partitions, so one stuck partition beside flowing ones is noticed late.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Sums of end offsets that are not reached yet, oldest first.
#[derive(Debug, Default)]
pub(super) struct LagAge {
    marks: VecDeque<(Instant, u64)>,
}

impl LagAge {
    /// A lag age above this is reported.
    pub(super) const TOLERATED: Duration = Duration::from_secs(5);

    /// Most marks; with more, every second one is dropped.
    const MARKS: usize = 64;

    /// Records that the end offsets sum up to `end` and that `lag` records are unread. Returns the least age of the
    /// oldest of them.
    pub(super) fn observe(&mut self, now: Instant, end: u64, lag: u64) -> Duration {
        let handled = end.saturating_sub(lag);
        // A mark beyond the end belongs to a topic that was recreated.
        self.marks.retain(|&(_, mark)| handled < mark && mark <= end);
        if self.marks.len() == Self::MARKS {
            let mut at = 0;
            self.marks.retain(|_| {
                at += 1;
                at % 2 == 1
            });
        }
        if self.marks.back().is_none_or(|&(_, mark)| mark < end) && lag > 0 {
            self.marks.push_back((now, end));
        }
        self.marks.front().map_or(Duration::ZERO, |&(since, _)| now.duration_since(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn age_follows_the_oldest_unread_record() {
        let (mut lag_age, start) = (LagAge::default(), Instant::now());
        let mut at = |second: u64, end, lag| lag_age.observe(start + Duration::from_secs(second), end, lag).as_secs();
        assert_eq!(at(0, 100, 0), 0);
        assert_eq!(at(1, 200, 50), 0);
        assert_eq!(at(2, 300, 120), 1);
        assert_eq!(at(7, 800, 620), 6);
        // The records of second 1 are read, those of second 2 are not.
        assert_eq!(at(8, 900, 700), 6);
        // A large, steady lag is not old.
        assert_eq!(at(9, 10_000, 9_000), 0);
        assert_eq!(at(10, 20_000, 15_000), 1);
        assert_eq!(at(11, 30_000, 19_000), 1);
        assert_eq!(at(12, 30_000, 0), 0);
    }

    #[test]
    fn forgets_a_topic_that_was_recreated() {
        let (mut lag_age, start) = (LagAge::default(), Instant::now());
        lag_age.observe(start, 1_000, 500);
        assert_eq!(lag_age.observe(start + Duration::from_secs(9), 10, 5), Duration::ZERO);
    }

    #[test]
    fn remembers_the_oldest_mark_for_any_time() {
        let (mut lag_age, start) = (LagAge::default(), Instant::now());
        for second in 0..1_000 {
            let age = lag_age.observe(start + Duration::from_secs(second), 10 + second, 10 + second);
            assert_eq!(age.as_secs(), second);
            assert!(lag_age.marks.len() <= LagAge::MARKS);
        }
    }
}
