//! Later and later, a cluster for itself: 1 s after the first failure, twice as long after each further one, 5 minutes at most.
//!
//! A new generation of the spec is tried at once: it may be what puts the failure right.

use std::time::Duration;

use tokio::time::Instant;

use super::failure::ReconcileError;
use crate::status::Outcome;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_mins(5);
/// A name is free as soon as somebody removes what has it, and no watch tells.
const NAME_TAKEN: Duration = Duration::from_secs(30);

/// What failed last, how often in a row, and until when it is not tried again.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
    last: Option<Last>,
}

#[derive(Debug)]
struct Last {
    until: Instant,
    generation: Option<i64>,
    outcome: Outcome,
    category: &'static str,
}

impl Backoff {
    /// What became of the last try, while it is too early for another.
    pub(super) fn holds(&self, generation: Option<i64>) -> Option<Outcome> {
        let last = self.last.as_ref()?;
        (last.generation == generation && Instant::now() < last.until).then(|| last.outcome.clone())
    }

    /// Notes a failure, and says what it is for the status.
    pub(super) fn failed(&mut self, generation: Option<i64>, error: &ReconcileError) -> Outcome {
        let outcome = error.outcome();
        let longest = if matches!(outcome, Outcome::NameTaken(_)) { NAME_TAKEN } else { LONGEST };
        let until = Instant::now() + self.next(longest);
        self.last = Some(Last { until, generation, outcome: outcome.clone(), category: error.category() });
        outcome
    }

    /// Everything is as it should be.
    pub(super) fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// The failure that waits for its next try.
    pub(super) fn pending(&self) -> Option<ReconcileError> {
        let last = self.last.as_ref()?;
        let message = match &last.outcome {
            Outcome::Failed(_, message) | Outcome::NameTaken(message) => message.clone(),
            Outcome::Applied | Outcome::Paused | Outcome::Invalid(_) => return None,
        };
        let left = last.until.saturating_duration_since(Instant::now());
        Some(ReconcileError::pending(last.category, message, left))
    }

    /// The time until another try of something that failed outside of applying.
    pub(super) fn next(&mut self, longest: Duration) -> Duration {
        let exact = FIRST.saturating_mul(1 << self.failures.min(16)).min(longest);
        self.failures += 1;
        exact.mul_f64(rand::random_range(0.75..=1.0))
    }

    /// [`Self::next`] up to the longest.
    pub(super) fn delay(&mut self) -> Duration {
        self.next(LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;
    use crate::apply::ApplyError;

    fn taken() -> ReconcileError {
        ReconcileError::apply(ApplyError::NameTaken {
            object: "Service prices".into(),
            owner: "belongs to nobody".into(),
        })
    }

    fn refused() -> ReconcileError {
        let status = kube::core::Status::failure("quota", "Forbidden").with_code(500).boxed();
        let source = Box::new(kube::Error::Api(status));
        ReconcileError::apply(ApplyError::Request { verb: "apply", object: "Service prices".into(), source })
    }

    #[tokio::test(start_paused = true)]
    async fn doubles_up_to_five_minutes_and_starts_over_after_success() {
        let mut backoff = Backoff::default();
        for expected in [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 300.0, 300.0] {
            backoff.failed(Some(1), &refused());
            let delay = backoff.pending().unwrap().retry.as_secs_f64();
            assert!((0.75 * expected..=expected).contains(&delay), "{delay} of {expected}");
        }
        backoff.succeeded();
        assert!(backoff.pending().is_none() && backoff.holds(Some(1)).is_none());
        backoff.failed(Some(1), &refused());
        assert!(backoff.pending().unwrap().retry <= FIRST);
    }

    #[tokio::test(start_paused = true)]
    async fn holds_until_then_unless_the_spec_changes() {
        let mut backoff = Backoff::default();
        let outcome = backoff.failed(Some(1), &refused());
        assert_eq!(backoff.holds(Some(1)), Some(outcome));
        assert_eq!(backoff.holds(Some(2)), None);
        advance(FIRST).await;
        assert_eq!(backoff.holds(Some(1)), None);
    }

    #[tokio::test(start_paused = true)]
    async fn looks_for_a_free_name_every_half_minute() {
        let mut backoff = Backoff::default();
        (0..20).for_each(|_| drop(backoff.failed(Some(1), &taken())));
        assert!(backoff.pending().unwrap().retry <= NAME_TAKEN);
        assert_eq!(backoff.pending().unwrap().category(), "NameTaken");
    }
}
