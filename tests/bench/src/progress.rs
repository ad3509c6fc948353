//! What the tester says while it runs (`--progress json`): a line a second.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Doing as _, Result};

/// What all clients together have seen so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Seen {
    /// Since the start of the run.
    pub seconds: f64,
    /// Connections lost.
    pub dropped: u64,
    /// Of them, those back.
    pub reconnected: u64,
    /// Records received.
    pub received: u64,
    /// Deliveries before which something is missing that never came later.
    pub holes: u64,
    /// Deliveries that came twice.
    pub duplicated: u64,
    /// Deliveries that came after a later one.
    pub reordered: u64,
    /// Channels told `recovered: false`, and `gap` messages.
    pub unrecovered: u64,
    /// Connections.
    pub live: u64,
    /// Of them, those that lived through their first second.
    pub settled: u64,
}

#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    seconds: f64,
    clients: Value,
    messages: Value,
    audit: Value,
}

impl Seen {
    fn read(line: &str) -> Option<Self> {
        let line: Line = serde_json::from_str(line).ok()?;
        let number = |value: &Value| value.as_u64().unwrap_or_default();
        let (clients, audit) = (&line.clients, &line.audit);
        let gaps = number(&audit["gaps"]) + number(&audit["wrong_links"]);
        Some(Self {
            seconds: line.seconds,
            dropped: number(&clients["dropped"]),
            reconnected: number(&clients["reconnected"]),
            received: number(&line.messages["deliveries"]),
            holes: gaps.saturating_sub(number(&audit["reordered"])),
            duplicated: number(&audit["duplicated"]),
            reordered: number(&audit["reordered"]),
            unrecovered: number(&audit["unrecovered"]) + number(&audit["server_gaps"]),
            live: number(&clients["live"]),
            settled: number(&clients["settled"]).saturating_sub(number(&clients["dropped"])),
        })
    }

    /// What came since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            dropped: self.dropped - earlier.dropped,
            reconnected: self.reconnected - earlier.reconnected,
            received: self.received - earlier.received,
            holes: self.holes.saturating_sub(earlier.holes),
            duplicated: self.duplicated - earlier.duplicated,
            reordered: self.reordered - earlier.reordered,
            unrecovered: self.unrecovered - earlier.unrecovered,
            ..*self
        }
    }
}

/// The last thing that the tester with this log said.
pub fn last(log: &Path) -> Result<Seen> {
    Ok(text(log)?.lines().rev().find_map(Seen::read).unwrap_or_default())
}

/// All that it said, second by second.
pub fn all(log: &Path) -> Result<Vec<Seen>> {
    Ok(text(log)?.lines().filter_map(Seen::read).collect())
}

/// Most connections that were lost in a second, in any stretch of so many seconds.
pub fn peak(lines: &[Seen], seconds: usize) -> f64 {
    let rate =
        |(before, after): (&Seen, &Seen)| (after.dropped - before.dropped) as f64 / (after.seconds - before.seconds);
    lines.iter().zip(lines.iter().skip(seconds)).map(rate).fold(0.0, f64::max)
}

fn text(log: &Path) -> Result<String> {
    std::fs::read_to_string(log).doing(format!("read {}", log.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_a_hole_that_was_filled_late_as_reordered_only() {
        let line = r#"{"seconds":3.0,"clients":{"live":2,"dropped":1,"settled":3},"messages":{"deliveries":9},"audit":{"gaps":3,"reordered":2}}"#;
        let seen = Seen::read(line).unwrap();
        assert_eq!((seen.live, seen.dropped, seen.received, seen.holes, seen.reordered), (2, 1, 9, 1, 2));
        assert_eq!((seen.settled, seen.seconds), (2, 3.0));
        assert_eq!(Seen::read("WARN something else"), None);
        assert_eq!(seen.since(&seen), Seen { live: 2, settled: 2, seconds: 3.0, ..Seen::default() });
    }

    #[test]
    fn finds_the_second_and_the_stretch_in_which_most_were_lost() {
        let line = |(seconds, dropped)| Seen { seconds, dropped, ..Seen::default() };
        let lines = [(0.0, 0), (1.0, 0), (2.0, 50), (4.0, 50), (5.0, 110), (6.0, 160)].map(line);
        assert!((peak(&lines, 1) - 60.0).abs() < 1e-9);
        assert!((peak(&lines, 3) - 27.5).abs() < 1e-9);
        assert!(peak(&lines[..1], 1).abs() < 1e-9);
    }
}
