//! The back-off of one cluster: 1 s after the first failure, doubled after each further one, at most 5 minutes.
//!
//! A new generation of the spec is tried at once, because it may fix the failure.

use std::time::Duration;

use tokio::time::Instant;
use wscluster_runtime::backoff::{Jitter, Policy};

use super::failure::ReconcileError;
use crate::metrics::ErrorCategory;
use crate::status::ApplyOutcome;

const POLICY: Policy =
    Policy { first: Duration::from_secs(1), factor: 2, max: Duration::from_mins(5), jitter: Jitter::From(0.75) };
/// Shorter, because no watch reports the deletion of the object that has the name.
const NAME_TAKEN: Duration = Duration::from_secs(30);

/// The last failure, the number of failures in a row, and the time of the next attempt.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
    last: Option<Last>,
}

#[derive(Debug)]
struct Last {
    until: Instant,
    generation: Option<i64>,
    outcome: ApplyOutcome,
    category: ErrorCategory,
}

impl Backoff {
    /// The outcome of the last attempt, while it is too early for another one.
    pub(super) fn holds(&self, generation: Option<i64>) -> Option<ApplyOutcome> {
        let last = self.last.as_ref()?;
        (last.generation == generation && Instant::now() < last.until).then(|| last.outcome.clone())
    }

    /// Records a failure, and returns its outcome for the status.
    pub(super) fn failed(&mut self, generation: Option<i64>, error: &ReconcileError) -> ApplyOutcome {
        let outcome = error.outcome();
        let longest = if matches!(outcome, ApplyOutcome::NameTaken(_)) { NAME_TAKEN } else { POLICY.max };
        let until = Instant::now() + self.next(longest);
        self.last = Some(Last { until, generation, outcome: outcome.clone(), category: error.category() });
        outcome
    }

    /// Records a success.
    pub(super) fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// The failure that waits for its next attempt.
    pub(super) fn pending(&self) -> Option<ReconcileError> {
        let last = self.last.as_ref()?;
        let message = match &last.outcome {
            ApplyOutcome::Failed(_, message) | ApplyOutcome::NameTaken(message) => message.clone(),
            ApplyOutcome::Applied | ApplyOutcome::Paused | ApplyOutcome::Invalid(_) => return None,
        };
        let left = last.until.saturating_duration_since(Instant::now());
        Some(ReconcileError::pending(last.category, message, left))
    }

    /// The delay after another failure, at most `longest`.
    fn next(&mut self, longest: Duration) -> Duration {
        self.failures = self.failures.saturating_add(1);
        Policy { max: longest, ..POLICY }.delay(self.failures)
    }

    /// [`Self::next`] with the default maximum.
    pub(super) fn delay(&mut self) -> Duration {
        self.next(POLICY.max)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;
    use crate::apply::ApplyError;

    fn taken() -> ReconcileError {
        ReconcileError::apply(ApplyError::NameTaken { object: "Service prices".into(), owner: "has no owner".into() })
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
        assert!(backoff.pending().unwrap().retry <= POLICY.first);
    }

    #[tokio::test(start_paused = true)]
    async fn holds_until_the_next_attempt_unless_the_spec_changes() {
        let mut backoff = Backoff::default();
        let outcome = backoff.failed(Some(1), &refused());
        assert_eq!(backoff.holds(Some(1)), Some(outcome));
        assert_eq!(backoff.holds(Some(2)), None);
        advance(POLICY.first).await;
        assert_eq!(backoff.holds(Some(1)), None);
    }

    #[tokio::test(start_paused = true)]
    async fn retries_a_taken_name_every_half_minute() {
        let mut backoff = Backoff::default();
        (0..20).for_each(|_| drop(backoff.failed(Some(1), &taken())));
        assert!(backoff.pending().unwrap().retry <= NAME_TAKEN);
        assert_eq!(backoff.pending().unwrap().category(), ErrorCategory::NameTaken);
    }
}
