//! A worker: an event loop on its own thread, with its own listener, connections, channels and window.
//!
//! No socket crosses threads and nothing is locked. State is borrowed for one synchronous step, never across an
//! `await`. Each concern adds its methods to [`Worker`] in its own file.

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
use super::connection::{Connection, ConnectionPhase, Reading, Writing};
use super::drain::WorkerCommand;
use super::handshake::Principal;
use super::metrics::{CloseLabel, Tally};
use super::outbox::{Due, Outbox};
use super::pending_subscribes::PendingSubscribes;
use super::shared::Shared;
use super::slots::Slot;
use super::wheel::{TICK, Wheel};
use super::window::Window;
use super::{accept, fanout};

/// Size of the read buffer, which all connections of a worker share.
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
    pub(super) pending: PendingSubscribes,
    /// Connections with frames due from small channels, and from big channels only.
    pub(super) small: VecDeque<u32>,
    pub(super) bulk: VecDeque<u32>,
    /// Bytes due to connections that wait for their turn, and to blocked connections.
    pub(super) due_bytes: usize,
    pub(super) blocked_bytes: usize,
    pub(super) subscriptions: usize,
    pub(super) open: u32,
    pub(super) tally: Tally,
    /// The read buffer. Shared, so that a panic while its bytes are handled releases it.
    pub(super) scratch: Rc<RefCell<Vec<u8>>>,
    /// Buffer that joins the frames of one connection for one write.
    pub(super) gathered: Vec<u8>,
}

/// A socket whose handshake has succeeded.
pub(super) struct Upgraded {
    pub(super) stream: TcpStream,
    pub(super) slot: Slot,
    pub(super) principal: Principal,
    /// Whether it is a connection to `/echo`.
    pub(super) echo: bool,
}

/// What a worker runs on.
pub(super) struct WorkerStart {
    pub(super) index: usize,
    pub(super) shared: Arc<Shared>,
    pub(super) listener: TcpListener,
    pub(super) feed: mpsc::Receiver<Update>,
    pub(super) commands: mpsc::UnboundedReceiver<WorkerCommand>,
}

/// Runs a worker until its `commands` end.
pub(super) fn run(start: WorkerStart) -> std::io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    let WorkerStart { index, shared, listener, feed, mut commands } = start;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let worker = Worker::new(index, shared);
        let mut critical = tokio::task::JoinSet::new();
        critical.spawn_local(accept::run(Rc::clone(&worker), listener));
        critical.spawn_local(ticks(Rc::clone(&worker)));
        critical.spawn_local(fanout::run(Rc::clone(&worker), feed));
        loop {
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => worker.borrow_mut().execute(command),
                    None => return Ok(()),
                },
                // A worker without one of its tasks only looks alive. Its end lets clients find another shard.
                Some(Err(panic)) = critical.join_next() => return Err(std::io::Error::other(panic)),
            }
        }
    })
}

/// Advances the timer wheel by one step each [`TICK`]. It does not catch up on time in which this
/// task did not run: clients must not time out because the process was stopped, so it pings them first.
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
                pending: PendingSubscribes::default(),
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

    /// Adds an upgraded connection. `first` are the bytes that followed its head; `hello` is its first message, where
    /// its subprotocol has one.
    pub(super) fn add(&mut self, upgraded: Upgraded, first: &[u8], hello: Option<bytes::Bytes>) {
        let now = self.wheel.now();
        let key = self.connections.insert(Connection::new(upgraded, now)) as u32;
        self.open += 1;
        // Before the client's bytes are handled, so that the task that ends the connection exists whatever they
        // contain.
        if let Some(me) = self.me.upgrade() {
            tokio::task::spawn_local(Reading::new(me, key));
        }
        self.start_liveness(key);
        if let Some(hello) = hello {
            self.send(key, hello);
        }
        // The head may have been read in several steps, so the bytes after it may exceed the buffer.
        for piece in first.chunks(SCRATCH) {
            self.scratch.borrow_mut()[..piece.len()].copy_from_slice(piece);
            self.input(key, piece.len());
        }
        self.flush(key);
    }

    /// Removes a connection whose reading task ends.
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
        if connection.phase == ConnectionPhase::Open {
            self.open -= 1;
        }
        self.pending.remove(key);
        let code = metric_label(connection.close_code).into();
        self.shared.metrics.closes.get_or_create(&CloseLabel { code }).inc();
    }

    /// Starts the task that waits until the socket of `key` accepts more bytes.
    pub(super) fn await_room(&mut self, key: u32) {
        let Some(worker) = self.me.upgrade() else { return };
        let writer = tokio::task::spawn_local(Writing { worker, key }).abort_handle();
        if let Some(blocked) = &mut self.connections[key as usize].blocked {
            blocked.writer = Some(writer);
        }
    }

    /// Publishes the counts of this worker to the shared metrics.
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
