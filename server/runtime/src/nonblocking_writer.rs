//! Lines on their way to standard error or standard output. A thread of its own writes them: a reader that stands still (Ctrl-S, a
//! paused pager) or is gone holds up nobody who has something to say, and fails nobody.
//!
//! What does not fit is dropped and counted, and the count is written where the lines are missing, as soon as somebody reads again.

use std::io::{self, Write};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// After a write to a descriptor that somebody else has made non-blocking, and that has no room.
const REST: Duration = Duration::from_millis(10);

/// What takes the place of so many lines that were dropped.
pub type Notice = Box<dyn Fn(u64) -> String + Send>;

/// Takes lines for one reader, as long as the process lives; cheap to clone.
#[derive(Clone, Debug)]
pub struct Spool(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Bytes that may wait, beside those that are being written.
    limit: usize,
    waiting: Mutex<Waiting>,
    filled: Condvar,
    drained: Condvar,
    /// Bytes that the reader took.
    taken: AtomicU64,
}

#[derive(Debug, Default)]
struct Waiting {
    lines: Vec<u8>,
    /// Lines dropped behind those that wait.
    dropped: u64,
    /// Other lines are being written.
    writing: bool,
}

impl Waiting {
    fn is_over(&self) -> bool {
        self.lines.is_empty() && !self.writing
    }
}

impl Spool {
    /// Writes to `out`, with at most `limit` bytes that wait.
    pub fn start(out: impl Write + Send + 'static, limit: usize, notice: Notice) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            limit,
            waiting: Mutex::default(),
            filled: Condvar::new(),
            drained: Condvar::new(),
            taken: AtomicU64::new(0),
        });
        let spool = Self(Arc::clone(&shared));
        thread::Builder::new().name("spool".into()).spawn(move || shared.run(out, &notice))?;
        Ok(spool)
    }

    /// Takes `line`, to which it adds the end. Never waits.
    pub fn line(&self, line: &str) {
        self.take(&[line.as_bytes(), b"\n"]);
    }

    /// Takes bytes as they are, all or none of them. Never waits.
    pub fn bytes(&self, bytes: &[u8]) {
        self.take(&[bytes]);
    }

    fn take(&self, parts: &[&[u8]]) {
        let mut waiting = self.0.lock();
        let len: usize = parts.iter().map(|part| part.len()).sum();
        // Behind a loss nothing more until the loss is told, so that it is told where it was.
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

    /// Whether everything was written.
    pub fn is_drained(&self) -> bool {
        self.0.lock().is_over()
    }

    /// Waits until everything was written, or until the reader has taken nothing for as long as `patience`; says which.
    pub fn flush(&self, patience: Duration) -> bool {
        let mut waiting = self.0.lock();
        let mut taken = self.0.taken.load(Relaxed);
        while !waiting.is_over() {
            let (woken, timeout) =
                self.0.drained.wait_timeout(waiting, patience).unwrap_or_else(PoisonError::into_inner);
            waiting = woken;
            let before = std::mem::replace(&mut taken, self.0.taken.load(Relaxed));
            if timeout.timed_out() && taken == before {
                return waiting.is_over();
            }
        }
        true
    }
}

/// For a logger, which writes one line at a time.
impl Write for Spool {
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
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, mut out: impl Write, notice: &Notice) {
        // Lines of which nobody was told yet that they are missing.
        let mut dropped = 0;
        let tell = |out: &mut _, dropped: &mut u64| {
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
            let mut waiting =
                self.filled.wait_while(waiting, |w| w.lines.is_empty()).unwrap_or_else(PoisonError::into_inner);
            waiting.writing = true;
            let (lines, behind) = (std::mem::take(&mut waiting.lines), std::mem::take(&mut waiting.dropped));
            drop(waiting);
            tell(&mut out, &mut dropped);
            dropped += self.write(&mut out, &lines) + behind;
            tell(&mut out, &mut dropped);
        }
    }

    /// Writes all of `lines`; says how many are left where nobody reads any more.
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

/// Standard output or standard error without the lock and the buffer of the standard library: whoever waits there holds up nobody.
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
