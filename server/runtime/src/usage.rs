//! CPU and memory that a process uses, from `/proc` and its cgroup.

use std::time::{Duration, Instant};

/// CPU and memory of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// CPU time used so far, all threads.
    pub cpu: Duration,
    /// Resident bytes.
    pub rss_bytes: u64,
}

/// Clock ticks a second in `/proc`: a constant of the Linux ABI (`USER_HZ`).
const USER_HZ: u64 = 100;

/// Usage of process `pid`, or of this one for `"self"`; `None` if `/proc` has no such process.
pub fn usage(pid: &str) -> Option<Usage> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is a name in parentheses that may contain spaces: count from the last parenthesis (proc(5)).
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    let pages = fields.get(21)?.parse::<u64>().ok()?;
    let rss_bytes = pages * rustix::param::page_size() as u64;
    Some(Usage { cpu: Duration::from_millis(ticks * 1_000 / USER_HZ), rss_bytes })
}

/// Turns successive [`Usage`] values of this process into a CPU percentage (100 = one core busy).
#[derive(Debug)]
pub struct CpuMeter {
    at: Instant,
    cpu: Duration,
    percentage: f64,
}

impl CpuMeter {
    /// Shortest time over which a percentage is computed.
    const STEP: Duration = Duration::from_secs(1);

    /// Starts measuring now.
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

/// The memory limit of this process's cgroup (v2, then v1) or the memory of the machine, whichever is smaller.
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
    fn measures_this_process() {
        let usage = usage("self").unwrap();
        assert!(usage.rss_bytes > 100_000, "{usage:?}");
    }

    #[test]
    fn has_no_usage_of_a_process_that_does_not_exist() {
        assert_eq!(usage("0"), None);
    }

    #[test]
    fn finds_a_memory_limit() {
        assert!(memory_limit_bytes().unwrap() > 1 << 20);
    }
}
