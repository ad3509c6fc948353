//! What a worker is told: the checked run, its own share of it, and when phases begin. Written as JSON to member
//! processes, so that threads and processes do exactly the same.

use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use wscluster_client::ReconnectPolicy;

use super::ground_truth::Nanos;
use super::schedule::Schedule;
use super::target::LoadTarget;

/// What clients send by themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Sending {
    /// Nothing.
    Nothing,
    /// `{"type":"heartbeat"}`, answered by `pong`.
    Heartbeats(Duration),
    /// Text that comes back.
    Echoes(Duration),
}

impl Sending {
    /// Time between two.
    pub(super) fn interval(self) -> Option<Duration> {
        match self {
            Self::Nothing => None,
            Self::Heartbeats(interval) | Self::Echoes(interval) => Some(interval),
        }
    }
}

/// A run, and one process's share of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct WorkerPlan {
    /// Endpoints, used in turn.
    pub(super) targets: Vec<LoadTarget>,
    /// Source addresses, used in turn; empty: the kernel chooses.
    pub(super) sources: Vec<IpAddr>,
    /// Further header lines of each upgrade, with CRLF.
    pub(super) headers: String,
    /// When clients come and go.
    pub(super) schedule: Schedule,
    /// Handshakes under way per worker in a closed loop.
    pub(super) in_flight: u32,
    /// Life after the 101 that makes a connection count.
    pub(super) settle: Duration,
    /// Limit of each phase of a handshake and of the subscription.
    pub(super) timeout: Duration,
    /// When to come back.
    pub(super) backoff: ReconnectPolicy,
    /// Channels of the run.
    pub(super) channels: Vec<String>,
    /// Channels per client.
    pub(super) per_client: u32,
    /// What clients send.
    pub(super) sending: Sending,
    /// Bytes of it.
    pub(super) payload: usize,
    /// The first so many clients read slowly …
    pub(super) slow: u32,
    /// … this many bytes a second.
    pub(super) slow_rate: usize,
    /// Stay this long after the hold, so that the last records arrive.
    pub(super) linger: Duration,
    /// Hand in a log of every client for the comparison with the topic.
    pub(super) logs: bool,
    /// Workers of the whole run.
    pub(super) slots: u32,
    /// First worker of this process.
    pub(super) slot: u32,
    /// Workers of this process.
    pub(super) threads: u32,
    /// When the run starts.
    pub(super) start: Nanos,
}

impl WorkerPlan {
    /// The channels client `k` subscribes to, as indices: neighbours in the list, spread evenly over clients.
    pub(super) fn channels_of(&self, k: u32) -> Vec<u32> {
        let all = self.channels.len() as u32;
        let take = if self.per_client == 0 { all } else { self.per_client.min(all) };
        // Together, clients k, k+1, … walk the list in steps of `take`, so that each channel gets its share.
        (0..take).map(|i| ((u64::from(k) * u64::from(take) + u64::from(i)) % u64::from(all)) as u32).collect()
    }

    /// Whether client `k` reads slowly.
    pub(super) fn is_slow(&self, k: u32) -> bool {
        k < self.slow
    }
}

/// Where the run stands; changes are broadcast to all clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Control {
    /// When the hold began or begins.
    pub(super) hold: Option<Nanos>,
    /// Leave now.
    pub(super) stop: bool,
}

/// Turns Unix time, which processes share, into this process's monotonic time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    instant: Instant,
    unix: Nanos,
}

impl Clock {
    /// Reads both clocks.
    pub(super) fn start() -> Self {
        Self { instant: Instant::now(), unix: unix_now() }
    }

    /// The monotonic instant of a Unix time; one before the clock's own start becomes its start.
    pub(super) fn instant(&self, at: Nanos) -> Instant {
        self.instant + Duration::from_nanos(at.saturating_sub(self.unix))
    }
}

/// Unix time now.
pub(super) fn unix_now() -> Nanos {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::schedule::Rate;
    use super::*;

    /// An plan for `clients` clients of `addr` that come at once and leave at once.
    pub(in super::super) fn plan(addr: std::net::SocketAddr, clients: u32) -> WorkerPlan {
        let backoff = ReconnectPolicy { retries: 0, base: Duration::from_millis(1), max: Duration::from_millis(10) };
        WorkerPlan {
            targets: vec![LoadTarget::of_shard(&addr.to_string()).unwrap()],
            sources: Vec::new(),
            headers: String::new(),
            schedule: Schedule {
                clients,
                rate: Rate::PerSecond(10_000.0),
                hold: Duration::ZERO,
                churn: 0.0,
                storms: Vec::new(),
            },
            in_flight: 10,
            settle: Duration::from_millis(100),
            timeout: Duration::from_secs(20),
            backoff,
            channels: Vec::new(),
            per_client: 1,
            sending: Sending::Nothing,
            payload: 0,
            slow: 0,
            slow_rate: 1_024,
            linger: Duration::ZERO,
            logs: false,
            slots: 1,
            slot: 0,
            threads: 1,
            start: unix_now(),
        }
    }

    #[test]
    fn spreads_channels_evenly() {
        let mut plan = plan("127.0.0.1:1".parse().unwrap(), 12);
        plan.channels = (0..6).map(|i| i.to_string()).collect();
        plan.per_client = 4;
        let mut subscribers = [0; 6];
        (0..12).flat_map(|k| plan.channels_of(k)).for_each(|channel| subscribers[channel as usize] += 1);
        assert_eq!(subscribers, [8; 6]);
        plan.per_client = 0;
        assert_eq!(plan.channels_of(3).len(), 6);
        plan.channels.clear();
        assert!(plan.channels_of(3).is_empty());
    }
}
