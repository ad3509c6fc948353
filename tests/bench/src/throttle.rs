//! Limits a process to a part of a CPU by stopping and continuing it in turn, as `cpulimit` does. A CPU quota of the
//! kernel would need rights and a cgroup hierarchy that differ between machines.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::Duration;

use rustix::process::Signal;

use crate::child::signal_pid;

/// Length of a cycle: short enough to affect a handshake little.
const PERIOD: Duration = Duration::from_millis(100);

/// A process that is limited until this is dropped.
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
                // If the process has ended, its owner notices.
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
