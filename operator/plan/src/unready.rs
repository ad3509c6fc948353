//! Shards of the wanted revision that are not as they should be: a replacement waits for them, so that a bad revision stops at its
//! first shard.

use crate::standing::View;
use crate::{Blocked, Shard, State};

/// Those shards.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unready {
    /// One that fails or is silent.
    broken: Option<u32>,
    /// How many are not ready yet, or not for every gateway.
    starting: u32,
    /// The highest of those, and whether it is ready, and not for every gateway.
    highest: Option<(u32, bool)>,
}

impl Unready {
    /// Of the first `replicas` shards.
    pub(crate) fn new(view: &View<'_>, replicas: u32) -> Self {
        let is_starting = |ordinal: &u32| {
            let state = |shard: &Shard| {
                !view.is_stale(shard)
                    && (matches!(shard.state, State::Starting | State::Draining) || is_unrouted(shard))
            };
            view.observed.at(*ordinal).is_none_or(state)
        };
        let is_broken = |shard: &&Shard| {
            let state = matches!(shard.state, State::Failing | State::Silent);
            shard.ordinal < view.keep && !view.is_stale(shard) && state
        };
        let starting: Vec<_> = (0..replicas.min(view.keep)).rev().filter(is_starting).collect();
        let unrouted = |ordinal: u32| (ordinal, view.observed.at(ordinal).is_some_and(is_unrouted));
        Self {
            broken: view.observed.shards.iter().rev().find(is_broken).map(|shard| shard.ordinal),
            starting: starting.len() as u32,
            highest: starting.first().copied().map(unrouted),
        }
    }

    /// What keeps a replacement from starting while `moving` of the `most` are in motion.
    pub(crate) fn obstacle(self, moving: u32, most: u32) -> Option<Blocked> {
        if let Some(ordinal) = self.broken {
            return Some(Blocked::NotReady { ordinal });
        }
        let (ordinal, is_unrouted) = self.highest.filter(|_| moving + self.starting >= most)?;
        Some(if is_unrouted { Blocked::Unrouted { ordinal } } else { Blocked::NotReady { ordinal } })
    }
}

fn is_unrouted(shard: &Shard) -> bool {
    matches!(shard.state, State::Ready | State::Full) && !shard.routed
}
