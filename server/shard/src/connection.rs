//! One connection: its state, and the task that reads it.
//!
//! Only the reading task removes a connection from its worker. To end a connection, other code shuts its socket,
//! which wakes the task. An idle connection owns no buffer.

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
use super::handshake::Principal;
use super::outbox::Due;
use super::slots::Slot;
use super::wheel::Tick;
use super::worker::{Upgraded, Worker};

/// The phases of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnectionPhase {
    /// Messages flow in both directions.
    Open,
    /// Our Close frame is due or sent; the peer's has not arrived.
    Closing,
    /// No further frame is expected: due frames are sent, then our side of the socket is shut.
    Ending,
    /// Our side is shut; the peer has not closed its side.
    Shut,
    /// Both Close frames were exchanged: due frames are sent, then the socket is closed at once (RFC 6455 §7.1.1), so
    /// that no slot waits for the peer.
    Done,
}

/// The state of a connection. The fields that fan-out reads come first, in one cache line: with thousands of
/// connections, each line is fetched from memory for each record.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Connection {
    pub(super) stream: TcpStream,
    /// Present while the socket accepts no more bytes.
    pub(super) blocked: Option<Box<Blocked>>,
    /// Frames to send, after the remainder in `blocked`.
    pub(super) due: Due,
    pub(super) phase: ConnectionPhase,
    /// Whether this is a connection to `/echo`.
    pub(super) echo: bool,
    /// Whether it is in the flush queue of small channels, or of big ones.
    pub(super) queued_small: bool,
    pub(super) queued_bulk: bool,
    /// The close code; [`ABNORMAL`] until a Close frame is sent or received.
    pub(super) close_code: u16,
    /// Sorted by channel.
    pub(super) subscriptions: Vec<Membership>,
    /// Present only between the parts of a frame or a message.
    pub(super) decoder: Option<Box<Decoder>>,
    /// When it was added.
    pub(super) since: Tick,
    /// When the peer was last seen alive, when it is pinged next, and when the timer wheel checks it next.
    pub(super) seen: Tick,
    pub(super) ping_at: Tick,
    pub(super) deadline: Tick,
    /// Who the client is. Rules about channels will read it.
    _principal: Principal,
    _slot: Slot,
}

/// State of a connection whose socket accepts no more bytes.
#[derive(Debug)]
pub(super) struct Blocked {
    /// Rest of a frame that was written in part.
    pub(super) remainder: Bytes,
    /// Bytes that may wait beyond the limit because the client asked for them in a replay.
    pub(super) allowance: usize,
    /// Bytes that waited when a closing connection last got more time.
    pub(super) waiting_at_mark: usize,
    /// The task that waits until the socket accepts more.
    pub(super) writer: Option<AbortHandle>,
    /// The reading task, while it waits for the same.
    pub(super) reader: Option<Waker>,
}

impl Connection {
    pub(super) fn new(upgraded: Upgraded, now: Tick) -> Self {
        let Upgraded { stream, slot, principal, echo } = upgraded;
        Self {
            stream,
            due: Due::NONE,
            phase: ConnectionPhase::Open,
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
            _principal: principal,
            _slot: slot,
        }
    }

    /// Shuts the socket; the reading task then removes the connection.
    pub(super) fn kill(&self) {
        // Fails only for a socket that is dead already, which the task notices too.
        let _ = rustix::net::shutdown(&self.stream, rustix::net::Shutdown::Both);
    }
}

/// The reading task of a connection.
pub(super) struct Reading {
    worker: Rc<RefCell<Worker>>,
    key: u32,
}

impl Reading {
    /// Reads connection `key` of `worker`, and removes it when dropped.
    pub(super) fn new(worker: Rc<RefCell<Worker>>, key: u32) -> Self {
        Self { worker, key }
    }
}

/// Reads in one turn, before other tasks get theirs.
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
                    worker.answer_pending(self.key);
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
        // Borrowed only while the whole worker is dropped.
        if let Ok(mut worker) = self.worker.try_borrow_mut() {
            worker.remove(self.key);
        }
    }
}

/// Reads once. A read that does not fill the buffer has emptied the socket, so readiness is cleared without a second
/// system call.
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

/// The task that waits until a blocked connection accepts more bytes.
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
