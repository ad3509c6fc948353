//! CPU time and memory of another process, and the CPU affinity of this one.
//!
//! CPU time comes from `/proc/PID/task/*/schedstat` (nanoseconds per thread), because `/proc/PID/stat` counts in steps
//! of 10 ms. Ended threads are not included, so only processes that keep their threads may be measured.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use crate::error::{Doing as _, Error, Result};

/// CPU time by thread name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cpu(BTreeMap<String, Duration>);

impl Cpu {
    /// CPU time of process `pid` so far.
    pub fn of(pid: u32) -> Result<Self> {
        let mut by_thread = BTreeMap::<String, Duration>::new();
        let tasks = format!("/proc/{pid}/task");
        for task in fs::read_dir(&tasks).doing(format!("read {tasks}"))? {
            let path = task.doing(format!("read {tasks}"))?.path();
            // A thread may end between the listing and the reading.
            let (Ok(name), Ok(stat)) =
                (fs::read_to_string(path.join("comm")), fs::read_to_string(path.join("schedstat")))
            else {
                continue;
            };
            let nanos = stat.split(' ').next().and_then(|field| field.parse().ok());
            let nanos = nanos.ok_or_else(|| Error::Unusable(format!("{} is no schedstat", path.display())))?;
            *by_thread.entry(name.trim().to_owned()).or_default() += Duration::from_nanos(nanos);
        }
        Ok(Self(by_thread))
    }

    /// CPU time since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let used = |(name, now): (&String, &Duration)| {
            (name.clone(), now.saturating_sub(earlier.0.get(name).copied().unwrap_or_default()))
        };
        Self(self.0.iter().map(used).collect())
    }

    /// Sum over all threads.
    pub fn total(&self) -> Duration {
        self.0.values().sum()
    }

    /// Seconds by thread name.
    pub fn by_thread(&self) -> BTreeMap<String, f64> {
        self.0.iter().map(|(name, used)| (name.clone(), used.as_secs_f64())).collect()
    }

    /// Sum over the threads whose name begins with `prefix`.
    pub fn threads(&self, prefix: &str) -> Duration {
        self.0.iter().filter(|(name, _)| name.starts_with(prefix)).map(|(_, used)| *used).sum()
    }
}

/// Resident bytes of process `pid`.
pub fn rss_bytes(pid: u32) -> Result<u64> {
    let usage = wscluster_runtime::usage::usage(&pid.to_string());
    Ok(usage.ok_or_else(|| Error::Unusable(format!("process {pid} is gone")))?.rss_bytes)
}

/// Children of process `pid`.
pub fn children(pid: u32) -> Result<Vec<u32>> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = fs::read_to_string(&path).doing(format!("read {path}"))?;
    Ok(text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect())
}

/// Pins this thread, and threads that it starts later, to one CPU.
pub fn pin_to(cpu: usize) -> Result<()> {
    let mut set = rustix::thread::CpuSet::new();
    set.set(cpu);
    rustix::thread::sched_setaffinity(None, &set).doing(format!("keep this process on CPU {cpu}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_the_work_of_this_process() {
        let pid = std::process::id();
        let before = Cpu::of(pid).unwrap();
        let mut sum = 0_u64;
        while Cpu::of(pid).unwrap().since(&before).total() < Duration::from_millis(2) {
            sum = (0..100_000_u64).fold(sum, u64::wrapping_add);
        }
        assert_ne!(sum, 1);
        assert_eq!(before.since(&before).total(), Duration::ZERO);
    }

    #[test]
    fn tells_threads_apart() {
        let at = |worker, other| {
            Cpu([("worker-0".to_owned(), Duration::from_secs(worker)), ("rdk".to_owned(), Duration::from_secs(other))]
                .into())
        };
        let used = at(5, 9).since(&at(2, 8));
        assert_eq!((used.threads("worker"), used.total()), (Duration::from_secs(3), Duration::from_secs(4)));
    }
}
