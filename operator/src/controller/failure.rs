//! Errors of a reconcile, with their category and the time of the next attempt.

use std::time::Duration;

use crate::apply::ApplyError;
use crate::client::CallError;
use crate::metrics::ErrorCategory;
use crate::status::ApplyOutcome;

/// A reconcile failed.
#[derive(Debug, thiserror::Error)]
#[error("{cause}")]
pub(crate) struct ReconcileError {
    #[source]
    cause: Cause,
    /// Time until the next attempt.
    pub(crate) retry: Duration,
}

#[derive(Debug, thiserror::Error)]
enum Cause {
    #[error(transparent)]
    Apply(#[from] ApplyError),
    #[error("failed to write the status: {0}")]
    Status(#[source] Box<kube::Error>),
    /// The last attempt failed, and the next one is not due yet.
    #[error("waiting for the next attempt: {1}")]
    Pending(ErrorCategory, String),
}

impl ReconcileError {
    pub(super) fn apply(error: ApplyError) -> Self {
        Self { cause: error.into(), retry: Duration::ZERO }
    }

    pub(super) fn status(error: kube::Error) -> Self {
        Self { cause: Cause::Status(Box::new(error)), retry: Duration::ZERO }
    }

    pub(super) fn pending(category: ErrorCategory, message: String, retry: Duration) -> Self {
        Self { cause: Cause::Pending(category, message), retry }
    }

    pub(crate) fn category(&self) -> ErrorCategory {
        match &self.cause {
            Cause::Apply(error) => error.category(),
            Cause::Status(_) => ErrorCategory::StatusNotWritten,
            Cause::Pending(category, _) => *category,
        }
    }

    /// Whether the only cause is that the lease is no longer held.
    pub(super) fn is_fenced(&self) -> bool {
        let source = match &self.cause {
            Cause::Apply(ApplyError::Request { source, .. }) | Cause::Status(source) => source,
            Cause::Apply(ApplyError::NameTaken { .. }) | Cause::Pending(..) => return false,
        };
        matches!(&**source, kube::Error::Service(error) if error.downcast_ref() == Some(&CallError::Fenced))
    }

    /// The outcome for the status.
    pub(super) fn outcome(&self) -> ApplyOutcome {
        match &self.cause {
            Cause::Apply(error @ ApplyError::NameTaken { .. }) => ApplyOutcome::NameTaken(error.to_string()),
            cause => ApplyOutcome::Failed(self.category(), cause.to_string()),
        }
    }
}
