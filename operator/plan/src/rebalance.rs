//! Who moves to emptier shards: after more were started, the old ones are still full, and long connections stay where they are.
//!
//! One answer is one round. It asks for no more than brings the fuller shards down to the mean, at a rate that all shards share,
//! within the budget of the hour. Evicted clients come back through the gateway, which prefers emptier shards and may choose a
//! full one all the same; so a round may fall short, and the next one, after everybody is back, goes on. Nothing moves while
//! anything else is in motion.

use wscluster_api::spec::Rebalance;

use crate::{Observed, Shard, State};

/// While more than one of so many connections may be on their way back, nothing moves.
const AWAY: u64 = 20;

/// What one shard does in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evict {
    /// Which.
    pub ordinal: u32,
    /// Connections that it closes with 1012.
    pub count: u32,
    /// Of them, a second.
    pub rate: u32,
}

/// The next round; empty where shards are within `maxImbalance`. `spent` is the number of connections that were moved for this
/// in the last hour.
pub fn rebalance(rules: &Rebalance, observed: &Observed, spent: u32) -> Vec<Evict> {
    let shards = &observed.shards;
    let is_calm =
        |shard: &Shard| matches!(shard.state, State::Ready | State::Full) && shard.routed && shard.capacity > 0;
    // Where clients come and go, a few are always on their way; a shard or a round that let its own go makes many.
    let are_away = u64::from(observed.returning) * AWAY > u64::from(observed.connections());
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
        // One a second at least, or the smallest would never end; a shard more than the rate allows is left to the next round.
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

/// By how much the emptiest is below the fullest, in percent of that one, as `/health` of a gateway tells it; in shares of
/// capacity, as shards may differ in it while they are replaced.
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
    use crate::{Returning, Timestamp};

    fn observed(connections: &[u32]) -> Observed {
        let shard = |(ordinal, connections): (u32, &u32)| Shard {
            ordinal,
            revision: String::new(),
            state: State::Ready,
            connections: *connections,
            capacity: 6_000,
            routed: true,
            ready: true,
            since: None,
        };
        Observed {
            replicas: connections.len() as u32,
            returning: 0,
            shards: (0..).zip(connections).map(shard).collect(),
        }
    }

    fn rules() -> Rebalance {
        Rebalance { max_imbalance: 20, evict_rate: 100, budget: 100 }
    }

    #[test]
    fn brings_the_full_ones_down_to_the_mean() {
        let round = rebalance(&rules(), &observed(&[3_000, 3_000, 0]), 0);
        let each = |ordinal| Evict { ordinal, count: 1_000, rate: 50 };
        assert_eq!(round, [each(0), each(1)]);
    }

    #[test]
    fn leaves_everybody_where_they_are_within_the_limit() {
        assert_eq!(rebalance(&rules(), &observed(&[1_000, 800, 900]), 0), []);
        assert_ne!(rebalance(&rules(), &observed(&[1_000, 799, 900]), 0), []);
        assert_eq!(rebalance(&rules(), &observed(&[0, 0]), 0), []);
        assert_eq!(rebalance(&rules(), &observed(&[]), 0), []);
    }

    #[test]
    fn moves_no_more_than_the_budget_of_the_hour() {
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
        let returning = Observed { returning: 301, ..observed(&[3_000, 3_000, 0]) };
        assert_eq!(rebalance(&rules(), &returning, 0), []);
    }

    #[test]
    fn does_not_wait_for_clients_that_come_and_go_all_the_time() {
        let mut returning = Returning::new(Duration::from_secs(15));
        let mut seen = observed(&[3_000, 3_000, 500]);
        for second in 0..60 {
            let up_or_down = |at: u64| 4 * u32::from((second + at).is_multiple_of(2));
            for (at, shard) in (0..).zip(&mut seen.shards) {
                shard.connections = [3_000, 3_000, 500][at as usize] + up_or_down(at);
            }
            returning.note(&mut seen, Timestamp::from_millis(1_000 * second));
            assert_ne!(rebalance(&rules(), &seen, 0), [], "{} may be on their way", seen.returning);
        }
        assert!(seen.returning > 0);
        seen.shards[1].connections = 0;
        returning.note(&mut seen, Timestamp::from_millis(60_000));
        assert_eq!(rebalance(&rules(), &seen, 0), [], "those of a shard that began anew");
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
