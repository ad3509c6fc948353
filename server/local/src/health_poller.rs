//! Asks every child for its health, again and again, and writes the answers on the board.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use wscluster_admin::client::AdminClient;

use super::state::Board;
use super::traffic::{Counters, Rates};

/// Time a child has for an answer.
const WITHIN: Duration = Duration::from_secs(1);
/// Time between two rounds.
const ROUND: Duration = Duration::from_millis(250);
/// Time between two looks at the counters.
const COUNT: Duration = Duration::from_secs(1);

/// The board as its writers and readers share it.
pub type Shared = Arc<Mutex<Board>>;

/// Looks at the board or changes it; never across an await.
pub fn with<T>(board: &Shared, f: impl FnOnce(&mut Board) -> T) -> T {
    f(&mut board.lock().unwrap_or_else(PoisonError::into_inner))
}

/// One round over all children that run.
pub async fn round(board: &Shared, client: &AdminClient) {
    let (shards, gateways) = with(board, |board| {
        let shards: Vec<_> = board.shards().iter().map(|row| (row.name.clone(), row.pid, row.admin)).collect();
        let gateways: Vec<_> = board.gateways().iter().map(|row| (row.name.clone(), row.pid, row.admin)).collect();
        (shards, gateways)
    });
    let shards = shards.into_iter().filter(|(_, pid, _)| pid.is_some()).map(async |(name, pid, admin)| {
        let asked = Instant::now();
        let health = health(client, admin).await;
        with(board, |board| board.shard_said(&name, pid, asked, health));
    });
    let gateways = gateways.into_iter().filter(|(_, pid, _)| pid.is_some()).map(async |(name, pid, admin)| {
        let asked = Instant::now();
        let health = health(client, admin).await;
        with(board, |board| board.gateway_said(&name, pid, asked, health));
    });
    tokio::join!(join_all(shards), join_all(gateways));
}

/// One round that takes at most `within`; a child that does not answer in time keeps what it said last.
pub async fn fresh(board: &Shared, within: Duration) {
    let _ = tokio::time::timeout(within, round(board, &client())).await;
}

/// Counters of all shards that answer.
pub async fn counters(board: &Shared, client: &AdminClient) -> Counters {
    let admins: Vec<_> = with(board, |board| {
        let running = board.shards().iter().filter(|row| row.pid.is_some());
        running.map(|row| (row.name.clone(), row.admin)).collect()
    });
    let texts = join_all(admins.into_iter().map(async |(name, admin)| {
        let (_, body) = client.get(admin, "/metrics").await.ok()?;
        Some((name, body))
    }));
    let texts = texts.await.into_iter().flatten();
    Counters::read(texts.map(|(name, body)| (name, String::from_utf8_lossy(&body).into_owned())))
}

/// Asks for health all the time and for rates about once a second.
pub fn ticker(board: Shared) -> mpsc::Receiver<Option<Rates>> {
    let (ticks, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let client = client();
        let mut before: Option<(Instant, Counters)> = None;
        loop {
            round(&board, &client).await;
            let due = before.as_ref().is_none_or(|(at, _)| at.elapsed() >= COUNT);
            let mut rates = None;
            if due {
                let now = counters(&board, &client).await;
                rates = Some(before.map_or_else(Rates::default, |(_, before)| now.since(&before)));
                before = Some((Instant::now(), now));
            }
            if ticks.send(rates).await.is_err() {
                return;
            }
            tokio::time::sleep(ROUND).await;
        }
    });
    receiver
}

/// A client for the admin ports of all children.
fn client() -> AdminClient {
    AdminClient::new(WITHIN)
}

async fn health<H: DeserializeOwned>(client: &AdminClient, admin: SocketAddr) -> Option<H> {
    client.health(admin).await.inspect_err(|error| tracing::debug!(%error, "no health answer")).ok()
}
