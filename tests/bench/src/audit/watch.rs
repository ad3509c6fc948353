//! Waits until all clients and processes have recovered.

use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use wscluster_admin::client::AdminClient;
use wscluster_admin::health::{KafkaStatus, ShardHealth};

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
    /// Watches the tester that writes its progress to `log`, and `local`.
    pub(super) fn of(log: &'a Path, local: &'a Local) -> Self {
        Self { log, local }
    }

    /// Waits until every client is connected, and every shard and gateway is ready and has read every record.
    pub(super) async fn until_well(&self, clients: u32, within: Duration) -> Result<()> {
        let deadline = Instant::now() + within;
        // The tester reports once a second, so the condition must hold for longer than that.
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

    /// What has not recovered yet.
    async fn trouble(&self) -> Option<String> {
        let admin = AdminClient::new(Duration::from_secs(1));
        for shard in &self.local.ready.shards {
            let kafka = match admin.health::<ShardHealth>(&shard.admin).await {
                Ok(health) => health.checks.kafka,
                Err(error) => return Some(format!("{}: {error}", shard.name)),
            };
            // Records of one second may be in flight.
            if kafka.status != KafkaStatus::Connected || kafka.lag > 2_000 {
                return Some(format!("{}: Kafka is {}, lag {}", shard.name, kafka.status, kafka.lag));
            }
        }
        for gateway in &self.local.ready.gateways {
            let answer = admin.get(&gateway.admin, "/readyz").await;
            if !answer.is_ok_and(|(status, _)| status.is_success()) {
                return Some(format!("the gateway at {} is not ready", gateway.admin));
            }
        }
        None
    }
}
