//! The open connections of an admin port.
//!
//! Every place can be taken from the connection that has made no progress for the longest time, so nobody keeps a
//! probe out by holding connections open. Connections that never sent a complete request head make room first, so the
//! kept connections of gateways survive a crowd of silent ones.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// A limited number of places. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Connections {
    limit: usize,
    open: Arc<Mutex<Open>>,
}

#[derive(Debug, Default)]
struct Open {
    connections: HashMap<u64, Connection>,
    /// Counts every progress of any connection.
    clock: u64,
}

#[derive(Debug)]
struct Connection {
    age: Age,
    taken: Arc<Notify>,
}

/// The smallest one makes room first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Age {
    has_sent_a_head: bool,
    /// The clock at the last progress.
    progress: u64,
}

/// The place of one connection, which dropping it frees.
#[derive(Debug)]
pub(super) struct Place {
    id: u64,
    taken: Arc<Notify>,
    connections: Connections,
}

impl Connections {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, open: Arc::default() }
    }

    /// A place for a new connection; another one makes room if none is free.
    pub(super) fn place(&self) -> Place {
        let mut open = self.open.lock();
        if open.connections.len() >= self.limit {
            open.make_room();
        }
        let id = open.tick();
        let taken = Arc::new(Notify::new());
        let age = Age { has_sent_a_head: false, progress: id };
        open.connections.insert(id, Connection { age, taken: Arc::clone(&taken) });
        Place { id, taken, connections: self.clone() }
    }

    /// Closes the connection that is first to make room.
    pub(super) fn make_room(&self) {
        self.open.lock().make_room();
    }
}

impl Open {
    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn make_room(&mut self) {
        let first = self.connections.iter().min_by_key(|(_, connection)| connection.age).map(|(id, _)| *id);
        if let Some(connection) = first.and_then(|id| self.connections.remove(&id)) {
            connection.taken.notify_one();
        }
    }
}

impl Place {
    /// A request head is complete, or its answer is.
    pub(super) fn progress(&self) {
        let mut open = self.connections.open.lock();
        let progress = open.tick();
        if let Some(connection) = open.connections.get_mut(&self.id) {
            connection.age = Age { has_sent_a_head: true, progress };
        }
    }

    /// Waits until another connection takes this place.
    pub(super) async fn taken(&self) {
        self.taken.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.open.lock().connections.remove(&self.id);
    }
}
