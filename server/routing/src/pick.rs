//! Chooses among the shards with a free slot. Pure: no clock, no I/O.
//!
//! Power of two choices on used / capacity. Loads are a few answers old. If every gateway chose the emptiest of all
//! shards, all would choose the same one and overfill it; the emptier of two random shards avoids that (Mitzenmacher,
//! "The Power of Two Choices", 2001). `simulation` below measures both: in a burst, the emptiest of all is worse even
//! among three shards.

use rand::{Rng, RngExt as _};

/// A shard to choose from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Slots taken, with handshakes under way.
    pub used: u32,
    /// All slots.
    pub capacity: u32,
}

impl Candidate {
    /// Free slots.
    pub const fn room(self) -> u32 {
        self.capacity.saturating_sub(self.used)
    }

    /// Whether a slot is free.
    pub const fn has_room(self) -> bool {
        self.used < self.capacity
    }

    /// Whether a smaller share is used; exact, without division.
    fn is_emptier_than(self, other: Self) -> bool {
        u64::from(self.used) * u64::from(other.capacity) < u64::from(other.used) * u64::from(self.capacity)
    }
}

/// The index of the chosen one among `len` candidates; `None` if there are none.
pub fn choose(len: usize, candidate: impl Fn(usize) -> Candidate, rng: &mut impl Rng) -> Option<usize> {
    match len {
        0 => None,
        1 => Some(0),
        _ => {
            let first = rng.random_range(0..len);
            let second = (first + rng.random_range(1..len)) % len;
            Some(emptier(first, second, &candidate))
        }
    }
}

fn emptier(first: usize, second: usize, candidate: &impl Fn(usize) -> Candidate) -> usize {
    if candidate(second).is_emptier_than(candidate(first)) { second } else { first }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng as _;
    use rand::rngs::SmallRng;

    use super::*;

    fn candidates() -> impl Strategy<Value = Vec<Candidate>> {
        prop::collection::vec((0..7_000_u32, 1..7_000_u32), 1..12).prop_map(|list| {
            list.into_iter().map(|(used, capacity)| Candidate { used: used.min(capacity - 1), capacity }).collect()
        })
    }

    proptest! {
        #[test]
        fn never_chooses_the_fullest_of_several(list in candidates(), seed: u64) {
            let mut rng = SmallRng::seed_from_u64(seed);
            let chosen = choose(list.len(), |at| list[at], &mut rng).unwrap();
            let mut others = list.iter().enumerate().filter(|(at, _)| *at != chosen);
            let beats_one = others.any(|(_, other)| !other.is_emptier_than(list[chosen]));
            prop_assert!(list.len() == 1 || beats_one);
        }
    }

    #[test]
    fn compares_shares_not_numbers() {
        let list = [Candidate { used: 50, capacity: 100 }, Candidate { used: 60, capacity: 1_000 }];
        let mut rng = SmallRng::seed_from_u64(7);
        assert!((0..100).all(|_| choose(2, |at| list[at], &mut rng) == Some(1)));
    }

    #[test]
    fn spreads_over_equal_ones() {
        let mut rng = SmallRng::seed_from_u64(7);
        for len in [2, 3, 5] {
            let mut hits = vec![0; len];
            for _ in 0..10_000 {
                hits[choose(len, |_| Candidate { used: 1, capacity: 9 }, &mut rng).unwrap()] += 1;
            }
            assert!(hits.iter().all(|hit| *hit > 8_000 / len), "{hits:?}");
        }
    }

    /// `gateways` fill `shards` to two thirds. Each knows a shard's load only from its own answers, which arrive after
    /// `delay` more handshakes of the whole cluster, and from its own handshakes in flight. Returns the imbalance in
    /// percent, as in `/health`.
    fn simulation(shards: usize, gateways: usize, delay: usize, seed: u64, all: bool) -> f64 {
        const CAPACITY: u32 = 6_000;
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut real = vec![0_u32; shards];
        let mut known = vec![vec![(0_u32, 0_u32); shards]; gateways];
        let mut answers = std::collections::VecDeque::new();
        for _ in 0..shards * 4_000 {
            let gateway = rng.random_range(0..gateways);
            let view = |at: usize| Candidate { used: known[gateway][at].0 + known[gateway][at].1, capacity: CAPACITY };
            let shard = if all {
                let start = rng.random_range(0..shards);
                (0..shards).map(|step| (start + step) % shards).reduce(|a, b| emptier(a, b, &view)).unwrap()
            } else {
                choose(shards, view, &mut rng).unwrap()
            };
            known[gateway][shard].1 += 1;
            real[shard] += 1;
            answers.push_back((gateway, shard, real[shard]));
            if answers.len() > delay {
                let (gateway, shard, load) = answers.pop_front().unwrap();
                known[gateway][shard].0 = load;
                known[gateway][shard].1 -= 1;
            }
        }
        let (min, max) = (real.iter().min().unwrap(), real.iter().max().unwrap());
        100.0 * f64::from(max - min) / f64::from(*max)
    }

    #[test]
    fn keeps_three_shards_within_one_percent_with_two_gateways() {
        for delay in [0, 10, 100, 500] {
            let worst = (0..5).map(|seed| simulation(3, 2, delay, seed, false)).fold(0.0, f64::max);
            assert!(worst <= 1.0, "{delay} in flight: {worst} %");
        }
    }

    /// Prints what `docs/handshake.md` quotes: `cargo test -p wscluster-routing pick -- --ignored --nocapture`.
    #[test]
    #[ignore = "prints figures, checks nothing"]
    fn figures() {
        for (shards, gateways) in [(3, 2), (3, 8), (8, 4), (30, 8)] {
            for delay in [0, 10, 100, 500] {
                let mean = |all| (0..9).map(|seed| simulation(shards, gateways, delay, seed, all)).sum::<f64>() / 9.0;
                println!(
                    "{shards:2} shards {gateways} gateways {delay:3} in flight: two {:.2} % all {:.2} %",
                    mean(false),
                    mean(true)
                );
            }
        }
    }
}
