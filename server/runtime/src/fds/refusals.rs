//! Seats for clients that are only refused, because descriptors are short. A client takes one until it has had time to
//! read the answer. If all are taken, the client that has been silent for longest makes room: otherwise a few silent
//! sockets could keep all other clients from getting an answer.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// The seats of a process.
#[derive(Debug)]
pub(super) struct Seats(Mutex<Taken>);

#[derive(Debug)]
struct Taken {
    free: u32,
    next: u64,
    /// In the order of arrival.
    seats: BTreeMap<u64, Seat>,
}

#[derive(Debug)]
struct Seat {
    /// The client's request has arrived.
    is_heard: bool,
    lost: Arc<Notify>,
}

/// A descriptor of the reserve; returned on drop.
#[derive(Debug)]
pub struct RefusalPermit {
    seats: Arc<Seats>,
    number: u64,
    lost: Arc<Notify>,
    /// Another client had to make room for this one.
    pub has_replaced: bool,
}

impl Seats {
    pub(super) fn new(free: u32) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Taken { free, next: 0, seats: BTreeMap::new() })))
    }

    /// Takes a seat: a free one, or that of the client that has been silent for longest, or else that of the client
    /// that has had longest to read its answer.
    pub(super) fn take(self: &Arc<Self>) -> Option<RefusalPermit> {
        let mut taken = self.0.lock();
        let has_replaced = taken.free == 0;
        if has_replaced {
            let silent = taken.seats.iter().find(|(_, seat)| !seat.is_heard).map(|(number, _)| *number);
            let oldest = silent.or_else(|| taken.seats.keys().next().copied())?;
            if let Some(seat) = taken.seats.remove(&oldest) {
                seat.lost.notify_one();
            }
        } else {
            taken.free -= 1;
        }
        let (number, lost) = (taken.next, Arc::new(Notify::new()));
        taken.next += 1;
        taken.seats.insert(number, Seat { is_heard: false, lost: Arc::clone(&lost) });
        Some(RefusalPermit { seats: Arc::clone(self), number, lost, has_replaced })
    }
}

impl RefusalPermit {
    /// The client's request has arrived: silent clients make room before it.
    pub fn heard(&self) {
        if let Some(seat) = self.seats.0.lock().seats.get_mut(&self.number) {
            seat.is_heard = true;
        }
    }

    /// Resolves when this client has to make room: its connection must be closed at once.
    pub async fn lost(&self) {
        self.lost.notified().await;
    }
}

impl Drop for RefusalPermit {
    fn drop(&mut self) {
        let mut taken = self.seats.0.lock();
        // A lost seat belongs to another client.
        if taken.seats.remove(&self.number).is_some() {
            taken.free += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future as _;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    fn is_lost(permit: &RefusalPermit) -> bool {
        pin!(permit.lost()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn a_silent_client_makes_room_before_one_that_is_being_answered() {
        let seats = Seats::new(2);
        let (answered, silent) = (seats.take().unwrap(), seats.take().unwrap());
        answered.heard();
        let third = seats.take().unwrap();
        assert!(third.has_replaced && is_lost(&silent) && !is_lost(&answered));
        third.heard();
        let fourth = seats.take().unwrap();
        assert!(is_lost(&answered) && !is_lost(&third) && !is_lost(&fourth), "the one answered first");
    }

    #[test]
    fn a_lost_seat_is_not_returned_twice() {
        let seats = Seats::new(1);
        let first = seats.take().unwrap();
        let second = seats.take().unwrap();
        drop(first);
        assert!(seats.take().unwrap().has_replaced);
        drop(second);
        assert!(!seats.take().unwrap().has_replaced, "free again");
        assert!(Seats::new(0).take().is_none());
    }
}
