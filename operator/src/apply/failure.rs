//! What goes wrong while objects are applied, and what to do about it.

use kube::Resource;

use crate::live::Cached;

/// Why an object is not as it should be. Each names the object.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// It is there and belongs to somebody else.
    #[error(
        "failed to apply {object}: it exists already and {owner}; delete it or rename it, or give the WsCluster another name"
    )]
    NameTaken {
        /// Kind and name.
        object: String,
        /// Whose it is.
        owner: String,
    },
    /// The API server would not, or did not answer.
    #[error("failed to {verb} {object}: {}", cause(source))]
    Request {
        /// What was asked for.
        verb: &'static str,
        /// Kind and name.
        object: String,
        /// Why not.
        source: Box<kube::Error>,
    },
}

impl ApplyError {
    pub(super) fn request<K: Cached>(verb: &'static str, name: &str, source: kube::Error) -> Self {
        Self::Request { verb, object: object::<K>(name), source: Box::new(source) }
    }

    /// One word, for a condition's reason and a metric's label.
    pub fn reason(&self) -> &'static str {
        let Self::Request { source, .. } = self else { return "NameTaken" };
        match &**source {
            kube::Error::Api(status) => match status.code {
                403 if status.message.contains("exceeded quota") => "QuotaExceeded",
                401 | 403 => "Forbidden",
                409 => "Conflict",
                400 | 422 => "Invalid",
                429 => "Throttled",
                _ => "ApiServerError",
            },
            _ => "ApiServerUnreachable",
        }
    }
}

/// Kind and name, as people write them.
pub(super) fn object<K: Cached>(name: &str) -> String {
    format!("{} {name}", <K as Resource>::kind(&()))
}

/// What the API server said, without the type around it.
fn cause(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => format!("{} ({})", status.message, status.code),
        other => other.to_string(),
    }
}
