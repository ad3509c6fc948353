//! For how long a shard has been behind, told from the ends of the logs alone: no clock of a producer is believed.
//!
//! What was at the end of the logs some seconds ago, and is not handled yet, is at least that old. Offsets of all
//! partitions are added up, so one that stands still beside others that flow is seen late: that is `Partitions`' matter.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Ends of the logs that were not reached yet, oldest first.
#[derive(Debug, Default)]
pub(super) struct Behind {
    marks: VecDeque<(Instant, u64)>,
}

impl Behind {
    /// A shard whose oldest unread record is older is far behind.
    pub(super) const TOLERATED: Duration = Duration::from_secs(5);

    /// More say nothing more.
    const MARKS: usize = 64;

    /// The logs end at `end`, all added up, and `lag` records before that are not handled. How old the oldest of them is
    /// at least.
    pub(super) fn observe(&mut self, now: Instant, end: u64, lag: u64) -> Duration {
        let handled = end.saturating_sub(lag);
        // A mark beyond the end is of a topic that was recreated.
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
    fn tells_the_age_of_what_is_not_handled() {
        let (mut behind, start) = (Behind::default(), Instant::now());
        let mut at = |second: u64, end, lag| behind.observe(start + Duration::from_secs(second), end, lag).as_secs();
        assert_eq!(at(0, 100, 0), 0);
        assert_eq!(at(1, 200, 50), 0);
        assert_eq!(at(2, 300, 120), 1);
        assert_eq!(at(7, 800, 620), 6);
        // All that was there in second 1 is handled, but not what was there in second 2.
        assert_eq!(at(8, 900, 700), 6);
        // A large but steady flow is late, not behind.
        assert_eq!(at(9, 10_000, 9_000), 0);
        assert_eq!(at(10, 20_000, 15_000), 1);
        assert_eq!(at(11, 30_000, 19_000), 1);
        assert_eq!(at(12, 30_000, 0), 0);
    }

    #[test]
    fn forgets_the_life_of_a_topic_that_is_over() {
        let (mut behind, start) = (Behind::default(), Instant::now());
        behind.observe(start, 1_000, 500);
        assert_eq!(behind.observe(start + Duration::from_secs(9), 10, 5), Duration::ZERO);
    }

    #[test]
    fn remembers_the_oldest_however_long_it_takes() {
        let (mut behind, start) = (Behind::default(), Instant::now());
        for second in 0..1_000 {
            let age = behind.observe(start + Duration::from_secs(second), 10 + second, 10 + second);
            assert_eq!(age.as_secs(), second);
            assert!(behind.marks.len() <= Behind::MARKS);
        }
    }
}
