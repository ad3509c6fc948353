//! The plan of a worker: the checked run and the worker's share of it, and the control messages that start its phases.
//! Member processes receive the plan as JSON, so threads and processes run the same code.

use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use wscluster_client::ReconnectPolicy;

use super::ground_truth::Nanos;
use super::schedule::Schedule;
use super::target::LoadTarget;

/// Messages that clients send besides requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Sending {
    /// No messages.
    Nothing,
    /// `{"type":"heartbeat"}`, answered by `pong`.
    Heartbeats(Duration),
    /// Text that the server echoes.
    Echoes(Duration),
}

impl Sending {
    /// Time between two messages.
    pub(super) fn interval(self) -> Option<Duration> {
        match self {
            Self::Nothing => None,
            Self::Heartbeats(interval) | Self::Echoes(interval) => Some(interval),
        }
    }
}

/// A run, and the share of one process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct WorkerPlan {
    /// Servers, used in turn.
    pub(super) targets: Vec<LoadTarget>,
    /// Source addresses, used in turn; empty if the kernel chooses.
    pub(super) sources: Vec<IpAddr>,
    /// Further header lines of each upgrade, each with its CRLF.
    pub(super) headers: String,
    /// When clients connect and leave.
    pub(super) schedule: Schedule,
    /// Concurrent handshakes per worker in a closed loop.
    pub(super) in_flight: u32,
    /// A connection counts as settled this long after its 101.
    pub(super) settle: Duration,
    /// Time limit for each step of a handshake and for the subscription.
    pub(super) timeout: Duration,
    /// When clients reconnect.
    pub(super) backoff: ReconnectPolicy,
    /// Channels of the run.
    pub(super) channels: Vec<String>,
    /// Channels per client.
    pub(super) per_client: u32,
    /// Messages that clients send.
    pub(super) sending: Sending,
    /// Size of those messages in bytes.
    pub(super) payload: usize,
    /// Number of clients that read slowly: the first ones.
    pub(super) slow: u32,
    /// Bytes that a slow client reads per second.
    pub(super) slow_rate: usize,
    /// Time after the hold in which the last records arrive.
    pub(super) linger: Duration,
    /// Return a log of every client for the comparison with the topic.
    pub(super) logs: bool,
    /// Number of workers in the whole run.
    pub(super) slots: u32,
    /// Index of the first worker of this process.
    pub(super) slot: u32,
    /// Number of workers in this process.
    pub(super) threads: u32,
    /// When the run starts.
    pub(super) start: Nanos,
}

impl WorkerPlan {
    /// Indices of the channels of client `k`: neighbours in the list, spread evenly over the clients.
    pub(super) fn channels_of(&self, k: u32) -> Vec<u32> {
        let all = self.channels.len() as u32;
        let take = if self.per_client == 0 { all } else { self.per_client.min(all) };
        // Client k starts `k * take` steps into the list, so every channel gets the same number of clients.
        (0..take).map(|i| ((u64::from(k) * u64::from(take) + u64::from(i)) % u64::from(all)) as u32).collect()
    }

    /// Whether client `k` reads slowly.
    pub(super) fn is_slow(&self, k: u32) -> bool {
        k < self.slow
    }
}

/// Phase of the run, broadcast to all clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Control {
    /// Start of the hold.
    pub(super) hold: Option<Nanos>,
    /// Clients must leave now.
    pub(super) stop: bool,
}

/// Converts Unix time, which all processes share, to the monotonic time of this process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    instant: Instant,
    unix: Nanos,
}

impl Clock {
    /// A conversion based on the current time of both clocks.
    pub(super) fn start() -> Self {
        Self { instant: Instant::now(), unix: unix_now() }
    }

    /// The monotonic instant of a Unix time, or the start of this clock if that is later.
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

    /// A plan for `clients` clients of `addr` that connect at once and leave at once.
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
