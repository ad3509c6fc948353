//! The end of a run: what asks for it, and how connections are moved away before anything ends.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::signal::unix::{Signal, SignalKind, signal};
use wscluster_admin::client::AdminClient;
use wscluster_api::spec::Drain;
use wscluster_api::units::Span;

use super::health_poller::{self, Shared, with};

/// Signals that end a run. Listened to from the start, so that none is lost between two waits.
#[derive(Debug)]
pub struct Signals {
    term: Signal,
    int: Signal,
    hup: Signal,
}

impl Signals {
    /// Takes over SIGTERM, SIGINT and SIGHUP.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            hup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the next one and says what it was.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.term.recv() => "SIGTERM",
            _ = self.int.recv() => "SIGINT",
            _ = self.hup.recv() => "SIGHUP",
        }
    }
}

/// What is counted at the end is asked for then; a child that hangs holds that up no longer than this.
pub const FRESH: Duration = Duration::from_millis(250);

/// Share of the grace period for moving connections; the rest is for the processes to end.
const MOVING: f64 = 0.8;

/// Asks every shard to move its connections away and waits until they are gone or time is over; says how many are left.
pub async fn drain(board: &Shared, spec: &Drain, grace: Duration) -> u64 {
    let end = Instant::now() + grace.mul_f64(MOVING);
    let client = AdminClient::new(Duration::from_secs(1));
    let shards: Vec<_> = with(board, |board| {
        let rows = board.shards().iter();
        rows.filter_map(|row| Some((row.admin, row.health.as_ref()?.connections))).collect()
    });
    let calls = shards.into_iter().filter(|(_, connections)| *connections > 0).map(async |(admin, connections)| {
        if let Err(error) = client.begin_drain(admin, &order(spec, connections, grace)).await {
            tracing::warn!(%error, "shard does not drain; it is told to end later");
        }
    });
    join_all(calls).await;
    loop {
        let left = with(board, |board| board.connections());
        if left == 0 || Instant::now() >= end {
            return left;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        health_poller::fresh(board, FRESH).await;
    }
}

/// The manifest's drain, faster where its rate would not fit the grace period.
fn order(spec: &Drain, connections: u32, grace: Duration) -> Drain {
    let moving = grace.mul_f64(MOVING);
    // Three quarters of the time, so that the last ones are closed in turn rather than by the deadline.
    let needed = (f64::from(connections) / (moving.as_secs_f64() * 0.75).max(0.001)).ceil() as u32;
    let deadline = Span::millis(moving.as_millis() as u64);
    Drain { evict_rate: spec.evict_rate.max(needed), deadline, ..spec.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drains_fast_enough_for_the_grace_period() {
        let spec = Drain { evict_rate: 100, ..Drain::default() };
        let order = order(&spec, 6_000, Duration::from_secs(5));
        assert_eq!(order.evict_rate, 2_000, "6,000 connections in 3 s");
        assert_eq!(order.deadline, Span::secs(4));
        assert_eq!(order.retry_after, spec.retry_after);
    }

    #[test]
    fn keeps_the_rate_of_the_manifest_where_it_fits() {
        let spec = Drain { evict_rate: 500, ..Drain::default() };
        assert_eq!(order(&spec, 10, Duration::from_secs(5)).evict_rate, 500);
    }
}
