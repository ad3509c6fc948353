//! Polls the health of every shard, on its own thread and runtime, so that load on the tunnels does not delay polls
//! and polls do not delay tunnels.
//!
//! A shard is lost if its process was replaced, or if nothing has arrived from it on either port for [`GONE_MS`].
//! Then its tunnels are ended.

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

use super::gateway::Gateway;
use super::stage::Stage;
use super::worker_handle::WorkerCommand;

/// Interval between polls of one shard, varied by a fifth so that gateways do not poll in step.
const EVERY: Duration = Duration::from_millis(500);
/// Interval while clients wait for a slot.
const EVERY_IN_NEED: Duration = Duration::from_millis(100);
/// Time for one poll, with connecting.
const TIMEOUT: Duration = Duration::from_secs(1);
/// Failed polls in a row before a shard counts as silent.
const FAILED_POLLS: u32 = 5;
/// Longest answer.
const MAX_BODY: usize = 64 << 10;

/// Starts the poller; it ends with the process.
pub(crate) fn start(gateway: Arc<Gateway>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    spawn_critical("poll", gateway.failing(), move || runtime.block_on(run(gateway)))?;
    Ok(())
}

/// Polls until the gateway closes, following changes of the table.
pub(crate) async fn run(gateway: Arc<Gateway>) {
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
        // The penalty of a shard may have ended since a client began to wait.
        gateway.offer_slots();
        pause(&gateway).await;
    }
}

/// Waits until the next poll is due: after [`EVERY`], or [`EVERY_IN_NEED`] if clients wait for a slot.
async fn pause(gateway: &Gateway) {
    let share = rand::rng().random_range(0.8..1.2);
    let soonest = Instant::now() + EVERY_IN_NEED.mul_f64(share);
    // Registered before the check, so that a client which arrives in between is not missed.
    let needed = gateway.queue.needed();
    if gateway.queue.is_empty() {
        let _ = tokio::time::timeout(EVERY.mul_f64(share), needed).await;
    }
    // Already past if the timeout above expired.
    tokio::time::sleep_until(soonest).await;
}

/// Polls one shard for as long as it is in the table.
async fn follow(gateway: Arc<Gateway>, shard: Arc<Backend>, client: AdminClient) {
    let mut silence = Silence::default();
    loop {
        match client.health(shard.member().admin).await {
            Ok(health) => answered(&gateway, &shard, health, &mut silence),
            // This gateway lacks descriptors, which is no fault of the shard.
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

fn answered(gateway: &Gateway, shard: &Backend, health: ShardHealth, silence: &mut Silence) {
    let before_ms = silence.last_poll_ms;
    let now_ms = gateway.table.now_ms();
    let first = shard.health().is_none();
    let incarnation = health.incarnation.clone();
    let replaced = shard.polled(health, now_ms);
    if first {
        tracing::info!(shard = shard.member().name, incarnation, "first health answer of a shard");
    }
    // The capacity of a shard changes only with its process.
    if (first || replaced.is_some())
        && let Some((tunnels, capacity)) = gateway.first_shortage()
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
        // Tunnels opened after the last poll may belong to the new process.
        gateway.command_all(&WorkerCommand::EndTunnels(shard.id(), before_ms));
    }
    (silence.last_poll_ms, silence.failed) = (now_ms, 0);
    gateway.offer_slots();
}

/// Detects a shard that sends nothing any more, as after the loss of its node or a SIGSTOP.
#[derive(Default)]
struct Silence {
    last_poll_ms: u64,
    /// Failed polls in a row.
    failed: u32,
    /// Bytes received from it, and when that number last changed.
    received: u64,
    changed_ms: u64,
    ended: bool,
}

impl Silence {
    /// Both ports must be silent: a shard whose admin port alone hangs keeps its clients.
    fn check(&mut self, gateway: &Gateway, shard: &Backend) {
        let now_ms = gateway.table.now_ms();
        let received = shard.relayed().1;
        if received != self.received {
            (self.received, self.changed_ms) = (received, now_ms);
        }
        let last_ms = shard.heard_ms().max(self.changed_ms);
        // Failed polls count too: the clock also advances while this process is stopped.
        let is_gone = last_ms > 0 && self.failed >= FAILED_POLLS && now_ms.saturating_sub(last_ms) > GONE_MS;
        if is_gone {
            // Repeated at each poll: a handshake may have opened a tunnel in between.
            gateway.command_all(&WorkerCommand::EndTunnels(shard.id(), now_ms + 1));
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
