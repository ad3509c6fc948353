//! One worker: an event loop on a thread of its own, with its own listener, connections, channels and window.
//!
//! No socket crosses threads and nothing here is locked. State is borrowed for one synchronous step at a time, never
//! across an `await`; each concern adds its methods to [`Worker`] in its own file.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::TcpListener;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use slab::Slab;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc;
use tokio::time::Instant;
use wscluster_kafka::feed::Update;
use wscluster_protocol::close::metric_label;

use super::channels::Channels;
use super::connection::{Connection, Phase, Reading, Writing};
use super::drain::Order;
use super::metrics::{CloseLabel, Tally};
use super::outbox::{Due, Outbox};
use super::pending_subscribes::HeldRequests;
use super::shared::Shared;
use super::slots::Slot;
use super::wheel::{TICK, Wheel};
use super::window::Window;
use super::{accept, fanout};

/// Bytes one read takes at most; the buffer is shared by all connections of a worker.
const SCRATCH: usize = 64 << 10;

/// State of a worker.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) me: Weak<RefCell<Self>>,
    index: usize,
    pub(super) shared: Arc<Shared>,
    pub(super) connections: Slab<Connection>,
    pub(super) channels: Channels,
    pub(super) outbox: Outbox,
    pub(super) window: Window,
    pub(super) wheel: Wheel,
    /// Requests that are served later.
    pub(super) held: HeldRequests,
    /// Connections with something due: of small channels, and of big ones.
    pub(super) small: VecDeque<u32>,
    pub(super) bulk: VecDeque<u32>,
    /// Bytes due to connections that wait for their turn, and to those that are blocked.
    pub(super) due_bytes: usize,
    pub(super) blocked_bytes: usize,
    pub(super) subscriptions: usize,
    pub(super) open: u32,
    pub(super) tally: Tally,
    /// Shared, so that a panic over what was read gives it back.
    pub(super) scratch: Rc<RefCell<Vec<u8>>>,
    /// Where frames for one connection alone are put together.
    pub(super) gathered: Vec<u8>,
}

/// What a worker runs on.
pub(super) struct Start {
    pub(super) index: usize,
    pub(super) shared: Arc<Shared>,
    pub(super) listener: TcpListener,
    pub(super) feed: mpsc::Receiver<Update>,
    pub(super) orders: mpsc::UnboundedReceiver<Order>,
}

/// Runs a worker until its `orders` end.
pub(super) fn run(start: Start) -> std::io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    let Start { index, shared, listener, feed, mut orders } = start;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let worker = Worker::new(index, shared);
        let mut vital = tokio::task::JoinSet::new();
        vital.spawn_local(accept::run(Rc::clone(&worker), listener));
        vital.spawn_local(ticks(Rc::clone(&worker)));
        vital.spawn_local(fanout::run(Rc::clone(&worker), feed));
        loop {
            tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => worker.borrow_mut().obey(order),
                    None => return Ok(()),
                },
                // A worker that only seems to work is worse than none: its clients find another shard.
                Some(Err(panic)) = vital.join_next() => return Err(std::io::Error::other(panic)),
            }
        }
    })
}

/// Turns the wheel, one step a tick of the clock. Time in which this task could not run does not count: a client is not
/// silent because nobody listened, and a shard that was stopped for a while pings before it judges.
async fn ticks(worker: Rc<RefCell<Worker>>) {
    let mut at = Instant::now();
    loop {
        at += TICK;
        tokio::time::sleep_until(at).await;
        let mut worker = worker.borrow_mut();
        worker.shared.metrics.loop_lag.observe(at.elapsed().as_secs_f64());
        worker.tick();
        worker.publish();
        if at.elapsed() > TICK {
            at = Instant::now();
        }
    }
}

impl Worker {
    pub(super) fn new(index: usize, shared: Arc<Shared>) -> Rc<RefCell<Self>> {
        Rc::new_cyclic(|me| {
            RefCell::new(Self {
                me: Weak::clone(me),
                index,
                window: Window::new(&shared.settings.source.history),
                shared,
                connections: Slab::new(),
                channels: Channels::default(),
                outbox: Outbox::default(),
                wheel: Wheel::new(),
                held: HeldRequests::default(),
                small: VecDeque::new(),
                bulk: VecDeque::new(),
                due_bytes: 0,
                blocked_bytes: 0,
                subscriptions: 0,
                open: 0,
                tally: Tally::default(),
                scratch: Rc::new(RefCell::new(vec![0; SCRATCH])),
                gathered: Vec::new(),
            })
        })
    }

    /// Takes over an upgraded socket, with the bytes that came behind its head, and greets it where it asked for that.
    pub(super) fn add(&mut self, stream: TcpStream, slot: Slot, echo: bool, first: &[u8], hello: Option<bytes::Bytes>) {
        let now = self.wheel.now();
        let key = self.connections.insert(Connection::new(stream, slot, echo, now)) as u32;
        self.open += 1;
        // Before anything of the client's is looked at: whatever comes of that, there is a task to end the connection.
        if let Some(me) = self.me.upgrade() {
            tokio::task::spawn_local(Reading::new(me, key));
        }
        self.start_liveness(key);
        if let Some(hello) = hello {
            self.send(key, hello);
        }
        // The head may have been collected from several reads: more than the buffer takes at once.
        for piece in first.chunks(SCRATCH) {
            self.scratch.borrow_mut()[..piece.len()].copy_from_slice(piece);
            self.input(key, piece.len());
        }
        self.flush(key);
    }

    /// Ends the connection of a task that ends.
    pub(super) fn remove(&mut self, key: u32) {
        self.leave_all(key);
        let Some(mut connection) = self.connections.try_remove(key as usize) else { return };
        let bytes = self.outbox.bytes(connection.due);
        match connection.blocked.take() {
            Some(blocked) => {
                self.blocked_bytes -= bytes + blocked.remainder.len();
                if let Some(writer) = blocked.writer {
                    writer.abort();
                }
            }
            None => self.due_bytes -= bytes,
        }
        self.outbox.release(std::mem::replace(&mut connection.due, Due::NONE));
        if connection.phase == Phase::Open {
            self.open -= 1;
        }
        self.held.remove(key);
        let code = metric_label(connection.close_code).into();
        self.shared.metrics.closes.get_or_create(&CloseLabel { code }).inc();
    }

    /// Starts the task that waits for room in the socket of `key`.
    pub(super) fn await_room(&mut self, key: u32) {
        let Some(worker) = self.me.upgrade() else { return };
        let writer = tokio::task::spawn_local(Writing { worker, key }).abort_handle();
        if let Some(blocked) = &mut self.connections[key as usize].blocked {
            blocked.writer = Some(writer);
        }
    }

    /// Makes what was counted visible to others.
    pub(super) fn publish(&mut self) {
        let Self { tally, shared, .. } = self;
        tally.publish(&shared.metrics, self.subscriptions, self.channels.len(), self.due_bytes, self.blocked_bytes);
        shared.open[self.index].store(self.open, Relaxed);
    }
}

/// Unix milliseconds.
pub(super) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
