//! The upgrade of RFC 6455 §4, read strictly from raw bytes by shard, gateway and load tester.
//!
//! `httparse` finds the tokens; the rules are here: what is ambiguous is refused, so that no proxy before us and no
//! shard behind us can read the same bytes differently (RFC 9112 §11.2). Nothing here does I/O, allocates for a good
//! request, or panics, and how the bytes were cut into reads never changes the result.

mod headers;
mod refusal;
mod request;
mod response;
#[cfg(test)]
mod tests;

pub use headers::{Header, Headers, list};
pub use refusal::{REASON, Refusal, Unavailable};
pub use request::{UpgradeRequest, parse_request};
pub use response::{Answer, AnswerError, Head, parse_response};

/// How large a head may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes of the first line and all fields, with the empty line.
    pub max_bytes: usize,
    /// Fields; [`HeadLimits::MOST_HEADERS`] at most, whatever is asked for.
    pub max_headers: usize,
}

impl HeadLimits {
    /// Fields that are ever looked at: the most that a manifest asks for, and the one that a gateway adds. The space for them is on
    /// the stack.
    pub const MOST_HEADERS: usize = 257;

    /// Those behind a gateway that has these: with room for what it adds.
    #[must_use]
    pub const fn with_room(self, added: Self) -> Self {
        Self {
            max_bytes: self.max_bytes.saturating_add(added.max_bytes),
            max_headers: self.max_headers + added.max_headers,
        }
    }

    const fn headers(self) -> usize {
        if self.max_headers < Self::MOST_HEADERS { self.max_headers } else { Self::MOST_HEADERS }
    }
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self { max_bytes: 16 << 10, max_headers: 100 }
    }
}

/// The `Sec-WebSocket-Accept` that answers `Sec-WebSocket-Key: key` (RFC 6455 §4.2.2): 28 characters.
pub fn accept_key(key: &str) -> String {
    tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.as_bytes())
}
