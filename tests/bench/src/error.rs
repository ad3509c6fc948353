//! Why a bench cannot go on. A bench ends with one sentence that says what it was doing; it has nobody to recover for it.

use std::io;

/// The one error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system said no.
    #[error("failed to {what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why not.
        source: io::Error,
    },
    /// Anything else that makes figures meaningless.
    #[error("{0}")]
    Unusable(String),
}

/// Shorthand.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Says what was tried when it fails.
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
