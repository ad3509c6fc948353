//! Counters of the source.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Reason {
    pub(super) reason: &'static str,
}

#[derive(Debug, Default)]
pub(super) struct Metrics {
    pub(super) records: Counter,
    pub(super) bytes: Counter,
    pub(super) skipped: Family<Reason, Counter>,
    pub(super) losses: Counter,
    pub(super) lag: Gauge,
    pub(super) connected: Gauge,
    pub(super) partitions: Gauge,
    pub(super) blocked_ms: Counter,
    pub(super) past: Family<Reason, Counter>,
    pub(super) past_records: Counter,
}

impl Metrics {
    /// Counts a request for the past by how it ended.
    pub(super) fn past(&self, reason: &'static str) {
        self.past.get_or_create(&Reason { reason }).inc();
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("wscluster_kafka_records", "Records published to the workers", self.records.clone());
        registry.register_with_unit(
            "wscluster_kafka_values",
            "Size of the values of published records",
            Unit::Bytes,
            self.bytes.clone(),
        );
        registry.register(
            "wscluster_kafka_skipped_records",
            "Records that could not be published, by reason",
            self.skipped.clone(),
        );
        registry.register(
            "wscluster_kafka_lost_threads",
            "Times that records of a partition were missed: retention overtook the shard, or the topic was recreated",
            self.losses.clone(),
        );
        registry.register("wscluster_kafka_lag_records", "Records behind the end of the log", self.lag.clone());
        registry.register("wscluster_kafka_connected", "1 while the brokers answer", self.connected.clone());
        registry.register("wscluster_kafka_partitions", "Partitions that are read", self.partitions.clone());
        registry.register(
            "wscluster_kafka_blocked_milliseconds",
            "Time that the source waited for a worker that could not keep up",
            self.blocked_ms.clone(),
        );
        registry.register(
            "wscluster_kafka_readbacks",
            "Requests for what clients missed and no worker remembers, by how they ended",
            self.past.clone(),
        );
        registry.register(
            "wscluster_kafka_readback_records",
            "Records looked at to answer such requests",
            self.past_records.clone(),
        );
    }
}
