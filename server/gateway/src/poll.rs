//! Asks every shard for its health, on a thread and runtime of its own, so that load on the tunnels never makes shards
//! look silent, nor the other way round.
//!
//! From the answers it also learns that a shard is gone: its process was replaced, or it has been silent for
//! [`GONE_MS`] on both ports. Then the tunnels it left behind are ended.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::{HeaderName, HeaderValue};
use rand::RngExt as _;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use wscluster_admin::GATEWAY_HEADER;
use wscluster_admin::client::AdminClient;
use wscluster_admin::health::ShardHealth;
use wscluster_routing::backend::{Backend, GONE_MS, ShardId};
use wscluster_runtime::critical_task::{critical, spawn_critical};
use wscluster_runtime::sockets::is_shortage;

use super::state::{Gateway, Order, Stage};

/// Between two polls of one shard, give or take a fifth so that gateways do not poll in step.
const EVERY: Duration = Duration::from_millis(500);
/// The same while clients wait for a slot.
const EVERY_IN_NEED: Duration = Duration::from_millis(100);
/// For one poll, with connecting.
const TIMEOUT: Duration = Duration::from_secs(1);
/// Polls in a row that must have failed before a shard counts as silent.
const FAILED_POLLS: u32 = 5;
/// The most of an answer that is read.
const MAX_BODY: usize = 64 << 10;

/// Starts polling; ends with the process.
pub fn start(gateway: Arc<Gateway>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    spawn_critical("poll", gateway.failing(), move || runtime.block_on(run(gateway)))?;
    Ok(())
}

/// Polls until the gateway closes, following changes of the table.
pub async fn run(gateway: Arc<Gateway>) {
    let mut client = AdminClient::new(TIMEOUT).max_body(MAX_BODY);
    if let Ok(incarnation) = HeaderValue::from_str(&gateway.incarnation) {
        client = client.header(HeaderName::from_static(GATEWAY_HEADER), incarnation);
    }
    let mut polled: HashMap<ShardId, JoinHandle<()>> = HashMap::new();
    while gateway.stage() < Stage::Closing {
        let shards = gateway.table.shards();
        polled.retain(|id, poller| {
            let stays = shards.iter().any(|shard| shard.id() == *id);
            if !stays {
                poller.abort();
            }
            stays
        });
        for shard in shards.iter() {
            polled.entry(shard.id()).or_insert_with(|| {
                let polling = follow(Arc::clone(&gateway), Arc::clone(shard), client.clone());
                tokio::spawn(critical(gateway.failing(), polling))
            });
        }
        // A penalty may have run out since somebody began to wait.
        gateway.offer_slots();
        pause(&gateway).await;
    }
}

/// Until the next poll is due: after [`EVERY`], or [`EVERY_IN_NEED`] if somebody waits.
async fn pause(gateway: &Gateway) {
    let share = rand::rng().random_range(0.8..1.2);
    let soonest = Instant::now() + EVERY_IN_NEED.mul_f64(share);
    // Before the look, so that nobody who comes in between is missed.
    let needed = gateway.queue.needed();
    if gateway.queue.is_empty() {
        let _ = tokio::time::timeout(EVERY.mul_f64(share), needed).await;
    }
    // Over already, where nobody came.
    tokio::time::sleep_until(soonest).await;
}

/// Polls one shard for as long as it is in the table.
async fn follow(gateway: Arc<Gateway>, shard: Arc<Backend>, client: AdminClient) {
    let mut silence = Silence::default();
    loop {
        match client.health(shard.member().admin).await {
            Ok(health) => heard(&gateway, &shard, health, &mut silence),
            // This gateway lacks descriptors: that says nothing about the shard.
            Err(error) if error.io_error().is_some_and(is_shortage) => silence.failed = 0,
            Err(error) => {
                silence.failed += 1;
                tracing::debug!(shard = shard.member().name, %error, "health poll failed");
            }
        }
        silence.check(&gateway, &shard);
        pause(&gateway).await;
    }
}

fn heard(gateway: &Gateway, shard: &Backend, health: ShardHealth, silence: &mut Silence) {
    let before_ms = silence.last_poll_ms;
    let now_ms = gateway.table.now_ms();
    let first = shard.health().is_none();
    let incarnation = health.incarnation.clone();
    let replaced = shard.polled(health, now_ms);
    if first {
        tracing::info!(shard = shard.member().name, incarnation, "shard heard for the first time");
    }
    // What a shard may hold changes with its process only.
    if (first || replaced.is_some())
        && let Some((tunnels, capacity)) = gateway.is_short()
    {
        tracing::warn!(
            open_files_limit = gateway.fds.limit(),
            tunnels,
            capacity,
            "fewer tunnels may be open than the shards hold, and each takes two files: raise the limit (ulimit -n, \
             LimitNOFILE), or run more gateways"
        );
    }
    if let Some(old) = replaced {
        tracing::warn!(shard = shard.member().name, old, new = incarnation, "shard was replaced");
        // What was opened after the last poll may belong to the new one.
        gateway.order(&Order::EndTunnels(shard.id(), before_ms));
    }
    (silence.last_poll_ms, silence.failed) = (now_ms, 0);
    gateway.offer_slots();
}

/// Watches for a shard that says nothing at all any more, as after a lost node or a SIGSTOP.
#[derive(Default)]
struct Silence {
    last_poll_ms: u64,
    /// Polls in a row that failed.
    failed: u32,
    /// Bytes that came from it, and when that number last changed.
    received: u64,
    changed_ms: u64,
    ended: bool,
}

impl Silence {
    /// Health polls and tunnels must both be silent: a shard whose admin port alone is stuck keeps its clients.
    fn check(&mut self, gateway: &Gateway, shard: &Backend) {
        let now_ms = gateway.table.now_ms();
        let received = shard.relayed().1;
        if received != self.received {
            (self.received, self.changed_ms) = (received, now_ms);
        }
        let last_ms = shard.heard_ms().max(self.changed_ms);
        // The clock alone may lie: this process may have been stopped itself.
        let is_gone = last_ms > 0 && self.failed >= FAILED_POLLS && now_ms.saturating_sub(last_ms) > GONE_MS;
        if is_gone {
            // Again at each poll: a handshake may have ended in between.
            gateway.order(&Order::EndTunnels(shard.id(), now_ms + 1));
        }
        if is_gone != std::mem::replace(&mut self.ended, is_gone) {
            let shard = shard.member().name.as_str();
            if is_gone {
                tracing::warn!(shard, silent_ms = now_ms - last_ms, "shard is unreachable, ending its tunnels");
            } else {
                tracing::info!(shard, "shard is back");
            }
        }
    }
}

#[cfg(test)]
mod tests;
