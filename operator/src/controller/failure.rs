//! Why a reconcile failed, in bounded categories, and when it is tried again.

use std::time::Duration;

use crate::apply::ApplyError;
use crate::client::CallError;
use crate::status::Outcome;

/// Why a reconcile failed.
#[derive(Debug, thiserror::Error)]
#[error("{cause}")]
pub struct ReconcileError {
    /// What went wrong.
    #[source]
    cause: Cause,
    /// When to try again.
    pub retry: Duration,
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
enum Cause {
    /// An object is not as it should be.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// The status was not written.
    #[error("failed to write the status: {0}")]
    Status(#[source] Box<kube::Error>),
    /// The last try failed, and the next one is not due yet.
    #[error("not tried again yet: {1}")]
    Pending(&'static str, String),
}

impl ReconcileError {
    pub(super) fn apply(error: ApplyError) -> Self {
        Self { cause: error.into(), retry: Duration::ZERO }
    }

    pub(super) fn status(error: kube::Error) -> Self {
        Self { cause: Cause::Status(Box::new(error)), retry: Duration::ZERO }
    }

    pub(super) fn pending(reason: &'static str, message: String, retry: Duration) -> Self {
        Self { cause: Cause::Pending(reason, message), retry }
    }

    /// A word of a fixed list.
    pub fn category(&self) -> &'static str {
        match &self.cause {
            Cause::Apply(error) => error.reason(),
            Cause::Status(_) => "StatusNotWritten",
            Cause::Pending(reason, _) => reason,
        }
    }

    /// Whether it was only that the lease is not held any more.
    pub(super) fn is_fenced(&self) -> bool {
        let source = match &self.cause {
            Cause::Apply(ApplyError::Request { source, .. }) | Cause::Status(source) => source,
            Cause::Apply(ApplyError::NameTaken { .. }) | Cause::Pending(..) => return false,
        };
        matches!(&**source, kube::Error::Service(error) if error.downcast_ref() == Some(&CallError::Fenced))
    }

    /// What a status says of it.
    pub(super) fn outcome(&self) -> Outcome {
        match &self.cause {
            Cause::Apply(error @ ApplyError::NameTaken { .. }) => Outcome::NameTaken(error.to_string()),
            cause => Outcome::Failed(self.category(), cause.to_string()),
        }
    }
}
