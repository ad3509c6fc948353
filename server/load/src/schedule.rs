//! When clients arrive, are replaced, and are cut: pure functions from the plan to offsets in time. Arrivals count from
//! the start of the run, churn and storms from the start of the hold. Every worker computes the instants of its own
//! clients.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Clients started per second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Rate {
    /// An open loop: each client has a planned instant.
    PerSecond(f64),
    /// A closed loop: a bounded number of concurrent handshakes, as fast as they complete.
    Max,
}

/// Text that is not a rate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}, e.g. 100, or max")]
pub(super) struct RateError(String);

impl FromStr for Rate {
    type Err = RateError;
    fn from_str(text: &str) -> Result<Self, RateError> {
        match text {
            "max" => Ok(Self::Max),
            text => wscluster_runtime::args::rate(text).map(Self::PerSecond).map_err(RateError),
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PerSecond(rate) => write!(f, "{rate}"),
            Self::Max => f.write_str("max"),
        }
    }
}

/// The plan of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Schedule {
    /// Number of clients; they are numbered from 0.
    pub(super) clients: u32,
    /// Rate of arrivals.
    pub(super) rate: Rate,
    /// How long clients stay after the ramp.
    pub(super) hold: Duration,
    /// Clients replaced per second during the hold.
    pub(super) churn: f64,
    /// Instants of the hold at which every connection is cut; ascending.
    pub(super) storms: Vec<Duration>,
}

impl Schedule {
    /// When client `k` starts, relative to the start of the run; `None` in a closed loop.
    pub(super) fn arrival(&self, k: u32) -> Option<Duration> {
        match self.rate {
            Rate::PerSecond(rate) => Some(Duration::from_secs_f64(f64::from(k) / rate)),
            Rate::Max => None,
        }
    }

    /// The first time at or after `from` (of the hold) at which client `k` is replaced.
    pub(super) fn next_churn(&self, k: u32, from: Duration) -> Option<Duration> {
        if self.churn <= 0.0 || k >= self.clients {
            return None;
        }
        // Replacement j applies to client j mod clients, so every client is replaced once before any is replaced twice.
        let at =
            |round: f64| Duration::from_secs_f64((f64::from(k) + round * f64::from(self.clients) + 1.0) / self.churn);
        let period = f64::from(self.clients) / self.churn;
        let mut round = ((from.as_secs_f64() - at(0.0).as_secs_f64()) / period).ceil().max(0.0);
        while at(round) < from {
            round += 1.0;
        }
        (at(round) < self.hold).then(|| at(round))
    }

    /// The first storm at or after `from` (of the hold).
    pub(super) fn next_storm(&self, from: Duration) -> Option<Duration> {
        self.storms.iter().copied().find(|at| *at >= from && *at < self.hold)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn schedule(clients: u32, churn: f64) -> Schedule {
        let storms = vec![Duration::from_secs(3), Duration::from_mins(1)];
        Schedule { clients, rate: Rate::PerSecond(100.0), hold: Duration::from_secs(10), churn, storms }
    }

    #[test]
    fn spaces_arrivals_evenly() {
        let schedule = schedule(301, 0.0);
        assert_eq!(schedule.arrival(0), Some(Duration::ZERO));
        assert_eq!(schedule.arrival(1), Some(Duration::from_millis(10)));
        assert_eq!(schedule.arrival(300), Some(Duration::from_secs(3)));
    }

    #[test]
    fn plans_no_instants_for_a_closed_loop() {
        assert_eq!(Schedule { rate: Rate::Max, ..schedule(5, 0.0) }.arrival(3), None);
    }

    #[test]
    fn leaves_out_storms_after_the_hold() {
        let schedule = schedule(1, 0.0);
        assert_eq!(schedule.next_storm(Duration::ZERO), Some(Duration::from_secs(3)));
        assert_eq!(schedule.next_storm(Duration::from_millis(3_001)), None);
    }

    #[test]
    fn reads_rates() {
        assert_eq!("250.5".parse(), Ok(Rate::PerSecond(250.5)));
        assert_eq!("max".parse(), Ok(Rate::Max));
        for bad in ["0", "1e-20", "-1", "fast", "inf", "NaN", ""] {
            assert_eq!(
                bad.parse::<Rate>().unwrap_err().to_string(),
                "write a number a second, 0.001 or more, e.g. 100, or max"
            );
        }
    }

    proptest! {
        #[test]
        fn churn_of_all_clients_adds_up_to_the_rate(clients in 1_u32..50, churn in 1_u32..100) {
            let schedule = schedule(clients, f64::from(churn));
            let mut count = 0;
            for k in 0..clients {
                let mut from = Duration::ZERO;
                while let Some(at) = schedule.next_churn(k, from) {
                    prop_assert!(at >= from);
                    count += 1;
                    from = at + Duration::from_nanos(1);
                }
            }
            // The last one falls on the end of the hold, which is no longer part of it.
            prop_assert_eq!(count, churn * 10 - 1);
        }
    }
}
