//! `subscribe` requests that cannot be answered yet. A request waits until the window reaches the client's positions,
//! until the client has read an earlier replay, or until a backfill has answered; at its deadline it is answered as
//! far as possible.
//!
//! Each request names what it waits for, so a new record costs nothing for requests that wait for something else. The
//! number is bounded for each connection and in total, because clients choose the positions that they claim to have
//! seen.

use std::collections::HashMap;

use serde_json::Value;
use wscluster_protocol::request::Since;
use wscluster_protocol::{Partition, Position};

use super::backfill::BackfillState;
use super::wheel::Tick;

/// Pending requests of one connection; further ones are answered at once.
const PER_CONNECTION: usize = 8;

/// Pending requests of a worker, and the channels in them.
const REQUESTS: usize = 1_024;
const CHANNELS: usize = 65_536;

/// A `subscribe` that cannot be answered yet.
#[derive(Debug)]
pub(super) struct PendingSubscribe {
    pub(super) key: u32,
    pub(super) id: Option<Value>,
    pub(super) channels: Vec<(String, Since)>,
    pub(super) deadline: Tick,
    pub(super) backfill: BackfillState,
    pub(super) waits_for: WaitsFor,
}

/// What a request waits for.
#[derive(Debug, PartialEq)]
pub(super) enum WaitsFor {
    /// Nothing.
    Nothing,
    /// The window reaches all of these.
    Positions(Vec<Position>),
    /// The client reads the replays that it asked for before.
    Room,
    /// The backfill answers.
    Backfill,
}

/// The pending requests of a worker.
#[derive(Debug, Default)]
pub(super) struct PendingSubscribes {
    list: Vec<PendingSubscribe>,
    /// A lower bound of the offsets that requests wait for, by partition.
    lowest: HashMap<Partition, i64>,
}

impl PendingSubscribes {
    /// Whether there is room for a request of connection `key` with this number of `channels`.
    pub(super) fn has_room(&self, key: u32, channels: usize) -> bool {
        let pending: usize = self.list.iter().map(|request| request.channels.len()).sum();
        self.list.len() < REQUESTS
            && pending + channels <= CHANNELS
            && self.list.iter().filter(|request| request.key == key).count() < PER_CONNECTION
    }

    pub(super) fn push(&mut self, request: PendingSubscribe) {
        self.note(&request);
        self.list.push(request);
    }

    fn note(&mut self, request: &PendingSubscribe) {
        let WaitsFor::Positions(positions) = &request.waits_for else { return };
        for Position { partition, offset } in positions {
            let lowest = self.lowest.entry(*partition).or_insert(*offset);
            *lowest = (*lowest).min(*offset);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether a request may wait for `position`.
    pub(super) fn awaits(&self, position: Position) -> bool {
        self.lowest.get(&position.partition).is_some_and(|lowest| *lowest <= position.offset)
    }

    /// Removes and returns the requests that are `due`, oldest first.
    pub(super) fn take(&mut self, due: impl Fn(&PendingSubscribe) -> bool) -> Vec<PendingSubscribe> {
        let taken: Vec<PendingSubscribe> = self.list.extract_if(.., |request| due(request)).collect();
        if !taken.is_empty() {
            self.lowest.clear();
            let list = std::mem::take(&mut self.list);
            for request in &list {
                self.note(request);
            }
            self.list = list;
        }
        taken
    }

    /// Removes `channels` from the requests of connection `key`.
    pub(super) fn leave(&mut self, key: u32, channels: &[String]) {
        for request in self.list.iter_mut().filter(|request| request.key == key) {
            request.channels.retain(|(channel, _)| !channels.contains(channel));
        }
    }

    /// Drops the requests of a connection that has ended.
    pub(super) fn remove(&mut self, key: u32) {
        self.take(|request| request.key == key);
    }
}

#[cfg(test)]
mod tests {
    use wscluster_protocol::Epoch;

    use super::*;

    fn at(offset: i64) -> Position {
        Position { partition: Partition { epoch: Epoch(7), number: 0 }, offset }
    }

    fn request(key: u32, offset: i64) -> PendingSubscribe {
        let channels = vec![("a".to_owned(), Since::At(vec![at(offset)]))];
        let waits_for = WaitsFor::Positions(vec![at(offset)]);
        PendingSubscribe {
            key,
            id: None,
            channels,
            deadline: Tick(9),
            backfill: BackfillState::NotRequested,
            waits_for,
        }
    }

    #[test]
    fn only_the_positions_that_requests_wait_for_are_awaited() {
        let mut all = PendingSubscribes::default();
        all.push(request(1, 50));
        all.push(request(2, 40));
        assert_eq!([39, 40, 50].map(|offset| all.awaits(at(offset))), [false, true, true]);
        assert_eq!(all.take(|request| request.key == 2).len(), 1);
        assert_eq!([40, 49, 50].map(|offset| all.awaits(at(offset))), [false, false, true]);
        all.remove(1);
        assert!(all.is_empty() && !all.awaits(at(1_000)));
    }

    #[test]
    fn is_bounded_for_each_connection_and_in_total() {
        let mut all = PendingSubscribes::default();
        for key in 0..REQUESTS as u32 {
            assert!(all.has_room(key / PER_CONNECTION as u32, 1));
            all.push(request(key / PER_CONNECTION as u32, 50));
            assert_eq!(all.has_room(key / PER_CONNECTION as u32, 1), (key + 1) % PER_CONNECTION as u32 != 0);
        }
        assert!(!all.has_room(u32::MAX, 1));
        all.remove(0);
        assert!(all.has_room(u32::MAX, 1) && !all.has_room(u32::MAX, CHANNELS));
    }

    #[test]
    fn unsubscribed_channels_leave_pending_requests() {
        let mut all = PendingSubscribes::default();
        all.push(request(1, 50));
        all.leave(2, &["a".to_owned()]);
        assert_eq!(all.list[0].channels.len(), 1);
        all.leave(1, &["a".to_owned()]);
        assert!(all.list[0].channels.is_empty());
    }
}
