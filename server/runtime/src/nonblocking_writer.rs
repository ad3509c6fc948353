//! Writes lines to standard error or standard output from a thread of its own. A reader that stalls (Ctrl-S, a paused
//! pager) or has gone neither blocks nor fails the threads that write.
//!
//! Lines beyond a limit are dropped and counted. The count is written in their place as soon as the reader reads
//! again.

use std::io::{self, Write};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};

/// Pause before another write to a full descriptor that another process has made non-blocking.
const REST: Duration = Duration::from_millis(10);

/// The line that takes the place of a number of dropped lines.
pub type Notice = Box<dyn Fn(u64) -> String + Send>;

/// Accepts lines for one reader, until the process ends. Cheap to clone.
#[derive(Clone, Debug)]
pub struct NonblockingWriter(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Bytes that may wait, beside those being written.
    limit: usize,
    waiting: Mutex<Waiting>,
    filled: Condvar,
    drained: Condvar,
    /// Bytes that the reader has accepted.
    taken: AtomicU64,
}

#[derive(Debug, Default)]
struct Waiting {
    lines: Vec<u8>,
    /// Lines dropped after the waiting ones.
    dropped: u64,
    /// The thread is writing lines.
    writing: bool,
}

impl Waiting {
    fn is_over(&self) -> bool {
        self.lines.is_empty() && !self.writing
    }
}

impl NonblockingWriter {
    /// Starts a thread that writes to `out`; at most `limit` bytes wait.
    pub fn start(out: impl Write + Send + 'static, limit: usize, notice: Notice) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            limit,
            waiting: Mutex::default(),
            filled: Condvar::new(),
            drained: Condvar::new(),
            taken: AtomicU64::new(0),
        });
        let writer = Self(Arc::clone(&shared));
        thread::Builder::new().name("log-writer".into()).spawn(move || shared.run(out, &notice))?;
        Ok(writer)
    }

    /// Writes `line` and a line feed. Never blocks.
    pub fn line(&self, line: &str) {
        self.take(&[line.as_bytes(), b"\n"]);
    }

    /// Writes `bytes` as they are: all or none of them. Never blocks.
    pub fn bytes(&self, bytes: &[u8]) {
        self.take(&[bytes]);
    }

    fn take(&self, parts: &[&[u8]]) {
        let mut waiting = self.0.lock();
        let len: usize = parts.iter().map(|part| part.len()).sum();
        // After a loss nothing is accepted until the count is written, so that it appears in the right place.
        let fits = waiting.lines.is_empty() || (waiting.dropped == 0 && waiting.lines.len() + len <= self.0.limit);
        if !fits {
            waiting.dropped += 1;
            return;
        }
        for part in parts {
            waiting.lines.extend_from_slice(part);
        }
        drop(waiting);
        self.0.filled.notify_one();
    }

    /// Whether everything is written.
    pub fn is_drained(&self) -> bool {
        self.0.lock().is_over()
    }

    /// Waits until everything is written, or until the reader has accepted nothing for `patience`. Returns whether
    /// all is written.
    pub fn flush(&self, patience: Duration) -> bool {
        let mut waiting = self.0.lock();
        let mut taken = self.0.taken.load(Relaxed);
        while !waiting.is_over() {
            let timeout = self.0.drained.wait_for(&mut waiting, patience);
            let before = std::mem::replace(&mut taken, self.0.taken.load(Relaxed));
            if timeout.timed_out() && taken == before {
                return waiting.is_over();
            }
        }
        true
    }
}

/// For loggers, which write one line per call.
impl Write for NonblockingWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock()
    }

    fn run(&self, mut out: impl Write, notice: &Notice) {
        // Lost lines that no notice has reported yet.
        let mut dropped = 0;
        let report = |out: &mut _, dropped: &mut u64| {
            if *dropped > 0 && self.write(out, (notice(*dropped) + "\n").as_bytes()) == 0 {
                *dropped = 0;
            }
        };
        loop {
            let mut waiting = self.lock();
            waiting.writing = false;
            if waiting.lines.is_empty() {
                self.drained.notify_all();
            }
            self.filled.wait_while(&mut waiting, |waiting| waiting.lines.is_empty());
            waiting.writing = true;
            let (lines, behind) = (std::mem::take(&mut waiting.lines), std::mem::take(&mut waiting.dropped));
            drop(waiting);
            report(&mut out, &mut dropped);
            dropped += self.write(&mut out, &lines) + behind;
            report(&mut out, &mut dropped);
        }
    }

    /// Writes `lines`; returns the number of lines that are lost because the reader has gone.
    fn write(&self, out: &mut impl Write, mut lines: &[u8]) -> u64 {
        while !lines.is_empty() {
            match out.write(lines) {
                Ok(0) => break,
                Ok(len) => {
                    lines = &lines[len..];
                    self.taken.fetch_add(len as u64, Relaxed);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(REST),
                Err(_) => break,
            }
        }
        lines.split_inclusive(|byte| *byte == b'\n').count() as u64
    }
}

/// Standard output or standard error without the lock and the buffer of the standard library, so that a blocked write
/// blocks no other thread.
#[derive(Debug)]
pub struct Raw(pub BorrowedFd<'static>);

impl Write for Raw {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(self.0, bytes)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
