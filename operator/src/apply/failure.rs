//! Errors while objects are applied.

use kube::Resource;

use crate::caches::Cached;
use crate::metrics::ErrorCategory;

/// An object could not be applied or deleted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApplyError {
    /// The object exists and belongs to somebody else.
    #[error("failed to apply {object}: it already exists and {owner}; delete it, or give the WsCluster another name")]
    NameTaken {
        /// Kind and name.
        object: String,
        /// Its owner.
        owner: String,
    },
    /// The request failed.
    #[error("failed to {verb} {object}: {}", cause(source))]
    Request {
        /// The verb of the request.
        verb: &'static str,
        /// Kind and name.
        object: String,
        source: Box<kube::Error>,
    },
}

impl ApplyError {
    pub(super) fn request<K: Cached>(verb: &'static str, name: &str, source: kube::Error) -> Self {
        Self::Request { verb, object: object::<K>(name), source: Box::new(source) }
    }

    /// The category, which is also the reason of the `Degraded` condition.
    pub(crate) fn category(&self) -> ErrorCategory {
        let Self::Request { source, .. } = self else { return ErrorCategory::NameTaken };
        match &**source {
            kube::Error::Api(status) => match status.code {
                // The API server has no other mark for an exceeded quota.
                403 if status.message.contains("exceeded quota") => ErrorCategory::QuotaExceeded,
                401 | 403 => ErrorCategory::Forbidden,
                409 => ErrorCategory::Conflict,
                400 | 422 => ErrorCategory::Invalid,
                429 => ErrorCategory::Throttled,
                _ => ErrorCategory::ApiServerError,
            },
            _ => ErrorCategory::ApiServerUnreachable,
        }
    }
}

/// Kind and name of an object, for messages.
pub(super) fn object<K: Cached>(name: &str) -> String {
    format!("{} {name}", <K as Resource>::kind(&()))
}

/// The message of the API server, or the error.
fn cause(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => format!("{} ({})", status.message, status.code),
        other => other.to_string(),
    }
}
