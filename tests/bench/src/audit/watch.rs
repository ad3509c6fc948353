//! Whether all is well.

use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use wscluster_admin::client;

use crate::bail;
use crate::error::Result;
use crate::local::Local;
use crate::progress;

/// Watches one run.
#[derive(Debug)]
pub(super) struct Watch<'a> {
    /// The tester's progress.
    pub(super) log: &'a Path,
    local: &'a Local,
}

impl<'a> Watch<'a> {
    /// Of the tester that writes its progress to `log`, and of `local`.
    pub(super) fn of(log: &'a Path, local: &'a Local) -> Self {
        Self { log, local }
    }

    /// Waits until every client is connected, and every shard and gateway is ready and has read what there is.
    pub(super) async fn until_well(&self, clients: u32, within: Duration) -> Result<()> {
        let deadline = Instant::now() + within;
        // What the tester says may be a second old, so that it must hold for longer than that.
        let mut well_since = None;
        loop {
            let trouble = match progress::last(self.log)?.live {
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
