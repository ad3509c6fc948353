//! Counters of the source, and the question that each answers.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use wscluster_admin::metrics::reference::{self, Note, note};
use wscluster_protocol::LostReason;

use super::encode::Skip;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReadResult {
    result: &'static str,
}

#[derive(Debug)]
pub(super) struct Metrics {
    pub(super) records: Counter,
    pub(super) bytes: Counter,
    skipped: Family<Reason, Counter>,
    pub(super) losses: Counter,
    pub(super) lag: Gauge,
    pub(super) connected: Gauge,
    pub(super) partitions: Gauge,
    pub(super) blocked_seconds: Counter<f64>,
    backfills: Family<ReadResult, Counter>,
    pub(super) backfill_records: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self {
            records: Counter::default(),
            bytes: Counter::default(),
            skipped: Family::default(),
            losses: Counter::default(),
            lag: Gauge::default(),
            connected: Gauge::default(),
            partitions: Gauge::default(),
            blocked_seconds: Counter::default(),
            backfills: Family::default(),
            backfill_records: Counter::default(),
        };
        for skip in Skip::ALL {
            drop(metrics.skipped.get_or_create(&Reason { reason: skip.as_str() }));
        }
        for result in ["found"].into_iter().chain(LostReason::ALL.map(LostReason::as_str)) {
            drop(metrics.backfills.get_or_create(&ReadResult { result }));
        }
        metrics
    }
}

impl Metrics {
    /// Counts a record that is not published.
    pub(super) fn skipped(&self, skip: Skip) {
        self.skipped.get_or_create(&Reason { reason: skip.as_str() }).inc();
    }

    /// Counts a request to read records back, by its result.
    pub(super) fn backfill(&self, result: &'static str) {
        self.backfills.get_or_create(&ReadResult { result }).inc();
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("wscluster_kafka");
        registry.register("records", "Records passed to the workers", self.records.clone());
        registry.register_with_unit("value", "Values of those records", Unit::Bytes, self.bytes.clone());
        registry.register("skipped_records", "Records that are not published, by reason", self.skipped.clone());
        let help = "Times that records of a partition were missed: Kafka deleted them before the shard had read them, \
                    the topic was recreated, or the shard could not read the partition at first";
        registry.register("losses", help, self.losses.clone());
        registry.register("lag_records", "Records that at least one worker has not taken yet", self.lag.clone());
        registry.register("connected", "1 while the brokers answer, else 0", self.connected.clone());
        registry.register("partitions", "Partitions that are read", self.partitions.clone());
        let help = "Time that the reader waited for a worker that could not keep up";
        registry.register_with_unit("blocked", help, Unit::Seconds, self.blocked_seconds.clone());
        let help = "Requests to read records back that a client missed and no window holds, by result";
        registry.register("backfills", help, self.backfills.clone());
        registry.register("backfill_records", "Records read to answer such requests", self.backfill_records.clone());
    }
}

/// The rows of `docs/metrics.md` for the source, or which of them do not fit the code.
pub fn reference() -> Result<String, String> {
    let mut registry = Registry::default();
    Metrics::default().register(&mut registry);
    reference::table(&registry, NOTES)
}

const NOTES: &[Note] = &[
    note("wscluster_kafka_connected", "Do the brokers answer?"),
    note("wscluster_kafka_partitions", "Does the shard read every partition?"),
    note("wscluster_kafka_lag_records", "Does the shard keep up with the topics?"),
    note("wscluster_kafka_records_total", "How many records arrive?"),
    note("wscluster_kafka_value_bytes_total", "How much data arrives?"),
    note("wscluster_kafka_skipped_records_total", "Which records cannot be published, and why?"),
    note("wscluster_kafka_losses_total", "Did clients miss records?"),
    note("wscluster_kafka_blocked_seconds_total", "Do the workers slow the reader down?"),
    note(
        "wscluster_kafka_backfills_total",
        "Do clients return with positions older than the window, and are they served?",
    ),
    note("wscluster_kafka_backfill_records_total", "How much reading do such clients cause?"),
];
