//! What a shard counts. Workers add up locally and publish between turns, so counting costs no shared cache line a
//! message.

use prometheus_client::encoding::{EncodeLabel as _, EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// One label with a value from a fixed list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Label(pub &'static str, pub &'static str);

impl EncodeLabelSet for Label {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), std::fmt::Error> {
        (self.0, self.1).encode(encoder.encode_label())
    }
}

/// Counters by one label.
pub type By = Family<Label, Counter>;

/// Metrics of a shard, shared by its workers.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Connections accepted by the kernel: each is an attempt at a handshake.
    pub attempts: Counter,
    /// How handshakes ended; the sum is `attempts` minus those under way.
    pub outcomes: By,
    /// Seconds of the phases of a handshake: `head` (accept to whole head), `answer` (head to answer written).
    pub phases: Family<Label, Histogram, fn() -> Histogram>,
    /// Slots granted.
    pub granted: Counter,
    /// Slots refused, by reason.
    pub refused: By,
    /// Pauses of accepting for want of file descriptors or memory.
    pub accept_pauses: Counter,
    /// Subscriptions of all connections.
    pub subscriptions: Gauge,
    /// Channels with a subscriber, summed over workers.
    pub channels: Gauge,
    /// Requests of clients, by type.
    pub requests: By,
    /// Error replies, by code.
    pub errors: By,
    /// Channels recovered for clients, by result.
    pub recoveries: By,
    /// Records taken from the source, summed over workers.
    pub records: Counter,
    /// Messages written to sockets.
    pub deliveries: Counter,
    /// Bytes written to sockets.
    pub bytes: Counter,
    /// Write calls.
    pub writes: Counter,
    /// Bytes that wait for clients.
    pub queue_bytes: Gauge,
    /// Those of them whose client's socket takes no more.
    pub blocked_bytes: Gauge,
    /// Clients over `maxQueueBytes`, by what was done.
    pub slow_clients: By,
    /// Messages dropped for slow clients.
    pub dropped: Counter,
    /// Connections closed by a drain.
    pub evictions: Counter,
    /// Connections that ended, by close code; `1006` without a Close frame.
    pub closes: Family<CloseLabel, Counter>,
    /// How late a worker's loop came to its timers.
    pub loop_lag: Histogram,
    /// Age of records when they were fanned out.
    pub feed_lag: Histogram,
}

/// Label of [`Metrics::closes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CloseLabel {
    /// RFC 6455 §7.4; codes that are none of ours count as `3000` or `4999`.
    pub code: u32,
}

fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.000_1, 2.0, 18))
}

impl Metrics {
    /// Fresh metrics, registered as `wscluster_shard_…`.
    pub fn register(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("wscluster_shard");
        let new = Self {
            attempts: Counter::default(),
            outcomes: By::default(),
            phases: Family::new_with_constructor(seconds as fn() -> Histogram),
            granted: Counter::default(),
            refused: By::default(),
            accept_pauses: Counter::default(),
            subscriptions: Gauge::default(),
            channels: Gauge::default(),
            requests: By::default(),
            errors: By::default(),
            recoveries: By::default(),
            records: Counter::default(),
            deliveries: Counter::default(),
            bytes: Counter::default(),
            writes: Counter::default(),
            queue_bytes: Gauge::default(),
            blocked_bytes: Gauge::default(),
            slow_clients: By::default(),
            dropped: Counter::default(),
            evictions: Counter::default(),
            closes: Family::default(),
            loop_lag: seconds(),
            feed_lag: seconds(),
        };
        let m = new.clone();
        registry.register("handshake_attempts", "Connections accepted", m.attempts);
        registry.register("handshakes", "Handshakes by outcome", m.outcomes);
        registry.register_with_unit("handshake_phase", "Phases of handshakes", Unit::Seconds, m.phases);
        registry.register("slots_granted", "Slots granted", m.granted);
        registry.register("slots_refused", "Slots refused, by reason", m.refused);
        registry.register("accept_pauses", "Pauses of accepting for want of files or memory", m.accept_pauses);
        registry.register("subscriptions", "Subscriptions of all connections", m.subscriptions);
        registry.register("channels", "Channels with a subscriber, summed over workers", m.channels);
        registry.register("requests", "Requests of clients, by type", m.requests);
        registry.register("request_errors", "Error replies, by code", m.errors);
        registry.register("recoveries", "Channels recovered for clients, by result", m.recoveries);
        registry.register("records", "Records taken from the source, summed over workers", m.records);
        registry.register("deliveries", "Messages written to sockets", m.deliveries);
        registry.register_with_unit("delivered", "Bytes written to sockets", Unit::Bytes, m.bytes);
        registry.register("writes", "Write calls", m.writes);
        registry.register_with_unit("queue", "Bytes that wait for clients", Unit::Bytes, m.queue_bytes);
        registry.register_with_unit(
            "queue_blocked",
            "Those whose client's socket takes no more",
            Unit::Bytes,
            m.blocked_bytes,
        );
        registry.register("slow_clients", "Clients over maxQueueBytes, by what was done", m.slow_clients);
        registry.register("dropped_messages", "Messages dropped for slow clients", m.dropped);
        registry.register("evictions", "Connections closed by a drain", m.evictions);
        registry.register("closes", "Connections that ended, by close code", m.closes);
        registry.register_with_unit("loop_lag", "Lateness of a worker's timers", Unit::Seconds, m.loop_lag);
        registry.register_with_unit("feed_lag", "Age of records when fanned out", Unit::Seconds, m.feed_lag);
        new
    }
}

/// What a worker adds up between two publications.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) records: u64,
    pub(super) deliveries: u64,
    pub(super) bytes: u64,
    pub(super) writes: u64,
    pub(super) dropped: u64,
    /// Values last published for the gauges, which all workers share.
    subscriptions: i64,
    channels: i64,
    queue_bytes: i64,
    blocked_bytes: i64,
}

impl Tally {
    /// Publishes and starts anew.
    pub(super) fn publish(
        &mut self,
        metrics: &Metrics,
        subscriptions: usize,
        channels: usize,
        due: usize,
        blocked: usize,
    ) {
        for (counter, value) in [
            (&metrics.records, &mut self.records),
            (&metrics.deliveries, &mut self.deliveries),
            (&metrics.bytes, &mut self.bytes),
            (&metrics.writes, &mut self.writes),
            (&metrics.dropped, &mut self.dropped),
        ] {
            if *value > 0 {
                counter.inc_by(std::mem::take(value));
            }
        }
        for (gauge, last, value) in [
            (&metrics.subscriptions, &mut self.subscriptions, subscriptions),
            (&metrics.channels, &mut self.channels, channels),
            (&metrics.queue_bytes, &mut self.queue_bytes, due + blocked),
            (&metrics.blocked_bytes, &mut self.blocked_bytes, blocked),
        ] {
            let value = i64::try_from(value).unwrap_or(i64::MAX);
            if value != *last {
                gauge.inc_by(value - std::mem::replace(last, value));
            }
        }
    }
}
