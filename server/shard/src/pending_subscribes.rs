//! Requests that are served later: when the window has what their client saw elsewhere, when the client has read more, or
//! when Kafka has answered; at their deadline in any case.
//!
//! Each says what it waits for, so that a record costs those that wait for it and nobody else. Bounded for each
//! connection and in all, since a client decides how far ahead it claims to be.

use std::collections::HashMap;

use serde_json::Value;
use wscluster_protocol::request::Since;
use wscluster_protocol::{Partition, Position};

use super::backfill::Asked;
use super::wheel::Tick;

/// Requests of one connection that may be held; further ones are answered at once.
const OF_ONE: usize = 8;

/// Requests, and channels in them, that a worker holds.
const REQUESTS: usize = 1_024;
const CHANNELS: usize = 65_536;

/// A `subscribe` that is served later.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) key: u32,
    pub(super) id: Option<Value>,
    pub(super) channels: Vec<(String, Since)>,
    pub(super) deadline: Tick,
    pub(super) asked: Asked,
    pub(super) until: Until,
}

/// What a request waits for.
#[derive(Debug, PartialEq)]
pub(super) enum Until {
    /// Nothing yet.
    Now,
    /// The window has all of these.
    Reached(Vec<Position>),
    /// The client has read what it asked for before.
    Room,
    /// Kafka has answered.
    Answer,
}

/// The requests that a worker holds.
#[derive(Debug, Default)]
pub(super) struct HeldRequests {
    list: Vec<Held>,
    /// The lowest offset of each partition that somebody waits for, or a lower one.
    lowest: HashMap<Partition, i64>,
}

impl HeldRequests {
    /// Whether a request of `key` for so many `channels` may be held.
    pub(super) fn has_room(&self, key: u32, channels: usize) -> bool {
        let held: usize = self.list.iter().map(|held| held.channels.len()).sum();
        self.list.len() < REQUESTS
            && held + channels <= CHANNELS
            && self.list.iter().filter(|held| held.key == key).count() < OF_ONE
    }

    pub(super) fn push(&mut self, held: Held) {
        self.note(&held);
        self.list.push(held);
    }

    fn note(&mut self, held: &Held) {
        let Until::Reached(positions) = &held.until else { return };
        for Position { partition, offset } in positions {
            let lowest = self.lowest.entry(*partition).or_insert(*offset);
            *lowest = (*lowest).min(*offset);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether somebody may wait for `position`.
    pub(super) fn awaits(&self, position: Position) -> bool {
        self.lowest.get(&position.partition).is_some_and(|lowest| *lowest <= position.offset)
    }

    /// Takes out those that are `due`, in the order they came.
    pub(super) fn take(&mut self, due: impl Fn(&Held) -> bool) -> Vec<Held> {
        let taken: Vec<Held> = self.list.extract_if(.., |held| due(held)).collect();
        if !taken.is_empty() {
            self.lowest.clear();
            let list = std::mem::take(&mut self.list);
            for held in &list {
                self.note(held);
            }
            self.list = list;
        }
        taken
    }

    /// Takes `channels` out of the requests of `key`.
    pub(super) fn leave(&mut self, key: u32, channels: &[String]) {
        for held in self.list.iter_mut().filter(|held| held.key == key) {
            held.channels.retain(|(channel, _)| !channels.contains(channel));
        }
    }

    /// Drops the requests of a connection that has ended.
    pub(super) fn remove(&mut self, key: u32) {
        self.take(|held| held.key == key);
    }
}

#[cfg(test)]
mod tests {
    use wscluster_protocol::Epoch;

    use super::*;

    fn at(offset: i64) -> Position {
        Position { partition: Partition { epoch: Epoch(7), number: 0 }, offset }
    }

    fn held(key: u32, offset: i64) -> Held {
        let channels = vec![("a".to_owned(), Since::At(vec![at(offset)]))];
        let until = Until::Reached(vec![at(offset)]);
        Held { key, id: None, channels, deadline: Tick(9), asked: Asked::Nothing, until }
    }

    #[test]
    fn is_asked_for_by_the_positions_it_waits_for_only() {
        let mut all = HeldRequests::default();
        all.push(held(1, 50));
        all.push(held(2, 40));
        assert_eq!([39, 40, 50].map(|offset| all.awaits(at(offset))), [false, true, true]);
        assert_eq!(all.take(|held| held.key == 2).len(), 1);
        assert_eq!([40, 49, 50].map(|offset| all.awaits(at(offset))), [false, false, true]);
        all.remove(1);
        assert!(all.is_empty() && !all.awaits(at(1_000)));
    }

    #[test]
    fn is_bounded_for_one_and_for_all() {
        let mut all = HeldRequests::default();
        for key in 0..REQUESTS as u32 {
            assert!(all.has_room(key / OF_ONE as u32, 1));
            all.push(held(key / OF_ONE as u32, 50));
            assert_eq!(all.has_room(key / OF_ONE as u32, 1), (key + 1) % OF_ONE as u32 != 0);
        }
        assert!(!all.has_room(u32::MAX, 1));
        all.remove(0);
        assert!(all.has_room(u32::MAX, 1) && !all.has_room(u32::MAX, CHANNELS));
    }

    #[test]
    fn forgets_channels_that_are_left() {
        let mut all = HeldRequests::default();
        all.push(held(1, 50));
        all.leave(2, &["a".to_owned()]);
        assert_eq!(all.list[0].channels.len(), 1);
        all.leave(1, &["a".to_owned()]);
        assert!(all.list[0].channels.is_empty());
    }
}
