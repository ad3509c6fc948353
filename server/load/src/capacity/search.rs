//! Chooses the next number of connections to try: doubles it until a step breaks, then halves the gap a few times.

/// The first number.
const FIRST: u32 = 500;
/// The search ends when the gap between the number that holds and the one that breaks is this share of the latter.
const PRECISION: f64 = 0.1;

/// A search for the largest number of connections that holds, up to a bound.
#[derive(Debug)]
pub(super) struct Search {
    most: u32,
    good: Option<u32>,
    bad: Option<u32>,
    trying: u32,
}

impl Search {
    /// A search up to `most`.
    pub(super) fn new(most: u32) -> Self {
        Self { most, good: None, bad: None, trying: 0 }
    }

    /// The next number to try; `None` at the end of the search.
    pub(super) fn next(&mut self) -> Option<u32> {
        self.trying = match (self.good, self.bad) {
            (None, None) => FIRST.min(self.most),
            (Some(good), None) if good >= self.most => return None,
            (Some(good), None) => good.saturating_mul(2).min(self.most),
            (good, Some(bad)) => {
                let good = good.unwrap_or(0);
                let gap = bad - good;
                if f64::from(gap) <= f64::from(bad) * PRECISION || gap <= 10 {
                    return None;
                }
                good + gap / 2
            }
        };
        (self.trying > 0).then_some(self.trying)
    }

    /// Records whether the last number held.
    pub(super) fn learn(&mut self, held: bool) {
        *(if held { &mut self.good } else { &mut self.bad }) = Some(self.trying);
    }

    /// The largest number that held.
    pub(super) fn holds(&self) -> Option<u32> {
        self.good
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn search(most: u32, capacity: u32) -> (Option<u32>, u32) {
        let mut search = Search::new(most);
        let mut steps = 0;
        while let Some(connections) = search.next() {
            search.learn(connections <= capacity);
            steps += 1;
        }
        (search.holds(), steps)
    }

    #[test]
    fn stops_at_the_bound_when_nothing_breaks() {
        assert_eq!(search(18_000, 1_000_000), (Some(18_000), 7));
        assert_eq!(search(0, 5), (None, 0));
    }

    #[test]
    fn says_so_when_nothing_holds() {
        assert_eq!(search(18_000, 0).0, None);
    }

    proptest! {
        #[test]
        fn comes_within_a_tenth_in_few_steps(most in 500_u32..50_000, capacity in 100_u32..60_000) {
            let (holds, steps) = search(most, capacity);
            let (holds, capacity) = (f64::from(holds.unwrap_or(0)), f64::from(capacity.min(most)));
            prop_assert!(holds <= capacity && holds >= capacity * 0.89 - 11.0, "{} of {}", holds, capacity);
            prop_assert!(steps <= 14);
        }
    }
}
