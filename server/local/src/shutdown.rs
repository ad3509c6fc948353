//! The end of a run: the signals that ask for it, and the drain of all shards before any process ends.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::signal::unix::{Signal, SignalKind, signal};
use wscluster_admin::client::AdminClient;
use wscluster_api::spec::Drain;
use wscluster_api::units::Span;

use super::event::StopSignal;
use super::health_poller;
use super::state::{SharedState, with};

/// The signals that end a run. They are handled from the start, so that none is lost.
#[derive(Debug)]
pub(crate) struct Signals {
    term: Signal,
    int: Signal,
    hup: Signal,
}

impl Signals {
    /// Installs handlers of SIGTERM, SIGINT and SIGHUP.
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            hup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the next signal.
    pub(crate) async fn next(&mut self) -> StopSignal {
        tokio::select! {
            _ = self.term.recv() => StopSignal::Term,
            _ = self.int.recv() => StopSignal::Int,
            _ = self.hup.recv() => StopSignal::Hup,
        }
    }
}

/// Time limit of a poll at the end of a run, so that a child that hangs does not delay it.
pub(crate) const POLL_TIMEOUT: Duration = Duration::from_millis(250);

/// Share of the grace period in which connections move; the processes end in the rest.
const DRAIN_SHARE: f64 = 0.8;

/// Drains every shard, until no connection is left or the time is over. Returns the number of connections left.
pub(crate) async fn drain(state: &SharedState, client: &AdminClient, spec: &Drain, grace: Duration) -> u64 {
    let end = Instant::now() + grace.mul_f64(DRAIN_SHARE);
    let shards: Vec<_> = with(state, |state| {
        let children = state.shards().iter();
        children.filter_map(|child| Some((child.admin, child.health.as_ref()?.connections))).collect()
    });
    let calls = shards.into_iter().filter(|(_, connections)| *connections > 0).map(async |(admin, connections)| {
        if let Err(error) = client.begin_drain(admin, &order(spec, connections, grace)).await {
            tracing::warn!(%error, "shard did not accept the drain; it is asked to end later");
        }
    });
    join_all(calls).await;
    loop {
        let left = with(state, |state| state.connections());
        if left == 0 || Instant::now() >= end {
            return left;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        health_poller::poll_within(state, POLL_TIMEOUT).await;
    }
}

/// The drain of the manifest, at a higher rate if its own does not fit the grace period.
fn order(spec: &Drain, connections: u32, grace: Duration) -> Drain {
    let moving = grace.mul_f64(DRAIN_SHARE);
    // Three quarters of the time: the last connections too are closed at the rate, not all at the deadline.
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
