//! Writes due frames to sockets: one write for each socket where possible, without waiting.
//!
//! A connection is blocked while its socket accepts no more bytes: the rest of the current frame and the frames after
//! it wait, and a task waits until the socket is writable. [`super::slow`] limits how much may wait.

use std::io;
use std::task::Context;

use bytes::Bytes;

use super::channels::ChannelId;
use super::connection::{Blocked, ConnectionPhase};
use super::outbox::Due;
use super::worker::Worker;

/// Bytes that are joined for one write to one connection.
const GATHER: usize = 64 << 10;

/// Memory of a waiting frame, counted at least: an answer to an empty ping has only two bytes.
const FRAME: usize = 128;

/// How many bytes a socket accepted.
enum Taken {
    All,
    /// This many; it accepts no more now.
    Some(usize),
    /// The socket is dead.
    Never,
}

impl Worker {
    /// Adds a frame that no policy may drop. [`Self::flush`] sends it.
    pub(super) fn send(&mut self, key: u32, frame: Bytes) {
        self.count_waiting(key, frame.len());
        let connection = &mut self.connections[key as usize];
        connection.due = self.outbox.push(connection.due, frame, None);
    }

    /// Adds a frame of a replay. [`Self::flush`] sends it.
    pub(super) fn send_asked(&mut self, key: u32, frame: Bytes, channel: Option<ChannelId>) {
        self.count_waiting(key, frame.len());
        let connection = &mut self.connections[key as usize];
        connection.due = self.outbox.push_asked(connection.due, frame, channel);
    }

    fn count_waiting(&mut self, key: u32, len: usize) {
        match self.connections[key as usize].blocked {
            Some(_) => self.blocked_bytes += len,
            None => self.due_bytes += len,
        }
    }

    /// Bytes that wait to be written to a connection.
    pub(super) fn waiting(&self, key: u32) -> usize {
        let connection = &self.connections[key as usize];
        let remainder = connection.blocked.as_ref().map_or(0, |blocked| blocked.remainder.len());
        remainder + self.outbox.bytes(connection.due)
    }

    /// Writes the due frames of a connection. For a blocked connection, its writing task does.
    pub(super) fn flush(&mut self, key: u32) {
        let connection = &mut self.connections[key as usize];
        if connection.blocked.is_some() {
            return;
        }
        (connection.queued_small, connection.queued_bulk) = (false, false);
        let due = std::mem::replace(&mut connection.due, Due::NONE);
        if !due.is_none() {
            self.due_bytes -= self.outbox.bytes(due);
            let (remainder, due) = self.write_due(key, due);
            if remainder.is_empty() && due.is_none() {
                // Everything is written.
            } else {
                self.blocked_bytes += remainder.len() + self.outbox.bytes(due);
                let connection = &mut self.connections[key as usize];
                connection.due = due;
                let blocked = Blocked { remainder, allowance: 0, waiting_at_mark: 0, writer: None, reader: None };
                connection.blocked = Some(Box::new(blocked));
                self.await_room(key);
                return;
            }
        }
        self.flushed(key);
    }

    /// Continues to write to a blocked connection. It is no longer blocked when everything is written.
    pub(super) fn unblock(&mut self, key: u32) {
        let before = self.waiting(key);
        let connection = &mut self.connections[key as usize];
        let Some(mut blocked) = connection.blocked.take() else { return };
        let due = std::mem::replace(&mut connection.due, Due::NONE);
        let (remainder, due) = match self.write(key, &blocked.remainder) {
            Taken::All => self.write_due(key, due),
            Taken::Some(len) => (blocked.remainder.slice(len..), due),
            Taken::Never => {
                self.outbox.release(due);
                (Bytes::new(), Due::NONE)
            }
        };
        let after = remainder.len() + self.outbox.bytes(due);
        self.blocked_bytes = self.blocked_bytes - before + after;
        // The replay is written first; later frames have the usual limit.
        blocked.allowance = blocked.allowance.saturating_sub(before - after);
        let now = self.wheel.now();
        let connection = &mut self.connections[key as usize];
        // A client that accepts bytes is alive: a slow reader answers pings only after reading all bytes before them.
        if after < before {
            connection.seen = now;
        }
        if let Some(reader) = blocked.reader.take() {
            reader.wake();
        }
        if remainder.is_empty() && due.is_none() {
            if let Some(writer) = blocked.writer {
                // Another task than the writing one may have called this; then the writing task must not outlive the
                // block.
                writer.abort();
            }
            if self.connections[key as usize].phase != ConnectionPhase::Open {
                // The kernel still has to send the last bytes.
                self.linger(key);
            }
            self.flushed(key);
        } else {
            blocked.remainder = remainder;
            connection.due = due;
            connection.blocked = Some(blocked);
        }
    }

    /// Whether the reading task must wait because the client does not read the answers to its requests.
    pub(super) fn must_not_read(&mut self, key: u32, cx: &Context<'_>) -> bool {
        let limit = if self.connections[key as usize].echo { 0 } else { self.shared.settings.max_queue() };
        let frames = self.outbox.len(self.connections[key as usize].due) as usize;
        let waiting = self.waiting(key).max(frames * FRAME);
        let connection = &mut self.connections[key as usize];
        match &mut connection.blocked {
            Some(blocked) if connection.phase == ConnectionPhase::Open && waiting >= limit + blocked.allowance => {
                blocked.reader = Some(cx.waker().clone());
                true
            }
            _ => false,
        }
    }

    /// Called when everything is written.
    fn flushed(&mut self, key: u32) {
        let connection = &mut self.connections[key as usize];
        match connection.phase {
            ConnectionPhase::Ending => {
                connection.phase = ConnectionPhase::Shut;
                let _ = rustix::net::shutdown(&connection.stream, rustix::net::Shutdown::Write);
            }
            ConnectionPhase::Done => connection.kill(),
            ConnectionPhase::Open | ConnectionPhase::Closing | ConnectionPhase::Shut => {}
        }
    }

    /// Writes the frames of `due`. Returns the rest of the last frame and the frames that did not fit.
    fn write_due(&mut self, key: u32, due: Due) -> (Bytes, Due) {
        let frames = self.outbox.len(due);
        if let Some(all) = self.outbox.shared(due) {
            return match self.write(key, &all) {
                Taken::Some(len) => self.cut(due, len),
                Taken::All => self.done(due, frames),
                Taken::Never => self.done(due, 0),
            };
        }
        let mut written = 0;
        let mut list = self.outbox.frames(due).into_iter().peekable();
        while list.peek().is_some() {
            let mut all = std::mem::take(&mut self.gathered);
            all.clear();
            while let Some(frame) = list.next_if(|frame| all.is_empty() || all.len() + frame.len() <= GATHER) {
                all.extend_from_slice(&frame);
            }
            let taken = self.write(key, &all);
            let len = all.len();
            all.shrink_to(GATHER);
            self.gathered = all;
            match taken {
                Taken::All => written += len,
                Taken::Some(len) => return self.cut(due, written + len),
                Taken::Never => return self.done(due, 0),
            }
        }
        self.done(due, frames)
    }

    fn done(&mut self, due: Due, delivered: u32) -> (Bytes, Due) {
        self.tally.deliveries += u64::from(delivered);
        self.outbox.release(due);
        (Bytes::new(), Due::NONE)
    }

    fn cut(&mut self, due: Due, written: usize) -> (Bytes, Due) {
        let before = self.outbox.len(due);
        let (remainder, rest) = self.outbox.cut(due, written);
        self.tally.deliveries += u64::from(before - self.outbox.len(rest));
        (remainder, rest)
    }

    fn write(&mut self, key: u32, bytes: &[u8]) -> Taken {
        let stream = &self.connections[key as usize].stream;
        let mut written = 0;
        while written < bytes.len() {
            self.tally.writes += 1;
            match wscluster_runtime::sockets::send(stream, &bytes[written..]) {
                Ok(len) => written += len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.tally.bytes += written as u64;
                    return Taken::Some(written);
                }
                Err(_) => {
                    // The reading task removes the connection.
                    self.connections[key as usize].kill();
                    return Taken::Never;
                }
            }
        }
        self.tally.bytes += written as u64;
        Taken::All
    }
}
