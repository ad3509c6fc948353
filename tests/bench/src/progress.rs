//! Reads the progress of the tester (`--progress json`): one line per second.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Doing as _, Result};

/// Counters of all clients so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Seen {
    /// Seconds since the start of the run.
    pub seconds: f64,
    /// Connections lost.
    pub dropped: u64,
    /// Lost clients that reconnected.
    pub reconnected: u64,
    /// Records received.
    pub received: u64,
    /// Holes that no late message filled.
    pub holes: u64,
    /// Deliveries received twice.
    pub duplicated: u64,
    /// Deliveries received after a later one.
    pub reordered: u64,
    /// Channels resumed with `recovered: false`, and `gap` messages.
    pub unrecovered: u64,
    /// Open connections.
    pub live: u64,
    /// Connections that lasted for at least a second.
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

    /// The difference to `earlier`.
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

/// The last progress of the tester with this log.
pub fn last(log: &Path) -> Result<Seen> {
    Ok(text(log)?.lines().rev().find_map(Seen::read).unwrap_or_default())
}

/// All progress of the tester, by second.
pub fn all(log: &Path) -> Result<Vec<Seen>> {
    Ok(text(log)?.lines().filter_map(Seen::read).collect())
}

/// Most connections lost per second, over any period of that many seconds.
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
