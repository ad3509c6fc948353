//! What a shard says of itself while it is overloaded, four times a second.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;
use tokio::time::{Instant, interval};
use wscluster_admin::client;

use crate::bail;
use crate::error::{Error, Result};
use crate::ours::counter;
use crate::progress;

const EVERY: Duration = Duration::from_millis(250);

/// How long an overloaded shard may take to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// What it said once.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Sample {
    /// Seconds since the first record.
    pub(super) at: f64,
    /// `checks.kafka.lag`.
    pub(super) lag: u64,
    /// `status`.
    pub(super) status: String,
    /// `checks.kafka.error`.
    pub(super) error: Option<String>,
    /// Bytes that wait for clients.
    pub(super) waiting: u64,
}

impl Sample {
    /// Whether it says that messages are late.
    pub(super) fn is_late(&self) -> bool {
        self.status == "degraded" && self.error.as_ref().is_some_and(|error| error.contains("messages are late"))
    }
}

/// Asks until `over` and nothing is behind nor waits any more, at most for `patience`.
pub(super) async fn until_drained(
    admin: SocketAddr,
    began: Instant,
    over: watch::Receiver<bool>,
    patience: Duration,
) -> Result<Vec<Sample>> {
    let mut ticks = interval(EVERY);
    let mut samples = vec![];
    // Lag is measured once a second: one 0 alone may be old.
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

/// Waits until the tester with this log has counted `due` deliveries, or no further one for five seconds; how many it has.
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
    let health = client::get_json(&admin.to_string(), "/health", ANSWER).await;
    let health = health.map_err(|error| Error::Unusable(error.to_string()))?;
    let kafka = &health["checks"]["kafka"];
    let (Some(lag), Some(status)) = (kafka["lag"].as_u64(), health["status"].as_str()) else {
        bail!("{admin} tells no lag: {health}");
    };
    Ok(Sample {
        at: began.elapsed().as_secs_f64(),
        lag,
        status: status.to_owned(),
        error: kafka["error"].as_str().map(str::to_owned),
        waiting: counter(admin, "wscluster_shard_client_queue_bytes").await?,
    })
}
