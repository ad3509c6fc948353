//! Runs many seeds in parallel.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use crate::mutant::Mutant;
use crate::world::{Outcome, run};

/// The sums over many seeds.
#[derive(Debug, Default)]
pub struct Total {
    /// The first seed that failed, and the failed check.
    pub failed: Option<(u64, String)>,
    /// Virtual time, summed up.
    pub virtual_ms: u64,
    /// Connections that were established.
    pub sessions: u64,
    /// Upgrades that a shard refused.
    pub wrong_picks: u64,
    /// Handshakes that were answered with 503.
    pub refusals: u64,
    /// Sessions that began with a reported gap.
    pub told: u64,
    /// Runs that end with a plan blocked by missing slots.
    pub blocked: u64,
}

impl Total {
    fn add(&mut self, seed: u64, outcome: Outcome) {
        self.virtual_ms += outcome.ended;
        self.sessions += outcome.sessions;
        self.wrong_picks += outcome.wrong_picks;
        self.refusals += outcome.refusals;
        self.told += outcome.told;
        self.blocked += u64::from(outcome.is_blocked);
        if let Some(violation) = outcome.violation
            && self.failed.as_ref().is_none_or(|(first, _)| seed < *first)
        {
            self.failed = Some((seed, violation));
        }
    }
}

/// Runs `seeds` seeds from `from` on all cores, in batches of a hundred. No batch begins after a failure.
pub fn search(from: u64, seeds: u64, mutant: Option<Mutant>) -> Total {
    const BATCH: u64 = 100;
    let next = AtomicU64::new(from);
    let total = Mutex::new(Total::default());
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let first = next.fetch_add(BATCH, Relaxed);
                    if first >= from + seeds {
                        return;
                    }
                    for seed in first..(first + BATCH).min(from + seeds) {
                        let outcome = run(seed, mutant, false);
                        let mut total = total.lock().unwrap_or_else(PoisonError::into_inner);
                        total.add(seed, outcome);
                        if total.failed.is_some() {
                            next.store(u64::MAX - BATCH * 1_000, Relaxed);
                            break;
                        }
                    }
                }
            });
        }
    });
    total.into_inner().unwrap_or_else(PoisonError::into_inner)
}
