//! One run of the same clients against one system, second by second.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use serde::Serialize;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::Args;
use crate::bail;
use crate::cpu::Cpu;
use crate::error::Result;
use crate::fleet::{Counts, Door, Fleet};
use crate::wire::Failure;

/// The result of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Trial {
    /// The system under load.
    pub name: String,
    /// Good handshakes.
    pub opened: u64,
    /// Failed handshakes by name.
    pub failures: BTreeMap<String, u64>,
    /// Connections lost after a good handshake, by what ended them.
    pub lost: BTreeMap<String, u64>,
    /// Connections of each shard at the end, as the system reports them.
    pub connections: Vec<usize>,
    /// CPU samples of the guard.
    pub samples: Vec<f64>,
    /// Records the guard dropped.
    pub dropped: u64,
    /// One entry per second.
    pub seconds: Vec<Second>,
}

/// Totals so far at one moment, and the CPU used in the second before it.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Second {
    /// Seconds since the start.
    pub at: f64,
    /// Good handshakes.
    pub opened: u64,
    /// Failed handshakes.
    pub failed: u64,
    /// Messages received.
    pub messages: u64,
    /// CPU of all server processes in the second before, % of one CPU.
    pub cpu_percent: f64,
}

impl Trial {
    /// Handshakes that failed, and connections that were lost right after one: a 101 alone is no success.
    pub fn failed(&self) -> u64 {
        self.failures.values().chain(self.lost.values()).sum()
    }

    /// Handshakes answered by 503.
    pub fn refused(&self) -> u64 {
        self.failures.iter().filter(|(why, _)| why.starts_with("status 503")).map(|(_, n)| n).sum()
    }

    /// Percentage of failed handshakes.
    pub fn failed_percent(&self) -> f64 {
        let handshakes = self.opened + self.failures.values().sum::<u64>();
        100.0 * self.failed() as f64 / handshakes as f64
    }

    /// Every reason with its count.
    pub fn reasons(&self) -> String {
        let all = self.failures.iter().chain(&self.lost).map(|(why, n)| format!("{n} × {why}"));
        Some(all.collect::<Vec<_>>().join(", ")).filter(|text| !text.is_empty()).unwrap_or_else(|| "–".to_owned())
    }

    /// Messages per second and client over the last five seconds.
    pub fn last_rate(&self) -> f64 {
        let [.., then, _, _, _, _, now] = &self.seconds[..] else { return 0.0 };
        (now.messages - then.messages) as f64 / (now.at - then.at) / self.opened as f64
    }

    /// Mean CPU, good and failed handshakes after `from` and until `to`.
    pub fn between(&self, from: f64, to: f64) -> (f64, u64, u64) {
        let within: Vec<_> = self.seconds.iter().filter(|second| second.at > from && second.at <= to).collect();
        let before = self.seconds.iter().rev().find(|second| second.at <= from);
        let (Some(last), n) = (within.last(), within.len() as f64) else { return (0.0, 0, 0) };
        let (opened, failed) = before.map_or((0, 0), |second| (second.opened, second.failed));
        let cpu = within.iter().map(|second| second.cpu_percent).sum::<f64>() / n;
        (cpu, last.opened - opened, last.failed - failed)
    }
}

/// Connects the clients to `door` while `source` publishes. `pids` are all processes of the system.
pub async fn run_trial(
    args: &Args,
    name: String,
    door: Door,
    pids: &[u32],
    source: impl Future<Output = Result<()>>,
) -> Result<Trial> {
    let mut fleet = Fleet::new(door);
    let counts = fleet.counts();
    let clients = async {
        fleet.launch(args.clients, args.ramp).await;
        fleet.settle(args.clients).await;
        sleep(Duration::from_secs(args.hold)).await;
    };
    let mut seconds = vec![];
    tokio::select! {
        () = clients => {}
        watched = watch(&counts, pids, &mut seconds) => watched?,
        published = source => {
            published?;
            bail!("publishing ended before the clients did");
        }
    }
    // Read before the fleet is dropped: connections that it closes itself are no losses.
    let by_name = |failures: &BTreeMap<Failure, u64>| failures.iter().map(|(why, n)| (why.to_string(), *n)).collect();
    Ok(Trial {
        name,
        opened: counts.opened.get(),
        failures: by_name(&counts.failures.borrow()),
        lost: counts.lost.borrow().clone(),
        connections: vec![],
        samples: vec![],
        dropped: 0,
        seconds,
    })
}

async fn watch(counts: &Rc<Counts>, pids: &[u32], seconds: &mut Vec<Second>) -> Result<()> {
    let used = || pids.iter().map(|&pid| Ok(Cpu::of(pid)?.total())).sum::<Result<Duration>>();
    let began = std::time::Instant::now();
    let (mut last, mut before) = (began, used()?);
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let (now, total) = (std::time::Instant::now(), used()?);
        let cpu_percent = 100.0 * total.saturating_sub(before).as_secs_f64() / (now - last).as_secs_f64();
        seconds.push(Second {
            at: (now - began).as_secs_f64(),
            opened: counts.opened.get(),
            failed: counts.failed() + counts.lost(),
            messages: counts.messages.get(),
            cpu_percent,
        });
        (last, before) = (now, total);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial() -> Trial {
        let second = |at, opened, failed| Second { at, opened, failed, messages: opened * 10, cpu_percent: 50.0 };
        Trial {
            name: String::new(),
            opened: 6,
            failures: [("status 503 Service Unavailable".to_owned(), 3)].into(),
            lost: [("end of stream without a close frame".to_owned(), 1)].into(),
            connections: vec![],
            samples: vec![],
            dropped: 0,
            seconds: (1..=6).map(|i| second(f64::from(i), i as u64, 0)).collect(),
        }
    }

    #[test]
    fn counts_a_connection_lost_after_its_101_as_failed() {
        let trial = trial();
        assert_eq!((trial.failed(), trial.refused()), (4, 3));
        assert!((trial.failed_percent() - 100.0 * 4.0 / 9.0).abs() < 1e-9);
    }

    #[test]
    fn splits_totals_into_periods() {
        assert_eq!(trial().between(2.0, 4.0), (50.0, 2, 0));
        assert_eq!(trial().between(0.0, 1.0), (50.0, 1, 0));
    }
}
