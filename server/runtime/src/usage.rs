//! What this process is told (signals, a parent that went away) and what it uses (CPU, memory).

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncReadExt as _;
use tokio::process::Child;
use tokio::signal::unix::{SignalKind, signal};

/// Why a process should end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// SIGTERM or SIGINT: drain, then end.
    Signal,
    /// The parent is gone (standard input closed): end soon.
    Orphaned,
}

/// Resolves at SIGTERM or SIGINT and, when `watch_parent`, at the end of standard input: a parent holds the other end
/// of that pipe, so the kernel closes it however the parent dies.
///
/// Call it again for a second signal.
pub async fn stop_requested(watch_parent: bool) -> std::io::Result<Stop> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    let orphaned = async {
        if !watch_parent {
            std::future::pending::<()>().await;
        }
        let mut stdin = tokio::net::unix::pipe::Receiver::from_file(std::fs::File::from(
            rustix::io::dup(rustix::stdio::stdin()).map_err(std::io::Error::from)?,
        ))?;
        let mut byte = [0];
        while stdin.read(&mut byte).await? > 0 {}
        Ok::<_, std::io::Error>(())
    };
    tokio::select! {
        _ = term.recv() => Ok(Stop::Signal),
        _ = int.recv() => Ok(Stop::Signal),
        end = orphaned => end.map(|()| Stop::Orphaned),
    }
}

/// Prints the one line by which a child process tells its parent where it listens:
/// `{"listening":{"ws":"host:port","admin":"host:port"}}`.
pub fn announce_listening(ws: std::net::SocketAddr, admin: std::net::SocketAddr) {
    use std::io::Write as _;
    let line = serde_json::json!({ "listening": { "ws": ws.to_string(), "admin": admin.to_string() } });
    // A parent that does not read is no reason to end.
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Sends `signal` to a child if it still runs.
pub fn signal_child(child: &Child, signal: Signal) -> std::io::Result<()> {
    // Its id is none once it was waited for: until then the pid cannot belong to anybody else.
    match child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())) {
        Some(pid) => Ok(kill_process(pid, signal)?),
        None => Ok(()),
    }
}

/// Event loops where nothing else is said: one per CPU.
pub fn default_workers() -> u32 {
    std::thread::available_parallelism().map_or(1, |cpus| cpus.get() as u32)
}

/// CPU and memory of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// CPU time used so far, all threads.
    pub cpu: Duration,
    /// Resident bytes.
    pub rss_bytes: u64,
}

/// Clock ticks a second in `/proc`: a constant of the Linux ABI (`USER_HZ`).
const USER_HZ: u64 = 100;

/// Usage of process `pid`, or of this one for `"self"`; `None` where `/proc` does not tell.
pub fn usage(pid: &str) -> Option<Usage> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is a name in parentheses that may hold spaces: count from the last one.
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    let pages = fields.get(21)?.parse::<u64>().ok()?;
    let rss_bytes = pages * rustix::param::page_size() as u64;
    Some(Usage { cpu: Duration::from_millis(ticks * 1_000 / USER_HZ), rss_bytes })
}

/// Whether a debugger holds process `pid`.
pub fn is_traced(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"));
    tracer.is_some_and(|tracer| tracer.trim() != "0")
}

/// Turns successive [`Usage`] values of this process into a CPU percentage (100 = one core busy).
#[derive(Debug)]
pub struct CpuMeter {
    at: Instant,
    cpu: Duration,
    percentage: f64,
}

impl CpuMeter {
    /// Shortest time over which a percentage is taken.
    const STEP: Duration = Duration::from_secs(1);

    /// Starts now.
    pub fn start() -> Self {
        Self { at: Instant::now(), cpu: usage("self").unwrap_or_default().cpu, percentage: 0.0 }
    }

    /// The percentage over the last second or more.
    pub fn percentage(&mut self) -> f64 {
        let elapsed = self.at.elapsed();
        if elapsed >= Self::STEP {
            let cpu = usage("self").unwrap_or_default().cpu;
            self.percentage = 100.0 * cpu.saturating_sub(self.cpu).as_secs_f64() / elapsed.as_secs_f64();
            (self.at, self.cpu) = (Instant::now(), cpu);
        }
        self.percentage
    }
}

/// The memory limit of this process's cgroup (v2, then v1), or the machine's memory.
pub fn memory_limit_bytes() -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let kib = text.strip_prefix("MemTotal:")?.trim_start().split(' ').next()?.parse::<u64>().ok()?;
        Some(kib * 1_024)
    });
    let cgroup = read("/sys/fs/cgroup/memory.max").or_else(|| read("/sys/fs/cgroup/memory/memory.limit_in_bytes"));
    match (cgroup, machine) {
        (Some(cgroup), Some(machine)) => Some(cgroup.min(machine)),
        (cgroup, machine) => cgroup.or(machine),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_usage_of_this_process() {
        let usage = usage("self").unwrap();
        assert!(usage.rss_bytes > 100_000, "{usage:?}");
    }

    #[test]
    fn knows_no_usage_of_a_process_that_is_not_there() {
        assert_eq!(usage("0"), None);
    }

    #[test]
    fn sees_no_debugger_where_there_is_none() {
        assert!(!is_traced(0), "no such process");
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        assert!(!is_traced(child.id()));
        child.kill().and_then(|()| child.wait()).unwrap();
    }

    #[test]
    fn finds_a_memory_limit() {
        assert!(memory_limit_bytes().unwrap() > 1 << 20);
    }
}
