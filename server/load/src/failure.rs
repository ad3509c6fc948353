//! Every way in which a connection can fail, each with its own name. The names are part of the JSON result and
//! documented in `docs/load.md`. There is no catch-all such as "bad handshake".

use std::fmt;
use std::io;

use wscluster_client::Retry;
use wscluster_client::handshake::{HandshakeError, Stage};

/// The phase in which a connection failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The TCP connection.
    Connect,
    /// The upgrade was sent and nothing was received.
    FirstByte,
    /// Part of the answer was received.
    Head,
    /// After the 101, before the subscription was acknowledged.
    Subscribe,
    /// After the 101, within the settle time.
    Settle,
    /// After the settle time.
    Hold,
}

impl Phase {
    const fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::FirstByte => "first_byte",
            Self::Head => "head",
            Self::Subscribe => "subscribe",
            Self::Settle => "settle",
            Self::Hold => "hold",
        }
    }
}

/// Why a connection failed or was lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// No process listens at the address.
    Refused,
    /// No route to the address.
    Unreachable,
    /// This machine has no local port left for the target.
    NoLocalPort,
    /// This process has no file descriptor left.
    NoFileDescriptor,
    /// The peer reset the connection.
    Reset(Phase),
    /// The peer ended the connection without an answer, or without a Close frame.
    Eof(Phase),
    /// The time limit was reached.
    Timeout(Phase),
    /// Another error of the socket.
    Io(Phase, String),
    /// An answer other than 101, with its `X-Wscluster-Reason`.
    Http {
        /// Status code.
        status: u16,
        /// The reason header as it was sent.
        reason: Option<String>,
        /// When to reconnect.
        retry: Retry,
    },
    /// 101 with a wrong or no `Sec-WebSocket-Accept`.
    BadAcceptKey,
    /// 101 without `Upgrade: websocket` or `Connection: upgrade`, or with an extension or protocol that was not
    /// offered.
    BadUpgradeHeader,
    /// The answer is not an HTTP response head, or its head is too long.
    NotHttp,
    /// The server violated RFC 6455.
    Protocol(Phase),
    /// The server sent a Close frame first.
    Close(Phase, Option<u16>, Retry),
    /// The subscription was rejected with this code.
    SubscribeRejected(String),
}

impl Failure {
    /// The failure for `error` of a socket in `phase`.
    pub(super) fn of_io(error: &io::Error, phase: Phase) -> Self {
        use io::ErrorKind as Kind;
        match error.kind() {
            Kind::ConnectionRefused if phase == Phase::Connect => Self::Refused,
            Kind::HostUnreachable | Kind::NetworkUnreachable | Kind::NetworkDown => Self::Unreachable,
            Kind::AddrNotAvailable | Kind::AddrInUse => Self::NoLocalPort,
            Kind::ConnectionReset | Kind::ConnectionAborted | Kind::BrokenPipe => Self::Reset(phase),
            Kind::UnexpectedEof | Kind::WriteZero => Self::Eof(phase),
            Kind::TimedOut => Self::Timeout(phase),
            _ => match error.raw_os_error() {
                // EMFILE, ENFILE
                Some(23 | 24) => Self::NoFileDescriptor,
                code => Self::Io(phase, code.map_or_else(|| "error".to_owned(), |code| format!("errno_{code}"))),
            },
        }
    }

    /// When to reconnect.
    pub(super) fn retry(&self) -> Retry {
        match self {
            Self::Http { retry, .. } | Self::Close(_, _, retry) => *retry,
            _ => Retry::JITTER,
        }
    }
}

impl From<Stage> for Phase {
    fn from(stage: Stage) -> Self {
        match stage {
            Stage::Connect => Self::Connect,
            Stage::FirstByte => Self::FirstByte,
            Stage::Head => Self::Head,
        }
    }
}

impl From<HandshakeError> for Failure {
    fn from(error: HandshakeError) -> Self {
        match error {
            HandshakeError::Io(stage, error) => Self::of_io(&error, stage.into()),
            HandshakeError::Ended(stage) => Self::Eof(stage.into()),
            HandshakeError::Timeout(stage, _) => Self::Timeout(stage.into()),
            HandshakeError::Refused(refusal) => {
                let retry = refusal.retry();
                Self::Http { status: refusal.status, reason: refusal.reason, retry }
            }
            HandshakeError::AcceptKey => Self::BadAcceptKey,
            HandshakeError::UpgradeHeader | HandshakeError::Subprotocol => Self::BadUpgradeHeader,
            HandshakeError::NotHttp => Self::NotHttp,
        }
    }
}

impl fmt::Display for Failure {
    /// The name under which the failure is counted: `[a-z0-9_]+`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("refused"),
            Self::Unreachable => f.write_str("unreachable"),
            Self::NoLocalPort => f.write_str("no_local_port"),
            Self::NoFileDescriptor => f.write_str("no_file_descriptor"),
            Self::Reset(phase) => write!(f, "reset_in_{}", phase.name()),
            Self::Eof(phase) => write!(f, "eof_in_{}", phase.name()),
            Self::Timeout(phase) => write!(f, "timeout_in_{}", phase.name()),
            Self::Io(phase, what) => write!(f, "{what}_in_{}", phase.name()),
            Self::Http { status, reason: Some(reason), .. } => write!(f, "http_{status}_{}", word(reason)),
            Self::Http { status, reason: None, .. } => write!(f, "http_{status}"),
            Self::BadAcceptKey => f.write_str("bad_accept_key"),
            Self::BadUpgradeHeader => f.write_str("bad_upgrade_header"),
            Self::NotHttp => f.write_str("not_http"),
            Self::Protocol(phase) => write!(f, "protocol_violation_in_{}", phase.name()),
            Self::Close(phase, Some(code), _) => write!(f, "close_{code}_in_{}", phase.name()),
            Self::Close(phase, None, _) => write!(f, "close_without_code_in_{}", phase.name()),
            Self::SubscribeRejected(code) => write!(f, "subscribe_rejected_{}", word(code)),
        }
    }
}

/// Turns `text` from a peer into a part of a name: lower case, `[a-z0-9_]`, at most 32 characters.
pub(super) fn word(text: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    text.chars().take(32).map(safe).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_whatever_a_peer_says() {
        let reason = Some("No Capacity!\n{}ä".to_owned());
        let failure = Failure::Http { status: 503, reason, retry: Retry::JITTER };
        assert_eq!(failure.to_string(), "http_503_no_capacity_____");
        assert_eq!(Failure::SubscribeRejected("x".repeat(500)).to_string().len(), 19 + 32);
    }

    #[test]
    fn tells_refused_from_reset() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        assert_eq!(Failure::of_io(&refused, Phase::Connect).to_string(), "refused");
        assert_eq!(Failure::of_io(&reset, Phase::FirstByte).to_string(), "reset_in_first_byte");
        assert_eq!(Failure::of_io(&io::Error::from_raw_os_error(24), Phase::Connect).to_string(), "no_file_descriptor");
    }
}
