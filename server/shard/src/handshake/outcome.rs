//! The outcomes of a handshake. Every handshake is counted under exactly one (invariant A4).

use wscluster_ws::upgrade::Refusal;

use crate::shared::NoSlot;

/// How a handshake ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HandshakeOutcome {
    /// The 101 was written.
    Accepted,
    /// The request breaks a rule.
    Refused(Refusal),
    /// The request is valid and the shard has no slot: 503. Also a connection that was closed without an answer
    /// because there was no descriptor for one.
    Unavailable(NoSlot),
    /// The client closed the connection before it sent a byte, like a port check.
    ClosedSilently,
    /// The client closed the connection, or its socket failed, before the end of the handshake.
    ClientLeft,
    /// The client did not read the 101 within the time limit.
    AnswerTimeout,
    /// The worker ended during the handshake.
    Aborted,
}

impl HandshakeOutcome {
    /// The word in logs and metrics.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Refused(refusal) => refusal.code(),
            Self::Unavailable(reason) => reason.as_str(),
            Self::ClosedSilently => "closed_silently",
            Self::ClientLeft => "client_left",
            Self::AnswerTimeout => "answer_timeout",
            Self::Aborted => "aborted",
        }
    }
}
