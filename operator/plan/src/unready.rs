//! Finds shards of the wanted revision that are not ready. A replacement waits for them, so a bad revision stops at
//! its first shard.

use crate::view::View;
use crate::{Blocked, Shard, State};

/// The unready shards of the wanted revision.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unready {
    /// The highest one that fails or is silent.
    broken: Option<u32>,
    /// How many are not ready, or not known to every gateway.
    starting: u32,
    /// The highest of those, and whether it is ready but not known to every gateway.
    highest: Option<(u32, bool)>,
}

impl Unready {
    /// The unready shards among the first `replicas`.
    pub(crate) fn new(view: &View<'_>, replicas: u32) -> Self {
        let is_starting = |ordinal: &u32| {
            let state = |shard: &Shard| {
                !view.is_stale(shard)
                    && (matches!(shard.state, State::Starting | State::Draining) || is_unknown_to_gateways(shard))
            };
            view.observed.at(*ordinal).is_none_or(state)
        };
        let is_broken = |shard: &&Shard| {
            let state = matches!(shard.state, State::Failing | State::Silent);
            shard.ordinal < view.keep && !view.is_stale(shard) && state
        };
        let starting: Vec<_> = (0..replicas.min(view.keep)).rev().filter(is_starting).collect();
        let unknown = |ordinal: u32| (ordinal, view.observed.at(ordinal).is_some_and(is_unknown_to_gateways));
        Self {
            broken: view.observed.shards.iter().rev().find(is_broken).map(|shard| shard.ordinal),
            starting: starting.len() as u32,
            highest: starting.first().copied().map(unknown),
        }
    }

    /// What blocks a replacement while `moving` of at most `most` shards are in motion.
    pub(crate) fn obstacle(self, moving: u32, most: u32) -> Option<Blocked> {
        if let Some(ordinal) = self.broken {
            return Some(Blocked::NotReady { ordinal });
        }
        let (ordinal, is_unknown) = self.highest.filter(|_| moving + self.starting >= most)?;
        Some(if is_unknown { Blocked::UnknownToGateways { ordinal } } else { Blocked::NotReady { ordinal } })
    }
}

fn is_unknown_to_gateways(shard: &Shard) -> bool {
    matches!(shard.state, State::Ready | State::Full) && !shard.known_to_gateways
}
