//! The queue of upgrades while no shard has a slot: bounded, one per process, in order of arrival.
//!
//! A ticket keeps its place if the slot it was called for is taken, and leaves the queue when it is dropped. No more
//! tickets are called than there are slots.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Poll, Waker};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// The queue of a gateway process.
#[derive(Debug)]
pub(crate) struct Queue {
    most: usize,
    len: AtomicUsize,
    places: Mutex<Places>,
    need: Notify,
}

#[derive(Debug, Default)]
struct Places {
    next: u64,
    waiting: BTreeMap<u64, Turn>,
    called: usize,
}

#[derive(Debug)]
enum Turn {
    Waiting(Option<Waker>),
    /// Called to try; holds a claim on a slot until it has picked a shard.
    Called,
    /// Has picked a shard: the table counts its handshake in flight instead.
    Trying,
}

/// A place in the queue.
#[derive(Debug)]
pub(crate) struct Ticket {
    queue: Arc<Queue>,
    number: u64,
}

impl Queue {
    /// A queue for at most `most` tickets.
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, len: AtomicUsize::new(0), places: Mutex::default(), need: Notify::new() })
    }

    /// Number of tickets, waiting or called.
    pub(crate) fn len(&self) -> usize {
        self.len.load(Relaxed)
    }

    /// Whether there is no ticket.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Resolves when the next client joins.
    pub(crate) fn needed(&self) -> Notified<'_> {
        self.need.notified()
    }

    /// Takes the last place; `None` if the queue is full.
    pub(crate) fn join(self: &Arc<Self>) -> Option<Ticket> {
        let mut places = self.lock();
        if places.waiting.len() >= self.most {
            return None;
        }
        let number = places.next;
        places.next += 1;
        places.waiting.insert(number, Turn::Waiting(None));
        self.len.store(places.waiting.len(), Relaxed);
        drop(places);
        self.need.notify_waiters();
        Some(Ticket { queue: Arc::clone(self), number })
    }

    /// Calls the first waiting tickets: `slots` of them, minus those that were called and have not picked yet.
    pub(crate) fn call(&self, slots: usize) {
        if self.is_empty() {
            return;
        }
        let mut places = self.lock();
        let more = slots.saturating_sub(places.called);
        let mut wakers = Vec::new();
        let first = places.waiting.values_mut().filter(|turn| matches!(turn, Turn::Waiting(_))).take(more);
        let called = first
            .map(|turn| {
                if let Turn::Waiting(Some(waker)) = std::mem::replace(turn, Turn::Called) {
                    wakers.push(waker);
                }
            })
            .count();
        places.called += called;
        drop(places);
        wakers.into_iter().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        self.places.lock()
    }
}

impl Ticket {
    /// Resolves when this ticket is called.
    pub(crate) async fn called(&self) {
        poll_fn(|cx| match self.queue.lock().waiting.get_mut(&self.number) {
            Some(Turn::Waiting(waker)) => {
                *waker = Some(cx.waker().clone());
                Poll::Pending
            }
            _ => Poll::Ready(()),
        })
        .await;
    }

    /// The ticket has picked a shard.
    pub(crate) fn picked(&self) {
        self.turn(Turn::Trying);
    }

    /// The attempt failed: the ticket waits again in the same place.
    pub(crate) fn wait_again(&self) {
        self.turn(Turn::Waiting(None));
    }

    fn turn(&self, next: Turn) {
        let mut places = self.queue.lock();
        let before = places.waiting.insert(self.number, next);
        places.called -= usize::from(matches!(before, Some(Turn::Called)));
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut places = self.queue.lock();
        let before = places.waiting.remove(&self.number);
        places.called -= usize::from(matches!(before, Some(Turn::Called)));
        self.queue.len.store(places.waiting.len(), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::Context;

    use super::*;

    fn is_called(ticket: &Ticket) -> bool {
        pin!(ticket.called()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    fn calls(tickets: &[Ticket]) -> Vec<bool> {
        tickets.iter().map(is_called).collect()
    }

    #[test]
    fn calls_in_order_of_arrival_and_never_more_than_slots() {
        let queue = Queue::new(9);
        let tickets: Vec<_> = (0..4).map(|_| queue.join().unwrap()).collect();
        queue.call(0);
        assert_eq!(calls(&tickets), [false; 4]);
        queue.call(2);
        queue.call(2);
        assert_eq!(calls(&tickets), [true, true, false, false]);
        tickets[0].picked();
        queue.call(2);
        assert_eq!(calls(&tickets), [true, true, true, false]);
    }

    #[test]
    fn keeps_the_place_of_a_ticket_whose_attempt_failed() {
        let queue = Queue::new(9);
        let tickets: Vec<_> = (0..2).map(|_| queue.join().unwrap()).collect();
        queue.call(1);
        tickets[0].picked();
        tickets[0].wait_again();
        queue.call(1);
        assert_eq!(calls(&tickets), [true, false]);
    }

    #[test]
    fn calls_the_next_ticket_when_a_called_one_leaves() {
        let queue = Queue::new(9);
        let mut tickets: Vec<_> = (0..3).map(|_| queue.join().unwrap()).collect();
        queue.call(1);
        tickets.remove(0);
        assert_eq!(calls(&tickets), [false, false]);
        queue.call(1);
        assert_eq!(calls(&tickets), [true, false]);
    }

    #[tokio::test]
    async fn notifies_the_poller_when_a_client_joins() {
        let queue = Queue::new(9);
        let (first, needed) = (queue.join().unwrap(), queue.needed());
        let mut needed = pin!(needed);
        assert!(needed.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        drop(first);
        let _second = queue.join().unwrap();
        assert!(needed.poll(&mut Context::from_waker(Waker::noop())).is_ready());
    }

    #[test]
    fn is_bounded() {
        let queue = Queue::new(2);
        let first = queue.join().unwrap();
        let _second = queue.join().unwrap();
        assert!(queue.join().is_none());
        drop(first);
        assert!(queue.join().is_some());
    }

    #[test]
    fn wakes_the_one_it_calls() {
        let queue = Queue::new(2);
        let ticket = queue.join().unwrap();
        let woken = Arc::new(Flag::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut called = pin!(ticket.called());
        assert!(called.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        queue.call(1);
        assert_eq!(woken.0.load(Relaxed), 1);
        assert!(called.poll(&mut Context::from_waker(&waker)).is_ready());
    }

    #[derive(Default)]
    struct Flag(AtomicUsize);

    impl std::task::Wake for Flag {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }
}
