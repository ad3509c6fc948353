//! One connection: what is kept of it, and the small task that reads it.
//!
//! The task owns the connection's life: it alone adds it to and removes it from its worker, so whoever wants a
//! connection gone shuts its socket and lets the task see that. An idle connection owns no buffer.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use rustix::net::{RecvFlags, recv};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use wscluster_ws::close::ABNORMAL;
use wscluster_ws::decode::Decoder;

use super::channels::Membership;
use super::outbox::Due;
use super::slots::Slot;
use super::wheel::Tick;
use super::worker::Worker;

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Messages go both ways.
    Open,
    /// Our Close frame waits or is sent; the peer's did not come yet.
    Closing,
    /// No further frame is expected: what waits is sent, then our side of the socket is shut.
    Ending,
    /// Our side is shut; the peer's end is awaited.
    Shut,
    /// Both Close frames were exchanged: what waits is sent, then the socket is closed at once (RFC 6455 §7.1.1), so
    /// that no slot waits for the peer.
    Done,
}

/// What a worker keeps of a connection. All that fanning out looks at comes first, in one line of the CPU's cache: for
/// thousands of connections each line is fetched anew for each record.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Connection {
    pub(super) stream: TcpStream,
    /// Present while the socket takes no more.
    pub(super) blocked: Option<Box<Blocked>>,
    /// What waits to be sent, behind what `blocked` holds.
    pub(super) due: Due,
    pub(super) phase: Phase,
    /// Serves `/echo`.
    pub(super) echo: bool,
    /// Waits in the flush queue of small channels, or in that of big ones.
    pub(super) queued_small: bool,
    pub(super) queued_bulk: bool,
    /// The close code; [`ABNORMAL`] until a Close frame is sent or received.
    pub(super) close_code: u16,
    /// In the order of their channels.
    pub(super) subscriptions: Vec<Membership>,
    /// Present in the middle of a frame or a message only.
    pub(super) decoder: Option<Box<Decoder>>,
    /// When it came.
    pub(super) since: Tick,
    /// When the peer last showed life, is next pinged, and is next looked at.
    pub(super) seen: Tick,
    pub(super) ping_at: Tick,
    pub(super) deadline: Tick,
    _slot: Slot,
}

/// State of a connection whose socket takes no more.
#[derive(Debug)]
pub(super) struct Blocked {
    /// Rest of the frame that was cut.
    pub(super) remainder: Bytes,
    /// Bytes that may wait beyond the limit, since the client asked for them: a replay.
    pub(super) allowance: usize,
    /// The task that waits for room.
    pub(super) writer: Option<AbortHandle>,
    /// The reading task, when it waits for room too.
    pub(super) reader: Option<Waker>,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, slot: Slot, echo: bool, now: Tick) -> Self {
        Self {
            stream,
            due: Due::NONE,
            phase: Phase::Open,
            echo,
            queued_small: false,
            queued_bulk: false,
            close_code: ABNORMAL,
            subscriptions: Vec::new(),
            decoder: None,
            blocked: None,
            since: now,
            seen: now,
            ping_at: now,
            deadline: now,
            _slot: slot,
        }
    }

    /// Ends it from outside: the reading task sees the end of the socket and removes it.
    pub(super) fn kill(&self) {
        // Fails only on a socket that is dead already, which its task sees too.
        let _ = rustix::net::shutdown(&self.stream, rustix::net::Shutdown::Both);
    }
}

/// The task of a connection.
pub(super) struct Reading {
    worker: Rc<RefCell<Worker>>,
    key: u32,
}

impl Reading {
    /// Reads the connection `key` of `worker`, which this task removes in the end.
    pub(super) fn new(worker: Rc<RefCell<Worker>>, key: u32) -> Self {
        Self { worker, key }
    }
}

/// Reads in one turn before others get theirs.
const READS_A_TURN: usize = 4;

impl Future for Reading {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut worker = self.worker.borrow_mut();
        for _ in 0..READS_A_TURN {
            if worker.must_not_read(self.key, cx) {
                return Poll::Pending;
            }
            let Worker { connections, scratch, .. } = &mut *worker;
            let stream = &connections[self.key as usize].stream;
            if ready!(stream.poll_read_ready(cx)).is_err() {
                return Poll::Ready(());
            }
            let read = read(stream, &mut scratch.borrow_mut());
            match read {
                Ok(0) => {
                    worker.answer_held(self.key);
                    return Poll::Ready(());
                }
                Ok(len) => worker.input(self.key, len),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Poll::Ready(()),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        // Borrowed only when the whole worker is being torn down.
        if let Ok(mut worker) = self.worker.try_borrow_mut() {
            worker.remove(self.key);
        }
    }
}

/// Reads once. A read that does not fill the buffer leaves the socket empty, so readiness is cleared without asking the
/// kernel a second time.
pub(super) fn read(stream: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    let result = stream.try_io(Interest::READABLE, || {
        len = recv(stream, &mut *buffer, RecvFlags::empty())?.0;
        if len > 0 && len < buffer.len() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    });
    match result {
        _ if len > 0 => Ok(len),
        Ok(()) => Ok(0),
        Err(error) => Err(error),
    }
}

/// The task that waits until a blocked connection takes more.
pub(super) struct Writing {
    pub(super) worker: Rc<RefCell<Worker>>,
    pub(super) key: u32,
}

impl Future for Writing {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut worker = self.worker.borrow_mut();
        loop {
            let connection = worker.connections.get(self.key as usize);
            let Some(connection) = connection.filter(|connection| connection.blocked.is_some()) else {
                return Poll::Ready(());
            };
            if ready!(connection.stream.poll_write_ready(cx)).is_err() {
                connection.kill();
                return Poll::Ready(());
            }
            worker.unblock(self.key);
        }
    }
}
