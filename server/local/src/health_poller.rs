//! Polls `/health` of every child, and `/metrics` of every shard, and records the answers in the state.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use wscluster_admin::client::AdminClient;

use super::state::{SharedState, with};
use super::traffic::{TrafficCounters, TrafficRates};

/// Time limit of a request.
const TIMEOUT: Duration = Duration::from_secs(1);
/// Pause between two rounds of health polls.
const HEALTH_PAUSE: Duration = Duration::from_millis(250);
/// Least time between two reads of the counters.
const COUNTERS_INTERVAL: Duration = Duration::from_secs(1);

/// Polls all running children once.
async fn poll(state: &SharedState, client: &AdminClient) {
    let (shards, gateways) = with(state, |state| {
        let shards: Vec<_> = state.shards().iter().map(|child| (child.name.clone(), child.pid, child.admin)).collect();
        let gateways: Vec<_> =
            state.gateways().iter().map(|child| (child.name.clone(), child.pid, child.admin)).collect();
        (shards, gateways)
    });
    let shards = shards.into_iter().filter(|(_, pid, _)| pid.is_some()).map(async |(name, pid, admin)| {
        let asked = Instant::now();
        let health = health(client, admin).await;
        with(state, |state| state.shard_answered(&name, pid, asked, health));
    });
    let gateways = gateways.into_iter().filter(|(_, pid, _)| pid.is_some()).map(async |(name, pid, admin)| {
        let asked = Instant::now();
        let health = health(client, admin).await;
        with(state, |state| state.gateway_answered(&name, pid, asked, health));
    });
    tokio::join!(join_all(shards), join_all(gateways));
}

/// Polls all running children once, within `within`. A child that does not answer in time keeps its previous answer.
pub(crate) async fn poll_within(state: &SharedState, within: Duration) {
    let _ = tokio::time::timeout(within, poll(state, &client())).await;
}

/// Reads the counters of all shards that answer.
async fn counters(state: &SharedState, client: &AdminClient) -> TrafficCounters {
    let admins: Vec<_> = with(state, |state| {
        let running = state.shards().iter().filter(|child| child.pid.is_some());
        running.map(|child| (child.name.clone(), child.admin)).collect()
    });
    let texts = join_all(admins.into_iter().map(async |(name, admin)| {
        let (_, body) = client.get(admin, "/metrics").await.ok()?;
        Some((name, body))
    }));
    let texts = texts.await.into_iter().flatten();
    TrafficCounters::read(texts.map(|(name, body)| (name, String::from_utf8_lossy(&body).into_owned())))
}

/// Polls health continuously and rates about once a second. Sends one item for each round; ends with the receiver.
pub(crate) fn start(state: SharedState) -> mpsc::Receiver<Option<TrafficRates>> {
    let (ticks, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let client = client();
        let mut before: Option<(Instant, TrafficCounters)> = None;
        loop {
            poll(&state, &client).await;
            let due = before.as_ref().is_none_or(|(at, _)| at.elapsed() >= COUNTERS_INTERVAL);
            let mut rates = None;
            if due {
                let now = counters(&state, &client).await;
                rates = Some(before.map_or_else(TrafficRates::default, |(_, before)| now.since(&before)));
                before = Some((Instant::now(), now));
            }
            if ticks.send(rates).await.is_err() {
                return;
            }
            tokio::time::sleep(HEALTH_PAUSE).await;
        }
    });
    receiver
}

/// A client for the admin ports of all children.
fn client() -> AdminClient {
    AdminClient::new(TIMEOUT)
}

async fn health<H: DeserializeOwned>(client: &AdminClient, admin: SocketAddr) -> Option<H> {
    client.health(admin).await.inspect_err(|error| tracing::debug!(%error, "no health answer")).ok()
}
