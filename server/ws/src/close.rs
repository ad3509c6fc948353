//! Close codes: what a client should do next. This enum is the one list; `docs/protocol.md` explains it.

/// Why a connection is closed (RFC 6455 §7.4 and our own range).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum CloseCode {
    /// Done.
    Normal = 1000,
    /// The process ends.
    GoingAway = 1001,
    /// The peer broke the protocol.
    Protocol = 1002,
    /// A kind of data that is not taken.
    Unsupported = 1003,
    /// Text that is not UTF-8.
    InvalidPayload = 1007,
    /// A rule of ours was broken.
    Policy = 1008,
    /// A message above the limit.
    TooBig = 1009,
    /// A fault of ours.
    Internal = 1011,
    /// This shard is being drained: come back after the hint in the reason.
    Restart = 1012,
    /// Too much load: come back after the hint in the reason.
    TryAgainLater = 1013,
    /// Slower than the messages: back off, then come back with the last position.
    SlowClient = 4100,
    /// More subscriptions than allowed: back off.
    TooManySubscriptions = 4101,
}

impl CloseCode {
    /// Every code that we send.
    pub const ALL: [Self; 12] = [
        Self::Normal,
        Self::GoingAway,
        Self::Protocol,
        Self::Unsupported,
        Self::InvalidPayload,
        Self::Policy,
        Self::TooBig,
        Self::Internal,
        Self::Restart,
        Self::TryAgainLater,
        Self::SlowClient,
        Self::TooManySubscriptions,
    ];

    /// The number on the wire.
    pub const fn number(self) -> u16 {
        self as u16
    }
}

/// Whether a peer may send `code` in a Close frame (RFC 6455 §7.4.1, §7.4.2 and the IANA registry).
pub const fn is_sendable(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_the_table_of_the_docs() {
        let docs = include_str!("../../../docs/protocol.md");
        let table = docs
            .split("## Close codes")
            .nth(1)
            .unwrap()
            .lines()
            .filter_map(|line| line.strip_prefix("| ")?.split(' ').next()?.parse::<u16>().ok());
        assert_eq!(table.collect::<Vec<_>>(), CloseCode::ALL.map(CloseCode::number));
    }

    #[test]
    fn every_code_may_be_sent() {
        assert!(CloseCode::ALL.iter().all(|code| is_sendable(code.number())));
        assert!([0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000].iter().all(|code| !is_sendable(*code)));
    }
}
