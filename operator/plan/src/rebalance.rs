//! Moves connections to emptier shards. After a scale-up the old shards remain full, because long-lived connections
//! stay where they are.
//!
//! One call returns one round. A round brings the fuller shards down to the mean at most, at a rate that all shards
//! share, and within the hourly budget. Evicted clients return through the gateway, which prefers emptier shards but
//! may pick a fuller one, so a round may fall short; the next round continues after the clients have returned.
//! Nothing moves while anything else is in motion.

use wscluster_api::spec::Rebalance;

use crate::{Observed, Shard, State};

/// Nothing moves while more than one in this many connections may be reconnecting.
const AWAY: u64 = 20;

/// The part of one shard in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evict {
    /// Position of the shard in the `StatefulSet`.
    pub ordinal: u32,
    /// Connections to close with code 1012.
    pub count: u32,
    /// Connections to close per second.
    pub rate: u32,
}

/// Computes the next round; empty if the shards are within `maxImbalance`. `spent` is the number of connections that
/// rounds of the last hour have moved.
pub fn rebalance(rules: &Rebalance, observed: &Observed, spent: u32) -> Vec<Evict> {
    let shards = &observed.shards;
    let is_calm = |shard: &Shard| {
        matches!(shard.state, State::Ready | State::Full) && shard.known_to_gateways && shard.capacity > 0
    };
    // With ordinary churn a few clients are always reconnecting. A lost shard or a previous round makes many.
    let are_away = u64::from(observed.reconnecting) * AWAY > u64::from(observed.connections());
    if !shards.iter().all(is_calm) || are_away || imbalance(shards) <= f64::from(rules.max_imbalance) {
        return Vec::new();
    }
    let sum = |of: fn(&Shard) -> u32| shards.iter().map(|shard| u64::from(of(shard))).sum::<u64>();
    let (connections, capacity) = (sum(|shard| shard.connections), sum(|shard| shard.capacity));
    let budget = (connections * u64::from(rules.budget) / 100).saturating_sub(u64::from(spent));
    let above = |shard: &Shard| {
        let mean = (u64::from(shard.capacity) * connections).div_ceil(capacity);
        u64::from(shard.connections).saturating_sub(mean)
    };
    let all: u64 = shards.iter().map(above).sum();
    if all == 0 {
        return Vec::new();
    }
    let now = all.min(budget);
    let part = |shard: &Shard| {
        let count = (above(shard) * now / all) as u32;
        // At least one per second, or the smallest part would never end. Shards beyond the shared rate wait for the
        // next round.
        let rate = (u64::from(rules.evict_rate) * above(shard) / all).max(1) as u32;
        Evict { ordinal: shard.ordinal, count, rate }
    };
    let mut rate = 0;
    let mut parts: Vec<_> = shards.iter().map(part).filter(|evict| evict.count > 0).collect();
    parts.sort_by_key(|evict| std::cmp::Reverse(evict.count));
    parts.retain(|evict| {
        rate += evict.rate;
        rate <= rules.evict_rate
    });
    parts.sort_by_key(|evict| evict.ordinal);
    parts
}

/// How far the emptiest shard is below the fullest, in percent of the fullest; the same figure as in a gateway's
/// `/health`. Compares utilization, because capacities may differ during a rollout.
fn imbalance(shards: &[Shard]) -> f64 {
    let used = || shards.iter().map(|shard| f64::from(shard.connections) / f64::from(shard.capacity));
    let (min, max) = used().fold((f64::INFINITY, 0.0_f64), |(min, max), used| (min.min(used), max.max(used)));
    if max > 0.0 { 100.0 * (max - min) / max } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::{Reconnecting, Timestamp};

    fn observed(connections: &[u32]) -> Observed {
        let shard = |(ordinal, connections): (u32, &u32)| Shard {
            ordinal,
            revision: String::new(),
            state: State::Ready,
            connections: *connections,
            capacity: 6_000,
            known_to_gateways: true,
            pod_ready: true,
            since: None,
        };
        Observed {
            replicas: connections.len() as u32,
            reconnecting: 0,
            shards: (0..).zip(connections).map(shard).collect(),
        }
    }

    fn rules() -> Rebalance {
        Rebalance { max_imbalance: 20, evict_rate: 100, budget: 100 }
    }

    #[test]
    fn brings_fuller_shards_down_to_the_mean() {
        let round = rebalance(&rules(), &observed(&[3_000, 3_000, 0]), 0);
        let each = |ordinal| Evict { ordinal, count: 1_000, rate: 50 };
        assert_eq!(round, [each(0), each(1)]);
    }

    #[test]
    fn moves_nothing_within_the_limit() {
        assert_eq!(rebalance(&rules(), &observed(&[1_000, 800, 900]), 0), []);
        assert_ne!(rebalance(&rules(), &observed(&[1_000, 799, 900]), 0), []);
        assert_eq!(rebalance(&rules(), &observed(&[0, 0]), 0), []);
        assert_eq!(rebalance(&rules(), &observed(&[]), 0), []);
    }

    #[test]
    fn keeps_the_hourly_budget() {
        let rules = Rebalance { budget: 10, ..rules() };
        let moved =
            |spent| rebalance(&rules, &observed(&[3_000, 3_000, 0]), spent).iter().map(|e| e.count).sum::<u32>();
        assert_eq!((moved(0), moved(400), moved(600), moved(900)), (600, 200, 0, 0));
    }

    #[test]
    fn waits_while_anything_else_is_in_motion() {
        for state in [State::Starting, State::Draining, State::Silent, State::Failing, State::Leaving] {
            let mut observed = observed(&[3_000, 3_000, 0]);
            observed.shards[2].state = state;
            assert_eq!(rebalance(&rules(), &observed, 0), [], "{state:?}");
        }
        let reconnecting = Observed { reconnecting: 301, ..observed(&[3_000, 3_000, 0]) };
        assert_eq!(rebalance(&rules(), &reconnecting, 0), []);
    }

    #[test]
    fn ordinary_churn_does_not_stop_it() {
        let mut reconnecting = Reconnecting::new(Duration::from_secs(15));
        let mut seen = observed(&[3_000, 3_000, 500]);
        for second in 0..60 {
            let up_or_down = |at: u64| 4 * u32::from((second + at).is_multiple_of(2));
            for (at, shard) in (0..).zip(&mut seen.shards) {
                shard.connections = [3_000, 3_000, 500][at as usize] + up_or_down(at);
            }
            reconnecting.note(&mut seen, Timestamp::from_millis(1_000 * second));
            assert_ne!(rebalance(&rules(), &seen, 0), [], "{} may be reconnecting", seen.reconnecting);
        }
        assert!(seen.reconnecting > 0);
        seen.shards[1].connections = 0;
        reconnecting.note(&mut seen, Timestamp::from_millis(60_000));
        assert_eq!(rebalance(&rules(), &seen, 0), [], "clients of a restarted shard");
    }

    proptest! {
        #[test]
        fn takes_only_from_those_above_the_mean_and_keeps_the_rate(
            connections in prop::collection::vec(0..6_000_u32, 0..30),
            spent in 0..9_000_u32,
            max_imbalance in 1..=100_u32,
            evict_rate in 1..200_u32,
            budget in 1..=100_u32,
        ) {
            let rules = Rebalance { max_imbalance, evict_rate, budget };
            let round = rebalance(&rules, &observed(&connections), spent);
            let total: u32 = connections.iter().sum();
            let moved: u32 = round.iter().map(|evict| evict.count).sum();
            prop_assert!(u64::from(moved) + u64::from(spent) <= u64::from(total) * u64::from(budget) / 100 || moved == 0);
            prop_assert!(round.iter().map(|evict| evict.rate).sum::<u32>() <= evict_rate);
            for evict in round {
                let left = connections[evict.ordinal as usize] - evict.count;
                prop_assert!(u64::from(left) * connections.len() as u64 >= u64::from(total), "below the mean: {evict:?}");
                prop_assert!(evict.count > 0 && evict.rate > 0);
            }
        }
    }
}
