//! CPU use of the server, of this process and of all other programs of the machine, from `/proc`.

use std::time::{Duration, Instant};

use wscluster_runtime::usage::{Usage, usage};

/// CPU and memory during the hold.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CpuUse {
    /// CPU of the server, in percent of one CPU.
    pub(super) cpu_percent: Option<f64>,
    /// Memory of the server at the end.
    pub(super) rss_bytes: Option<u64>,
    /// CPU of other programs, in percent of one CPU.
    pub(super) others_cpu_percent: Option<f64>,
}

/// CPU time used so far by the server, by this process and by the whole machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    at: Instant,
    server: Usage,
    own: Usage,
    machine: Duration,
}

impl Moment {
    /// The current values; `pid` is the server.
    pub(super) fn now(pid: u32) -> Option<Self> {
        let stat = std::fs::read_to_string("/proc/stat").ok()?;
        Some(Self { at: Instant::now(), server: usage(&pid.to_string())?, own: usage("self")?, machine: busy(&stat)? })
    }

    /// The use since `before`.
    pub(super) fn since(&self, before: &Self) -> CpuUse {
        let elapsed = self.at.duration_since(before.at).as_secs_f64().max(1e-3);
        let percent = |now: Duration, then: Duration| 100.0 * now.saturating_sub(then).as_secs_f64() / elapsed;
        let server = percent(self.server.cpu, before.server.cpu);
        let own = percent(self.own.cpu, before.own.cpu);
        let others = percent(self.machine, before.machine) - server - own;
        CpuUse {
            cpu_percent: Some(server),
            rss_bytes: Some(self.server.rss_bytes),
            others_cpu_percent: Some(others.max(0.0)),
        }
    }
}

/// Busy time of all CPUs: the first line of `/proc/stat`, in hundredths of a second, without idle and iowait.
fn busy(stat: &str) -> Option<Duration> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u64> = line.split_whitespace().map_while(|field| field.parse().ok()).collect();
    // The fields are user nice system idle iowait irq softirq steal. Guest time is part of user.
    let busy = [0, 1, 2, 5, 6, 7].iter().map(|field| ticks.get(*field)).sum::<Option<u64>>()?;
    Some(Duration::from_millis(busy * 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds_up_the_busy_time_of_the_machine() {
        let stat = "cpu  100 20 30 5000 600 7 8 9 50 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n";
        assert_eq!(busy(stat), Some(Duration::from_millis(1_740)));
        assert_eq!(busy("cpu  1 2"), None);
        assert_eq!(busy(""), None);
    }

    #[test]
    fn tells_its_own_work_from_that_of_others() {
        let moment = |secs, server, own, machine| Moment {
            at: Instant::now() + Duration::from_secs(secs),
            server: Usage { cpu: Duration::from_secs(server), rss_bytes: 7 },
            own: Usage { cpu: Duration::from_secs(own), rss_bytes: 0 },
            machine: Duration::from_secs(machine),
        };
        let seen = moment(10, 5, 2, 110).since(&moment(0, 0, 0, 100));
        let close = |value: Option<f64>, to: f64| (value.unwrap() - to).abs() < 0.1;
        assert!(close(seen.cpu_percent, 50.0) && close(seen.others_cpu_percent, 30.0), "{seen:?}");
        assert_eq!(seen.rss_bytes, Some(7));
    }
}
