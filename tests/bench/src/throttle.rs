//! A process that gets a part of a CPU only: stopped and continued in turn, as `cpulimit` does, since a quota of the
//! kernel needs rights and a hierarchy that differ from machine to machine.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::Duration;

use rustix::process::Signal;

use crate::child::signal_pid;

/// Short enough for a handshake not to notice much.
const PERIOD: Duration = Duration::from_millis(100);

/// A process held back until this is dropped.
#[derive(Debug)]
pub struct Throttle {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Throttle {
    /// Lets process `pid` run `percent` of the time.
    pub fn start(pid: u32, percent: u32) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&over);
        let run = PERIOD * percent.clamp(1, 100) / 100;
        let thread = std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) && signal_pid(pid, Signal::CONT).is_ok() {
                sleep(run);
                // One that is gone is noticed by whoever waits for it.
                let _ = signal_pid(pid, Signal::STOP);
                sleep(PERIOD.saturating_sub(run));
            }
            let _ = signal_pid(pid, Signal::CONT);
        });
        Self { over, thread: Some(thread) }
    }
}

impl Drop for Throttle {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
