//! The upgrade of RFC 6455 §4, parsed strictly from raw bytes by shard, gateway and load tester.
//!
//! `httparse` finds the tokens; the rules are here. Ambiguous input is refused, so that a proxy in front of a
//! gateway, the gateway and a shard never read the same bytes differently (RFC 9112 §11.2). The code does no I/O,
//! does not allocate for a valid request and does not panic. The result does not depend on how the bytes were split
//! into reads.

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

/// Maximum size of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes of the first line and all fields, including the empty line.
    pub max_bytes: usize,
    /// Fields; never more than [`HeadLimits::MOST_HEADERS`].
    pub max_headers: usize,
}

impl HeadLimits {
    /// Hard limit of fields: the maximum of the manifest schema, plus the field that a gateway adds. They are parsed on
    /// the stack.
    pub const MOST_HEADERS: usize = 257;

    /// These limits with room for what a gateway adds.
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
