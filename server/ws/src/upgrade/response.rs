//! Parses answers to an upgrade, with the checks that RFC 6455 §4.1 requires of clients; a gateway makes them for its
//! clients. Only the client can check whether it offered the chosen subprotocol and extensions.

use std::mem::MaybeUninit;

use super::request::{has_bare_lf, lines};
use super::{HeadLimits, Headers};

/// An answer to an upgrade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer<'b> {
    /// A valid 101, which frames follow.
    Upgraded(Head<'b>),
    /// Another status: an HTTP answer whose body may follow.
    Refused(Head<'b>),
}

/// The head of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head<'b> {
    /// Bytes of the head.
    pub len: usize,
    /// HTTP status.
    pub status: u16,
    /// Reason phrase as sent; empty if there is none in ASCII.
    pub reason: &'b str,
    /// Every field.
    pub headers: Headers<'b>,
}

/// Why an answer is unusable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum AnswerError {
    /// The bytes are not an HTTP/1.1 head.
    #[error("failed to read the answer: {0}")]
    Malformed(&'static str),
    /// The head is above the limits.
    #[error("failed to read the answer: its head is above {max_bytes} bytes or {max_headers} fields")]
    TooLarge {
        /// The limit of bytes.
        max_bytes: usize,
        /// The limit of fields.
        max_headers: usize,
    },
    /// `Upgrade` is not exactly `websocket`.
    #[error("failed to upgrade: the 101 has no Upgrade: websocket")]
    Upgrade,
    /// `Connection` does not list `upgrade`.
    #[error("failed to upgrade: the 101 has no Connection: Upgrade")]
    Connection,
    /// `Sec-WebSocket-Accept` is missing, repeated or wrong.
    #[error("failed to upgrade: the 101 has a wrong Sec-WebSocket-Accept")]
    Accept,
    /// An unexpected status below 200 other than 101.
    #[error("failed to upgrade: unexpected interim answer")]
    Interim,
}

impl AnswerError {
    /// The word for metric labels.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed_answer",
            Self::TooLarge { .. } => "answer_too_large",
            Self::Upgrade => "bad_upgrade",
            Self::Connection => "bad_connection",
            Self::Accept => "bad_accept_key",
            Self::Interim => "interim_answer",
        }
    }
}

/// Parses the answer to an upgrade whose `Sec-WebSocket-Accept` must be `accept` (see [`super::accept_key`]); `None`
/// while the head is incomplete.
pub fn parse_response<'b>(buf: &'b [u8], limits: HeadLimits, accept: &str) -> Result<Option<Answer<'b>>, AnswerError> {
    let too_large = AnswerError::TooLarge { max_bytes: limits.max_bytes, max_headers: limits.headers() };
    let window = &buf[..buf.len().min(limits.max_bytes)];
    let mut space = [const { MaybeUninit::uninit() }; HeadLimits::MOST_HEADERS];
    let mut response = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut response,
        window,
        &mut space[..limits.headers()],
    );
    let len = match parsed {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) if buf.len() >= limits.max_bytes => return Err(too_large),
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(too_large),
        Err(_) => return Err(AnswerError::Malformed("it is not HTTP/1.1")),
    };
    let head = &window[..len];
    if has_bare_lf(head) {
        return Err(AnswerError::Malformed("a line ends without CR"));
    }
    let status = response.code.unwrap_or_default();
    let answer = Head { len, status, reason: response.reason.unwrap_or_default(), headers: Headers::new(lines(head)) };
    match status {
        101 if response.version == Some(1) => check(&answer.headers, accept).map(|()| Some(Answer::Upgraded(answer))),
        101 => Err(AnswerError::Malformed("a 101 needs HTTP/1.1")),
        200..=999 => Ok(Some(Answer::Refused(answer))),
        _ => Err(AnswerError::Interim),
    }
}

fn check(headers: &Headers<'_>, accept: &str) -> Result<(), AnswerError> {
    let (mut upgrade, mut connection, mut accepted) = (0, false, 0);
    for header in headers.iter() {
        if header.is("Upgrade") {
            if !header.value.eq_ignore_ascii_case(b"websocket") {
                return Err(AnswerError::Upgrade);
            }
            upgrade += 1;
        } else if header.is("Connection") {
            connection |= super::list(header.value).any(|token| token.eq_ignore_ascii_case("upgrade"));
        } else if header.is("Sec-WebSocket-Accept") {
            if header.value != accept.as_bytes() {
                return Err(AnswerError::Accept);
            }
            accepted += 1;
        }
    }
    match (upgrade, connection, accepted) {
        (1, true, 1) => Ok(()),
        (1, true, _) => Err(AnswerError::Accept),
        (1, false, _) => Err(AnswerError::Connection),
        _ => Err(AnswerError::Upgrade),
    }
}
