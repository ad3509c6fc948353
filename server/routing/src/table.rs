//! What this gateway believes about every shard: atomics that all workers read and write without waiting.
//!
//! Beliefs come from health polls and from the live load in each shard's answer to an upgrade; our own handshakes in
//! flight are added. A belief is never a grant: only the shard grants. Shards come and go at run time by
//! [`Table::set`]; an id is never used again.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};

use rand::Rng;
use tokio::time::Instant;

use super::backend::{Availability, Backend, Lease, ShardId};
use super::member::Member;
use super::pick::{Candidate, choose};

/// Every shard of the cluster, as far as this gateway knows.
#[derive(Debug)]
pub struct Table {
    start: Instant,
    next_id: AtomicU32,
    shards: RwLock<Arc<[Arc<Backend>]>>,
}

impl Table {
    /// An empty table; its clock starts now.
    pub fn new() -> Self {
        Self { start: Instant::now(), next_id: AtomicU32::new(1), shards: RwLock::new(Arc::new([])) }
    }

    /// Milliseconds since the start, never 0: 0 stands for "never" in the atomics.
    pub fn now_ms(&self) -> u64 {
        self.start.elapsed().as_millis() as u64 + 1
    }

    /// The shards now.
    pub fn shards(&self) -> Arc<[Arc<Backend>]> {
        Arc::clone(&self.shards.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes the table hold exactly `members`; says whether that changed it. What is believed about those that stay, stays.
    pub fn set(&self, members: &[Member]) -> bool {
        let mut shards = self.shards.write().unwrap_or_else(PoisonError::into_inner);
        if shards.iter().map(|shard| shard.member()).eq(members) {
            return false;
        }
        let next: Arc<[_]> = members
            .iter()
            .map(|member| match shards.iter().find(|shard| shard.member() == member) {
                Some(shard) => Arc::clone(shard),
                None => Arc::new(Backend::new(ShardId::new(self.next_id.fetch_add(1, Relaxed)), member.clone())),
            })
            .collect();
        for gone in shards.iter().filter(|shard| !next.iter().any(|other| other.id() == shard.id())) {
            gone.remove();
        }
        *shards = next;
        true
    }

    /// A shard that is believed to have a slot and is not in `tried`: the emptiest of two, in good availability if there
    /// is one, else one whose availability is doubtful, so that a slot is never missed for a bad memory.
    pub fn pick(&self, tried: &[ShardId], rng: &mut impl Rng) -> Option<Lease> {
        let shards = self.shards();
        let now = self.now_ms();
        [Availability::Available, Availability::Doubtful].into_iter().find_map(|availability| {
            let mut open: Vec<(Candidate, &Arc<Backend>)> = shards
                .iter()
                .filter(|shard| shard.availability(now) == availability && !tried.contains(&shard.id()))
                .map(|shard| (shard.load().candidate(), shard))
                .filter(|(candidate, _)| candidate.has_room())
                .collect();
            loop {
                let index = choose(open.len(), |at| open[at].0, rng)?;
                match Lease::take(open[index].1) {
                    Some(lease) => return Some(lease),
                    // Another worker took the last slot between our look and our grasp.
                    None => drop(open.swap_remove(index)),
                }
            }
        })
    }

    /// A shard that takes upgrades and was not heard since `since_ms`, whatever is believed about its load: the last
    /// try of a client whose wait is over.
    pub fn pick_unheard(&self, since_ms: u64, tried: &[ShardId]) -> Option<Lease> {
        let shards = self.shards();
        let now = self.now_ms();
        shards
            .iter()
            .find(|shard| {
                shard.availability(now) != Availability::Unavailable
                    && shard.heard_ms() < since_ms
                    && !tried.contains(&shard.id())
            })
            .map(Lease::force)
    }

    /// Connections that all shards together may hold, as far as they were heard.
    pub fn capacity(&self) -> u64 {
        self.shards().iter().map(|shard| u64::from(shard.load().capacity)).sum()
    }

    /// Slots believed free in shards of good availability.
    pub fn free_slots(&self) -> usize {
        let now = self.now_ms();
        self.shards()
            .iter()
            .filter(|shard| shard.availability(now) == Availability::Available)
            .map(|shard| shard.load().candidate().room() as usize)
            .sum()
    }

    /// Whether any shard takes upgrades, full or not.
    pub fn has_open_shard(&self) -> bool {
        let now = self.now_ms();
        self.shards().iter().any(|shard| shard.availability(now) != Availability::Unavailable)
    }
}

impl Default for Table {
    fn default() -> Self {
        Self::new()
    }
}
