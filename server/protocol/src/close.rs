//! The table of close codes: what each code means, what the client should do, and when it may reconnect.
//!
//! This is the only list. The shard, the gateway, the metric labels and our clients use it, and a test compares it
//! with the table in `docs/protocol.md`. To add a code, add a variant with its number, add its row to
//! [`CloseCode::ALL`] and [`CloseCode::entry`], and copy the new row to the page.

use std::time::Duration;

use wscluster_ws::close as rfc6455;

/// Why a connection is closed (RFC 6455 §7.4 and our own range from 4100).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum CloseCode {
    /// The purpose of the connection is fulfilled.
    Normal = rfc6455::NORMAL,
    /// The process ends without a drain.
    GoingAway = 1001,
    /// The peer violated RFC 6455.
    Protocol = rfc6455::PROTOCOL_ERROR,
    /// The peer sent a kind of data that the endpoint does not accept.
    Unsupported = 1003,
    /// The peer sent a text message that is not UTF-8.
    InvalidPayload = rfc6455::INVALID_PAYLOAD,
    /// The peer violated a rule that has no code of its own.
    Policy = 1008,
    /// The peer sent a message above the size limit.
    TooBig = rfc6455::MESSAGE_TOO_BIG,
    /// The service failed.
    Internal = 1011,
    /// The shard or its gateway is drained; the reason holds a hint, see [`retry_after`].
    Restart = 1012,
    /// The service is overloaded; the reason holds a hint, see [`retry_after`].
    TryAgainLater = 1013,
    /// The client reads more slowly than its messages arrive.
    SlowClient = 4100,
    /// The client asked for more subscriptions than allowed.
    TooManySubscriptions = 4101,
}

/// When a client may reconnect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Advice {
    /// Without a delay.
    AtOnce,
    /// After a random delay whose bound doubles with each failure.
    Jitter,
    /// After the delay in the close reason ([`retry_after`]); as [`Advice::Jitter`] where the reason has none.
    AfterHint,
    /// After a long delay: the client itself is the cause, so the first delay is drawn from the long end of the
    /// jitter.
    BackOff,
    /// The same request would be refused again.
    Never,
}

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Short name for logs and reports.
    pub name: &'static str,
    /// When the code is sent.
    pub meaning: &'static str,
    /// When the client may reconnect.
    pub advice: Advice,
    /// What else the client should do; may be empty.
    pub remedy: &'static str,
}

impl CloseCode {
    /// Every code that the service sends, in ascending order.
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

    /// The row of this code.
    pub const fn entry(self) -> Entry {
        let (name, meaning, advice, remedy) = match self {
            Self::Normal => ("normal", "Normal end.", Advice::Jitter, ""),
            Self::GoingAway => ("going_away", "The process is ending.", Advice::Jitter, ""),
            Self::Protocol => ("protocol", "The client violated RFC 6455.", Advice::Jitter, "Fix the client."),
            Self::Unsupported => ("unsupported", "A binary frame on `/ws`.", Advice::Jitter, "Send text."),
            Self::InvalidPayload => ("invalid_payload", "Text that is not UTF-8.", Advice::Jitter, "Fix the client."),
            Self::Policy => ("policy", "Another rule was violated.", Advice::Jitter, "Read the reason."),
            Self::TooBig => ("too_big", "A message exceeds the size limit.", Advice::Jitter, "Send smaller messages."),
            Self::Internal => ("internal", "An internal error.", Advice::Jitter, ""),
            Self::Restart => (
                "restart",
                "The shard, or the gateway in front of it, is draining ([drain.md](drain.md)). \
                 Reason: `{\"retry_after_ms\":n}`, with a different `n` for each client.",
                Advice::AfterHint,
                "Resubscribe with positions.",
            ),
            Self::TryAgainLater => {
                ("try_again_later", "Overload. Reason as for 1012.", Advice::AfterHint, "Resubscribe with positions.")
            }
            Self::SlowClient => (
                "slow_client",
                "The client reads more slowly than its messages arrive.",
                Advice::BackOff,
                "Resubscribe to fewer channels, with the last positions.",
            ),
            Self::TooManySubscriptions => (
                "too_many_subscriptions",
                "More subscriptions than allowed.",
                Advice::BackOff,
                "Subscribe to fewer channels.",
            ),
        };
        Entry { name, meaning, advice, remedy }
    }

    /// The number on the wire.
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// The code with this number; `None` where it is not in the table.
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.number() == number)
    }
}

impl Advice {
    /// The advice of a Close frame with this code, or of a connection that ended without one (`None`). Codes that are
    /// not in the table follow the ranges of `docs/protocol.md`, so that clients understand codes of a newer service.
    pub fn of_close(code: Option<u16>) -> Self {
        let Some(number) = code else { return Self::Jitter };
        match CloseCode::from_number(number) {
            Some(code) => code.entry().advice,
            None => match number {
                4000..=4099 => Self::Never,
                4100..=4199 => Self::BackOff,
                4200..=4299 => Self::AtOnce,
                _ => Self::Jitter,
            },
        }
    }

    /// The advice as the page for client authors words it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AtOnce => "At once.",
            Self::Jitter => "With jitter.",
            Self::AfterHint => "After `n` ms.",
            Self::BackOff => "After a long back-off.",
            Self::Never => "Never.",
        }
    }
}

/// The delay in a close reason or in the body of a 503, `{"retry_after_ms":n}`; `None` where there is none.
pub fn retry_after(json: &str) -> Option<Duration> {
    #[derive(serde::Deserialize)]
    struct Hint {
        retry_after_ms: u64,
    }
    serde_json::from_str(json).ok().map(|Hint { retry_after_ms }| Duration::from_millis(retry_after_ms))
}

/// The value of the metric label `code` for a connection that ended with `number`. Codes above 2999 that are not in
/// the table count as `3000` or `4999`: applications choose them freely, so a label for each would be unbounded.
pub fn metric_label(number: u16) -> u16 {
    match number {
        _ if CloseCode::from_number(number).is_some() => number,
        0..3000 => number,
        3000..4000 => 3000,
        _ => 4999,
    }
}

#[cfg(test)]
mod tests {
    use wscluster_ws::close::is_sendable;

    use super::*;

    /// The table as `docs/protocol.md` shows it.
    fn page() -> String {
        let row = |code: CloseCode| {
            let Entry { meaning, advice, remedy, .. } = code.entry();
            format!("| {} | {meaning} | {} | {remedy} |\n", code.number(), advice.as_str()).replace("|  |", "| |")
        };
        let head = "| Code | When | Reconnect | What else the client should do |\n|---|---|---|---|\n";
        CloseCode::ALL.into_iter().map(row).fold(head.to_owned(), |page, row| page + &row)
    }

    #[test]
    fn is_the_table_of_the_docs() {
        let docs = include_str!("../../../docs/protocol.md");
        let section = docs.split("## Close codes").nth(1).unwrap().split("\n## ").next().unwrap();
        let table: String = section.split_inclusive('\n').filter(|line| line.starts_with('|')).collect();
        assert_eq!(table, page(), "copy this table to docs/protocol.md:\n{}", page());
    }

    #[test]
    fn every_code_may_be_sent() {
        assert!(CloseCode::ALL.iter().all(|code| is_sendable(code.number())));
    }

    #[test]
    fn codes_above_4000_follow_their_range() {
        for code in CloseCode::ALL.into_iter().filter(|code| code.number() >= 4000) {
            let range = code.number() / 100 * 100;
            assert_eq!(Advice::of_close(Some(range + 99)), code.entry().advice, "{code:?}");
        }
        for (number, advice) in [
            (4000, Advice::Never),
            (4099, Advice::Never),
            (4100, Advice::BackOff),
            (4200, Advice::AtOnce),
            (4300, Advice::Jitter),
            (1012, Advice::AfterHint),
            (1001, Advice::Jitter),
        ] {
            assert_eq!(Advice::of_close(Some(number)), advice, "{number}");
        }
        assert_eq!(Advice::of_close(None), Advice::Jitter);
    }

    #[test]
    fn reads_the_delay_of_a_reason() {
        assert_eq!(retry_after(r#"{"retry_after_ms":250}"#), Some(Duration::from_millis(250)));
        assert_eq!(retry_after(r#"{"error":"unavailable","retry_after_ms":7}"#), Some(Duration::from_millis(7)));
        for reason in ["", "bye", "{}", r#"{"retry_after_ms":-1}"#, r#"{"retry_after_ms":"5"}"#] {
            assert_eq!(retry_after(reason), None, "{reason}");
        }
    }

    #[test]
    fn metric_labels_are_bounded() {
        let labels: std::collections::HashSet<u16> = (3000..=u16::MAX).map(metric_label).collect();
        assert_eq!(labels, [3000, 4100, 4101, 4999].into());
        assert_eq!([1000, 1005, 1006].map(metric_label), [1000, 1005, 1006]);
    }
}
