//! What the tester sees while it runs, second by second, and whether all is well.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::{Instant, sleep};
use wscluster::admin::client;

use crate::bail;
use crate::error::{Doing as _, Result};
use crate::local::Local;

/// Watches one run.
#[derive(Debug)]
pub(super) struct Watch<'a> {
    log: &'a Path,
    local: &'a Local,
}

/// What all clients together have seen so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Seen {
    /// Connections lost.
    pub(super) dropped: u64,
    /// Of them, those back.
    pub(super) reconnected: u64,
    /// Records received.
    pub(super) received: u64,
    /// Deliveries before which something is missing that never came later.
    pub(super) holes: u64,
    /// Deliveries that came twice.
    pub(super) duplicated: u64,
    /// Deliveries that came after a later one.
    pub(super) reordered: u64,
    /// Channels told `recovered: false`, and `gap` messages.
    pub(super) unrecovered: u64,
    live: u64,
}

#[derive(Deserialize)]
struct Line {
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
            dropped: number(&clients["dropped"]),
            reconnected: number(&clients["reconnected"]),
            received: number(&line.messages["deliveries"]),
            holes: gaps.saturating_sub(number(&audit["reordered"])),
            duplicated: number(&audit["duplicated"]),
            reordered: number(&audit["reordered"]),
            unrecovered: number(&audit["unrecovered"]) + number(&audit["server_gaps"]),
            live: number(&clients["live"]),
        })
    }

    /// What came since `earlier`.
    #[must_use]
    pub(super) fn since(&self, earlier: &Self) -> Self {
        Self {
            dropped: self.dropped - earlier.dropped,
            reconnected: self.reconnected - earlier.reconnected,
            received: self.received - earlier.received,
            holes: self.holes.saturating_sub(earlier.holes),
            duplicated: self.duplicated - earlier.duplicated,
            reordered: self.reordered - earlier.reordered,
            unrecovered: self.unrecovered - earlier.unrecovered,
            live: self.live,
        }
    }
}

impl<'a> Watch<'a> {
    /// Of the tester that writes its progress to `log`, and of `local`.
    pub(super) fn of(log: &'a Path, local: &'a Local) -> Self {
        Self { log, local }
    }

    /// The last thing the tester said.
    pub(super) fn seen(&self) -> Result<Seen> {
        let text = std::fs::read_to_string(self.log).doing(format!("read {}", self.log.display()))?;
        Ok(text.lines().rev().find_map(Seen::read).unwrap_or_default())
    }

    /// Waits until every client is connected, and every shard and gateway is ready and has read what there is.
    pub(super) async fn until_well(&self, clients: u32, within: Duration) -> Result<()> {
        let deadline = Instant::now() + within;
        // What the tester says may be a second old, so that it must hold for longer than that.
        let mut well_since = None;
        loop {
            let trouble = match self.seen()?.live {
                live if live == u64::from(clients) => self.trouble().await,
                live => Some(format!("{live} of {clients} clients are connected")),
            };
            match trouble {
                None if well_since.get_or_insert_with(Instant::now).elapsed() > Duration::from_millis(1_500) => {
                    return Ok(());
                }
                None => {}
                Some(trouble) => {
                    well_since = None;
                    if Instant::now() > deadline {
                        bail!("not well again after {within:?}: {trouble}; see {}", self.log.display());
                    }
                }
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// What is not as it should be.
    async fn trouble(&self) -> Option<String> {
        for shard in &self.local.ready.shards {
            let health = client::get_json(&shard.admin.to_string(), "/health", Duration::from_secs(1)).await;
            let kafka = match &health {
                Ok(health) => &health["checks"]["kafka"],
                Err(error) => return Some(format!("{}: {error}", shard.name)),
            };
            // A second of records may be under way.
            if kafka["status"] != "connected" || kafka["lag"].as_u64().is_none_or(|lag| lag > 2_000) {
                return Some(format!("{}: Kafka is {kafka}", shard.name));
            }
        }
        for gateway in &self.local.ready.gateways {
            let answer = client::get(&gateway.admin.to_string(), "/readyz", Duration::from_secs(1)).await;
            if !answer.is_ok_and(|(status, _)| status.is_success()) {
                return Some(format!("the gateway at {} is not ready", gateway.admin));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_a_hole_that_was_filled_late_as_reordered_only() {
        let line = r#"{"clients":{"live":2,"dropped":1},"messages":{"deliveries":9},"audit":{"gaps":3,"reordered":2}}"#;
        let seen = Seen::read(line).unwrap();
        assert_eq!((seen.live, seen.dropped, seen.received, seen.holes, seen.reordered), (2, 1, 9, 1, 2));
        assert_eq!(Seen::read("WARN something else"), None);
        assert_eq!(seen.since(&seen), Seen { live: 2, ..Seen::default() });
    }
}
