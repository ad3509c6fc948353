//! The result of a run: one serialisable value, from which the table, the JSON and the thresholds are read. Its field
//! names are a contract: `docs/load.md`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::ground_truth::Findings;
use super::latency::Summary;
use super::stats::{Chain, Latencies, Messages, Stats, ThreadTime};
use super::topic::PublisherReport;

/// The result.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Report {
    /// Where clients connected.
    pub(super) targets: Vec<String>,
    /// From the first planned instant to the end.
    pub(super) seconds: f64,
    /// From there to the hold: how long the ramp took.
    pub(super) ramp_seconds: f64,
    /// Ended early, by a signal.
    pub(super) interrupted: bool,
    /// Clients planned.
    pub(super) planned: u64,
    /// Of them, those whose instant came.
    pub(super) started: u64,
    /// Of them, those that connected and lived through the settle time.
    pub(super) connected: u64,
    /// Of them, those that gave up: never connected, or lost and not back at the end.
    pub(super) failed: u64,
    /// TCP connections begun.
    pub(super) attempts: u64,
    /// Valid 101 answers.
    pub(super) opened: u64,
    /// Connections that lived through the settle time.
    pub(super) settled: u64,
    /// Attempts that failed, each under its name in `failures`.
    pub(super) failed_attempts: u64,
    /// Attempts after a failed or lost one.
    pub(super) retries: u64,
    /// Settled connections lost against the plan, each under its name in `drops`.
    pub(super) dropped: u64,
    /// Lost clients that came back.
    pub(super) reconnected: u64,
    /// Clients replaced by plan.
    pub(super) churned: u64,
    /// Connections cut by storms.
    pub(super) stormed: u64,
    /// Failed attempts by name.
    pub(super) failures: BTreeMap<String, u64>,
    /// Lost connections by name.
    pub(super) drops: BTreeMap<String, u64>,
    /// Error messages by code.
    pub(super) errors: BTreeMap<String, u64>,
    /// Latencies.
    pub(super) latency_ms: LatencyReport,
    /// Messages.
    pub(super) messages: Messages,
    /// Delivery.
    pub(super) audit: AuditReport,
    /// Records published by this tester; absent when it published none.
    pub(super) publisher: Option<PublisherReport>,
    /// Slow clients.
    pub(super) slow: SlowReport,
    /// This tester itself.
    pub(super) generator: GeneratorReport,
}

/// Latencies, milliseconds; those of a handshake count from the planned instant.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct LatencyReport {
    /// TCP established.
    pub(super) connect: Summary,
    /// First byte of the answer.
    pub(super) first_byte: Summary,
    /// Valid 101.
    pub(super) upgrade: Summary,
    /// From the 101 to the first message.
    pub(super) first_message: Summary,
    /// From a lost connection to the next 101.
    pub(super) reconnect: Summary,
    /// From a heartbeat's or echo's planned instant to its answer.
    pub(super) reply: Summary,
    /// From publishing to receipt.
    pub(super) delivery: Summary,
}

/// Delivery, audited.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct AuditReport {
    /// `topic`: compared with the topic; `chain`: by positions alone, so that `lost` counts holes, not what was in
    /// them; `none`: nothing came.
    pub(super) basis: &'static str,
    /// Deliveries that had to happen; basis `topic` only.
    pub(super) expected: u64,
    /// Deliveries that did not happen and were not announced.
    pub(super) lost: u64,
    /// Deliveries that did not happen, and the server said so.
    pub(super) declared_lost: u64,
    /// Channels of clients whose messages differ from the topic in another way; basis `topic` only.
    pub(super) mismatched: u64,
    /// Why deliveries were not compared with the topic, although one was named.
    pub(super) not_compared: Option<String>,
    /// Records read from the topic.
    pub(super) topic_records: u64,
    /// By positions alone.
    #[serde(flatten)]
    pub(super) chain: Chain,
    /// Delivery latency is from Kafka's timestamps: to the millisecond, and by the publisher's clock.
    pub(super) coarse_clock: bool,
}

/// Slow clients.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct SlowReport {
    /// Connections of slow clients.
    pub(super) opened: u64,
    /// Of them, those the server ended.
    pub(super) ended: u64,
    /// Those by name.
    pub(super) ends: BTreeMap<String, u64>,
}

/// This tester itself.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct GeneratorReport {
    /// Processes.
    pub(super) processes: u32,
    /// Threads, all processes.
    pub(super) threads: u32,
    /// CPU of the busiest thread over the run, percent of one CPU.
    pub(super) cpu_percent: f64,
    /// Seconds in which a thread or process used 90 % of its CPUs or more.
    pub(super) saturated_seconds: u64,
    /// Share of the run in which a thread was ready but had no CPU, percent, the worst thread.
    pub(super) waiting_percent: f64,
    /// Starts behind their planned instants, milliseconds.
    pub(super) late_ms: Summary,
    /// The figures say more about this tester than about the server.
    pub(super) bottleneck: bool,
    /// Why.
    pub(super) reasons: Vec<String>,
}

/// Starts later than this at the 99th percentile blur what is measured.
const LATE_MS: f64 = 20.0;
/// Share of a CPU from which on a loop queues.
pub(super) const BUSY_PERCENT: f64 = 90.0;
/// Share of time without a CPU that shows in latencies.
const WAITING_PERCENT: f64 = 25.0;

impl GeneratorReport {
    /// Judges from the threads' times and the lateness of starts.
    pub(super) fn judge(
        processes: u32,
        threads: &[(ThreadTime, Duration)],
        late_ms: Summary,
        saturated_seconds: u64,
    ) -> Self {
        let share = |part: fn(&ThreadTime) -> Duration| {
            let percent =
                |(time, ran): &(ThreadTime, Duration)| 100.0 * part(time).as_secs_f64() / ran.as_secs_f64().max(1e-3);
            threads.iter().map(percent).fold(0.0, f64::max)
        };
        let (cpu_percent, waiting_percent) = (share(|time| time.busy), share(|time| time.waiting));
        let mut reasons = Vec::new();
        if cpu_percent >= BUSY_PERCENT || saturated_seconds > 0 {
            reasons.push(format!(
                "it used {cpu_percent:.0} % of a CPU, and {BUSY_PERCENT:.0} % or more in {saturated_seconds} s: take more --threads or --processes"
            ));
        }
        if late_ms.p99 > LATE_MS {
            reasons.push(format!(
                "1 % of the connections began {:.0} ms or more late: lower --rate or take more --threads",
                late_ms.p99
            ));
        }
        if waiting_percent >= WAITING_PERCENT {
            reasons.push(format!(
                "it was ready but without a CPU for {waiting_percent:.0} % of the time: something else uses this machine's CPUs"
            ));
        }
        let threads = threads.len() as u32;
        let bottleneck = !reasons.is_empty();
        Self { processes, threads, cpu_percent, saturated_seconds, waiting_percent, late_ms, bottleneck, reasons }
    }
}

impl AuditReport {
    /// From the chain, and from the comparison with the topic where there was one.
    pub(super) fn new(stats: &Stats, truth: Option<(Findings, u64)>) -> Self {
        let chain = stats.chain;
        let coarse_clock = stats.coarse;
        match truth {
            Some((found, topic_records)) => Self {
                basis: "topic",
                expected: found.expected,
                lost: found.lost,
                declared_lost: found.declared_lost,
                mismatched: found.mismatched,
                not_compared: None,
                topic_records,
                chain,
                coarse_clock,
            },
            None => Self {
                basis: if stats.messages.deliveries > 0 { "chain" } else { "none" },
                // A hole filled by a late message is no loss.
                lost: chain.gaps.saturating_sub(chain.reordered),
                declared_lost: chain.declared_gaps,
                chain,
                coarse_clock,
                ..Self::default()
            },
        }
    }
}

impl LatencyReport {
    /// The percentiles.
    pub(super) fn new(latencies: &Latencies) -> Self {
        Self {
            connect: latencies.connect.summary(),
            first_byte: latencies.first_byte.summary(),
            upgrade: latencies.upgrade.summary(),
            first_message: latencies.first_message.summary(),
            reconnect: latencies.reconnect.summary(),
            reply: latencies.reply.summary(),
            delivery: latencies.delivery.summary(),
        }
    }
}

impl Report {
    /// Fills in what workers counted.
    pub(super) fn count(mut self, stats: Stats) -> Self {
        let counts = stats.counts;
        self.started = counts.started;
        self.connected = counts.connected;
        self.failed = counts.failed;
        self.attempts = counts.attempts;
        self.opened = counts.opened;
        self.settled = counts.settled;
        self.failed_attempts = counts.failed_attempts;
        self.retries = counts.retries;
        self.dropped = counts.dropped;
        self.reconnected = counts.reconnected;
        self.churned = counts.churned;
        self.stormed = counts.stormed;
        self.messages = stats.messages;
        self.latency_ms = LatencyReport::new(&stats.latencies);
        let ended = stats.slow_ends.values().sum();
        self.slow = SlowReport { opened: stats.slow_opened, ended, ends: stats.slow_ends };
        (self.failures, self.drops, self.errors) = (stats.failures, stats.drops, stats.errors);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RAN: Duration = Duration::from_secs(100);

    fn thread(busy: u64, waiting: u64) -> (ThreadTime, Duration) {
        (ThreadTime { busy: Duration::from_secs(busy), waiting: Duration::from_secs(waiting) }, RAN)
    }

    #[test]
    fn blames_itself_when_it_was_late_busy_or_without_a_cpu() {
        let late = |p99| Summary { p99, ..Summary::default() };
        assert!(!GeneratorReport::judge(1, &[thread(50, 5), thread(80, 0)], late(3.0), 0).bottleneck);
        assert!(GeneratorReport::judge(1, &[thread(50, 5), thread(91, 0)], late(3.0), 0).bottleneck);
        assert!(GeneratorReport::judge(1, &[thread(50, 5)], late(30.0), 0).bottleneck);
        assert!(GeneratorReport::judge(1, &[thread(50, 45)], late(0.0), 0).bottleneck);
        assert!(GeneratorReport::judge(1, &[thread(5, 0)], late(0.0), 2).bottleneck);
    }

    #[test]
    fn does_not_call_a_late_message_lost() {
        let mut stats = Stats::default();
        (stats.chain.gaps, stats.chain.reordered, stats.messages.deliveries) = (3, 2, 9);
        let audit = AuditReport::new(&stats, None);
        assert_eq!((audit.basis, audit.lost), ("chain", 1));
    }
}
