//! Samples the health and metrics of an overloaded shard four times a second.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;
use tokio::time::{Instant, interval};
use wscluster_admin::client::AdminClient;
use wscluster_admin::health::{ShardHealth, Status};

use crate::bail;
use crate::error::{Error, Result};
use crate::ours::counter;
use crate::progress;

const EVERY: Duration = Duration::from_millis(250);

/// Time limit for an answer of an overloaded shard.
const ANSWER: Duration = Duration::from_secs(10);

/// One sample.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Sample {
    /// Seconds since the first record.
    pub(super) at: f64,
    /// `checks.kafka.lag`.
    pub(super) lag: u64,
    /// `status`.
    pub(super) status: Status,
    /// `checks.kafka.error`.
    pub(super) error: Option<String>,
    /// Bytes that wait for clients.
    pub(super) waiting: u64,
}

impl Sample {
    /// Whether the health answer states that messages are late.
    pub(super) fn is_late(&self) -> bool {
        self.status == Status::Degraded && self.error.as_ref().is_some_and(|error| error.contains("messages are late"))
    }
}

/// Samples until `over` is set and nothing lags or waits any more, for at most `patience`.
pub(super) async fn until_drained(
    admin: SocketAddr,
    began: Instant,
    over: watch::Receiver<bool>,
    patience: Duration,
) -> Result<Vec<Sample>> {
    let mut ticks = interval(EVERY);
    let mut samples = vec![];
    // The lag is measured once a second, so a single 0 may be old.
    let mut quiet = 0;
    while !*over.borrow() || quiet < 8 {
        ticks.tick().await;
        let sample = ask(admin, began).await?;
        quiet = if sample.lag == 0 && sample.waiting == 0 { quiet + 1 } else { 0 };
        samples.push(sample);
        if began.elapsed() > patience {
            bail!("the shard has not caught up after {patience:?}: {:?}", samples.last());
        }
    }
    Ok(samples)
}

/// Waits until the tester with this log has counted `due` deliveries, or no further one for five seconds. Returns the
/// count.
pub(super) async fn until_delivered(log: &Path, due: u64) -> Result<u64> {
    let (mut delivered, mut since) = (0, Instant::now());
    let mut ticks = interval(EVERY);
    while delivered < due && since.elapsed() < Duration::from_secs(5) {
        ticks.tick().await;
        let now = progress::last(log)?.received;
        if now > delivered {
            (delivered, since) = (now, Instant::now());
        }
    }
    Ok(delivered)
}

async fn ask(admin: SocketAddr, began: Instant) -> Result<Sample> {
    let health = AdminClient::new(ANSWER).health(admin).await;
    let ShardHealth { status, checks, .. } = health.map_err(|error| Error::Unusable(error.to_string()))?;
    Ok(Sample {
        at: began.elapsed().as_secs_f64(),
        lag: checks.kafka.lag,
        status,
        error: checks.kafka.error,
        waiting: counter(admin, "wscluster_shard_client_queue_bytes").await?,
    })
}
