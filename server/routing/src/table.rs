//! Every shard as this gateway knows it: atomics that all workers read and write without locks.
//!
//! Loads come from health polls and from the answers to upgrades; handshakes under way are added. A free slot in the
//! table is an estimate: only the shard grants slots. [`Table::set`] adds and removes shards at run time; ids are
//! never reused.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use parking_lot::RwLock;
use rand::Rng;
use tokio::time::Instant;

use super::backend::{Availability, Backend, Lease, ShardId};
use super::member::Member;
use super::pick::{Candidate, choose};

/// All shards.
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

    /// The table's clock: milliseconds since the start, never 0, which stands for "never".
    pub fn now_ms(&self) -> u64 {
        self.start.elapsed().as_millis() as u64 + 1
    }

    /// The present shards.
    pub fn shards(&self) -> Arc<[Arc<Backend>]> {
        Arc::clone(&self.shards.read())
    }

    /// Replaces the list of shards; returns whether it changed. Members that stay keep their state.
    pub fn set(&self, members: &[Member]) -> bool {
        let mut shards = self.shards.write();
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

    /// A lease for a shard with a free slot that is not in `tried`: the emptier of two random ones. Shards of
    /// doubtful availability are used only if no other has a slot, so that no free slot is missed.
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
                    // Another worker has taken the last slot since the load was read.
                    None => drop(open.swap_remove(index)),
                }
            }
        })
    }

    /// A lease for a shard without news since `since_ms`, whatever its known load: the last attempt of a client whose
    /// wait is over.
    pub fn pick_silent(&self, since_ms: u64, tried: &[ShardId]) -> Option<Lease> {
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

    /// Connections that all shards together may hold, as far as known.
    pub fn capacity(&self) -> u64 {
        self.shards().iter().map(|shard| u64::from(shard.load().capacity)).sum()
    }

    /// Free slots of available shards, as far as known.
    pub fn free_slots(&self) -> usize {
        let now = self.now_ms();
        self.shards()
            .iter()
            .filter(|shard| shard.availability(now) == Availability::Available)
            .map(|shard| shard.load().candidate().room() as usize)
            .sum()
    }

    /// Whether any shard accepts upgrades, full or not.
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
