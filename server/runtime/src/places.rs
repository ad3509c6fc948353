//! A limited number of places for connections whose clients may keep them for nothing. If all are taken, a new
//! connection takes the place of another one, so nobody keeps others out by holding connections open.
//!
//! The connection that has made no progress for the longest time makes room. Connections whose request has not arrived
//! come first, so the others survive a crowd of silent ones.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// The places.
#[derive(Debug)]
pub struct Places {
    limit: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    connections: HashMap<u64, Connection>,
    /// Counts every progress of any connection.
    clock: u64,
}

#[derive(Debug)]
struct Connection {
    age: Age,
    lost: Arc<Notify>,
}

/// The smallest one makes room first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Age {
    is_heard: bool,
    /// The clock at the last progress.
    progress: u64,
}

/// The place of one connection, which dropping it frees.
#[derive(Debug)]
pub struct Place {
    id: u64,
    lost: Arc<Notify>,
    places: Arc<Places>,
    /// Another connection had to make room for this one.
    pub has_replaced: bool,
}

impl Places {
    /// This many places.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, taken: Mutex::default() })
    }

    /// Takes a place for a new connection; another one makes room if none is free. `None` only if there are no places
    /// at all.
    pub fn take(self: &Arc<Self>) -> Option<Place> {
        let mut taken = self.taken.lock();
        let has_replaced = taken.connections.len() >= self.limit;
        if has_replaced && !taken.make_room() {
            return None;
        }
        let (id, lost) = (taken.tick(), Arc::new(Notify::new()));
        let age = Age { is_heard: false, progress: id };
        taken.connections.insert(id, Connection { age, lost: Arc::clone(&lost) });
        Some(Place { id, lost, places: Arc::clone(self), has_replaced })
    }

    /// Takes its place from the connection that is first to make room.
    pub fn make_room(&self) {
        self.taken.lock().make_room();
    }
}

impl Taken {
    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    /// Whether there was a connection.
    fn make_room(&mut self) -> bool {
        let first = self.connections.iter().min_by_key(|(_, connection)| connection.age).map(|(id, _)| *id);
        let connection = first.and_then(|id| self.connections.remove(&id));
        connection.map(|connection| connection.lost.notify_one()).is_some()
    }
}

impl Place {
    /// The request of this connection has arrived. Its age stays that of its arrival.
    pub fn heard(&self) {
        if let Some(connection) = self.places.taken.lock().connections.get_mut(&self.id) {
            connection.age.is_heard = true;
        }
    }

    /// A request of this connection has arrived, or its answer is complete.
    pub fn progress(&self) {
        let mut taken = self.places.taken.lock();
        let progress = taken.tick();
        if let Some(connection) = taken.connections.get_mut(&self.id) {
            connection.age = Age { is_heard: true, progress };
        }
    }

    /// Resolves when another connection takes this place: this one must be closed at once.
    pub async fn lost(&self) {
        self.lost.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // A lost place belongs to another connection.
        self.places.taken.lock().connections.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future as _;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    fn is_lost(place: &Place) -> bool {
        pin!(place.lost()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn a_silent_client_makes_room_before_one_that_is_being_answered() {
        let places = Places::new(2);
        let (answered, silent) = (places.take().unwrap(), places.take().unwrap());
        answered.heard();
        let third = places.take().unwrap();
        assert!(third.has_replaced && is_lost(&silent) && !is_lost(&answered));
        third.heard();
        let fourth = places.take().unwrap();
        assert!(is_lost(&answered) && !is_lost(&third) && !is_lost(&fourth), "the one answered first");
    }

    #[test]
    fn a_lost_place_is_not_returned_twice() {
        let places = Places::new(1);
        let first = places.take().unwrap();
        let second = places.take().unwrap();
        drop(first);
        assert!(places.take().unwrap().has_replaced);
        drop(second);
        assert!(!places.take().unwrap().has_replaced, "free again");
        assert!(Places::new(0).take().is_none());
    }
}
