//! The error of a bench. A bench cannot recover; it ends with one sentence that names the failed operation.

use std::io;

/// The one error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An operation of the system failed.
    #[error("failed to {what}: {source}")]
    Io {
        /// The operation.
        what: String,
        /// The cause.
        source: io::Error,
    },
    /// Any other condition that makes the figures meaningless.
    #[error("{0}")]
    Unusable(String),
}

/// Result of a step of a bench.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Adds the operation to an error.
pub trait Doing<T> {
    /// `what` completes "failed to …".
    fn doing(self, what: impl Into<String>) -> Result<T>;
}

impl<T, E: Into<io::Error>> Doing<T> for std::result::Result<T, E> {
    fn doing(self, what: impl Into<String>) -> Result<T> {
        self.map_err(|source| Error::Io { what: what.into(), source: source.into() })
    }
}

/// `Err(Error::Unusable)` with a formatted reason.
#[macro_export]
macro_rules! bail {
    ($($text:tt)*) => { return Err($crate::error::Error::Unusable(format!($($text)*))) };
}
