//! The result of a run: one serialisable value, the source of the table, the JSON and the thresholds. Its field names
//! are documented in `docs/load.md` and must not change.

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
    /// URLs that clients connected to.
    pub(super) targets: Vec<String>,
    /// Seconds from the first planned instant to the end.
    pub(super) seconds: f64,
    /// Seconds from the first planned instant to the start of the hold.
    pub(super) ramp_seconds: f64,
    /// A signal ended the run early.
    pub(super) interrupted: bool,
    /// Planned clients.
    pub(super) planned: u64,
    /// Planned clients that were started.
    pub(super) started: u64,
    /// Started clients that connected and stayed connected for the settle time.
    pub(super) connected: u64,
    /// Started clients that never connected, or lost their connection and were not back at the end.
    pub(super) failed: u64,
    /// TCP connections attempted.
    pub(super) attempts: u64,
    /// Valid 101 answers.
    pub(super) opened: u64,
    /// Connections that lasted for the settle time.
    pub(super) settled: u64,
    /// Failed attempts; `failures` has them by name.
    pub(super) failed_attempts: u64,
    /// Attempts after a failed attempt or a lost connection.
    pub(super) retries: u64,
    /// Settled connections that were lost; `drops` has them by name.
    pub(super) dropped: u64,
    /// Lost clients that reconnected.
    pub(super) reconnected: u64,
    /// Clients replaced by `--churn`.
    pub(super) churned: u64,
    /// Connections cut by `--storm-at`.
    pub(super) stormed: u64,
    /// Failed attempts by name.
    pub(super) failures: BTreeMap<String, u64>,
    /// Lost connections by name.
    pub(super) drops: BTreeMap<String, u64>,
    /// Error messages by code.
    pub(super) errors: BTreeMap<String, u64>,
    /// Latencies in milliseconds.
    pub(super) latency_ms: LatencyReport,
    /// Messages sent and received.
    pub(super) messages: Messages,
    /// The audit of deliveries.
    pub(super) audit: AuditReport,
    /// Records that this tester published; absent if it was not asked to publish.
    pub(super) publisher: Option<PublisherReport>,
    /// Clients that read slowly.
    pub(super) slow: SlowReport,
    /// Whether this tester was the bottleneck.
    pub(super) generator: GeneratorReport,
}

/// Latencies in milliseconds. Latencies of a handshake count from the planned instant.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct LatencyReport {
    /// To the TCP connection.
    pub(super) connect: Summary,
    /// To the first byte of the answer.
    pub(super) first_byte: Summary,
    /// To a valid 101.
    pub(super) upgrade: Summary,
    /// From the 101 to the first message.
    pub(super) first_message: Summary,
    /// From a lost connection to the next 101.
    pub(super) reconnect: Summary,
    /// From the planned instant of a heartbeat or echo to its answer.
    pub(super) reply: Summary,
    /// From publishing to receipt.
    pub(super) delivery: Summary,
}

/// The audit of deliveries.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct AuditReport {
    /// `topic`: compared with the topic. `chain`: by positions alone; `lost` then counts holes, not messages. `none`:
    /// no message arrived.
    pub(super) basis: &'static str,
    /// Expected deliveries; basis `topic` only.
    pub(super) expected: u64,
    /// Missing deliveries that the server did not announce.
    pub(super) lost: u64,
    /// Missing deliveries that the server announced.
    pub(super) declared_lost: u64,
    /// Channels of clients whose messages differ from the topic in any other way; basis `topic` only.
    pub(super) mismatched: u64,
    /// Why deliveries were not compared with the topic although `--topic` was given.
    pub(super) not_compared: Option<String>,
    /// Records read from the topic.
    pub(super) topic_records: u64,
    /// Counts by positions alone.
    #[serde(flatten)]
    pub(super) chain: Chain,
    /// Delivery latency was measured with Kafka's timestamps: whole milliseconds of the publisher's clock.
    pub(super) coarse_clock: bool,
}

/// Clients that read slowly.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct SlowReport {
    /// Their connections.
    pub(super) opened: u64,
    /// Their connections that the server ended.
    pub(super) ended: u64,
    /// Ended connections by name.
    pub(super) ends: BTreeMap<String, u64>,
}

/// Load of this tester, and whether it was the bottleneck.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct GeneratorReport {
    /// Processes.
    pub(super) processes: u32,
    /// Threads of all processes.
    pub(super) threads: u32,
    /// CPU of the busiest thread over the run, in percent of one CPU.
    pub(super) cpu_percent: f64,
    /// Seconds in which a thread or process used 90 % of its CPUs or more.
    pub(super) saturated_seconds: u64,
    /// Percentage of the run in which a thread was runnable but had no CPU; of the worst thread.
    pub(super) waiting_percent: f64,
    /// Delay of starts after their planned instants, in milliseconds.
    pub(super) late_ms: Summary,
    /// This tester limited the result, not the server.
    pub(super) bottleneck: bool,
    /// Why `bottleneck` is true.
    pub(super) reasons: Vec<String>,
}

/// A 99th percentile of start delays above this distorts the latencies.
const LATE_MS: f64 = 20.0;
/// CPU percentage above which an event loop queues work.
pub(super) const BUSY_PERCENT: f64 = 90.0;
/// Percentage of time without a CPU above which latencies are distorted.
const WAITING_PERCENT: f64 = 25.0;

impl GeneratorReport {
    /// Decides from the CPU time of the threads and the delay of starts.
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
                "it used {cpu_percent:.0} % of a CPU, and {BUSY_PERCENT:.0} % or more in {saturated_seconds} s: use more \
                 --threads or --processes"
            ));
        }
        if late_ms.p99 > LATE_MS {
            reasons.push(format!(
                "1 % of the connections started {:.0} ms or more late: use a lower --rate or more --threads",
                late_ms.p99
            ));
        }
        if waiting_percent >= WAITING_PERCENT {
            reasons.push(format!(
                "one of its threads was ready to run but got no CPU for {waiting_percent:.0} % of the time: other programs \
                 use the CPUs of this machine"
            ));
        }
        let threads = threads.len() as u32;
        let bottleneck = !reasons.is_empty();
        Self { processes, threads, cpu_percent, saturated_seconds, waiting_percent, late_ms, bottleneck, reasons }
    }
}

impl AuditReport {
    /// From the positions, and from the comparison with the topic if there was one.
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
    /// Percentiles of `latencies`.
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
    /// Adds the counts of the workers.
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
