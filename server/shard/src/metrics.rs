//! What a shard counts. Workers add up locally and publish between turns, so counting costs no shared cache line a
//! message.

use prometheus_client::encoding::{EncodeLabel as _, EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use wscluster_admin::metrics::reference::{self, Note, note};
use wscluster_protocol::LostReason;
use wscluster_protocol::close::CloseCode;
use wscluster_protocol::request::{Command, ErrorCode};
use wscluster_runtime::fds::Budget;
use wscluster_ws::upgrade::Refusal;

use super::shared::NoSlot;
use super::slots::{SlotMetrics, Slots};

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
    /// Pauses after calls of accept that failed.
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
    /// How late a worker's loop served its timers.
    pub loop_lag: Histogram,
    /// Age of records when they were fanned out.
    pub feed_lag: Histogram,
}

/// Label of [`Metrics::closes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CloseLabel {
    /// Codes of RFC 6455 §7.4 and of this service. Others count as `3000` or `4999`.
    pub code: u32,
}

fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.000_1, 2.0, 18))
}

/// All words of `HandshakeOutcome`: their series exist from the start.
pub(crate) fn outcomes() -> impl Iterator<Item = &'static str> {
    ["accepted", "closed_silently", "client_left", "answer_timeout", "aborted"]
        .into_iter()
        .chain(Refusal::CODES)
        .chain(NoSlot::ALL.map(NoSlot::as_str))
}

const PHASES: [&str; 2] = ["head", "answer"];

const POLICIES: [&str; 3] = ["disconnect", "drop_oldest", "conflate"];

/// Codes that clients send, beside those of the table: see `metric_label`.
const OTHER_CODES: [u16; 4] = [1005, 1006, 3000, 4999];

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
        for outcome in outcomes() {
            drop(new.outcomes.get_or_create(&Label("outcome", outcome)));
        }
        for phase in PHASES {
            drop(new.phases.get_or_create(&Label("phase", phase)));
        }
        for reason in NoSlot::ALL {
            drop(new.refused.get_or_create(&Label("reason", reason.as_str())));
        }
        for kind in Command::TYPES {
            drop(new.requests.get_or_create(&Label("type", kind)));
        }
        for code in ErrorCode::ALL {
            drop(new.errors.get_or_create(&Label("code", code.as_str())));
        }
        for result in ["recovered"].into_iter().chain(LostReason::ALL.map(LostReason::as_str)) {
            drop(new.recoveries.get_or_create(&Label("result", result)));
        }
        for policy in POLICIES {
            drop(new.slow_clients.get_or_create(&Label("policy", policy)));
        }
        for code in CloseCode::ALL.map(CloseCode::number).into_iter().chain(OTHER_CODES) {
            drop(new.closes.get_or_create(&CloseLabel { code: code.into() }));
        }
        let m = new.clone();
        registry.register("handshake_attempts", "Connections accepted", m.attempts);
        registry.register("handshakes", "Handshakes ended, by outcome", m.outcomes);
        registry.register_with_unit("handshake_phase", "Duration of the phases of handshakes", Unit::Seconds, m.phases);
        registry.register("slots_granted", "Slots granted", m.granted);
        registry.register("slots_refused", "Slots refused, by reason", m.refused);
        let help = "Pauses of 100 ms after calls of accept that failed";
        registry.register("accept_pauses", help, m.accept_pauses);
        registry.register("subscriptions", "Subscriptions of all connections", m.subscriptions);
        registry.register("channels", "Channels with a subscriber, summed over workers", m.channels);
        registry.register("requests", "Requests of clients, by type", m.requests);
        registry.register("request_errors", "Rejected requests, by error code", m.errors);
        registry.register("recoveries", "Channels that clients asked to resume, by result", m.recoveries);
        registry.register("records", "Records taken from Kafka, summed over workers", m.records);
        registry.register("deliveries", "Messages written to sockets", m.deliveries);
        registry.register_with_unit("delivered", "Bytes written to sockets", Unit::Bytes, m.bytes);
        registry.register("socket_writes", "System calls that write to sockets", m.writes);
        registry.register_with_unit(
            "client_queue",
            "Bytes that wait to be written to clients",
            Unit::Bytes,
            m.queue_bytes,
        );
        let help = "Bytes that wait for clients whose sockets are full";
        registry.register_with_unit("client_queue_blocked", help, Unit::Bytes, m.blocked_bytes);
        registry.register("slow_clients", "Clients above maxQueueBytes, by what was done", m.slow_clients);
        registry.register("dropped_messages", "Messages dropped for slow clients", m.dropped);
        registry.register("evictions", "Connections closed by a drain", m.evictions);
        let help = "Connections that ended, by close code; 1006 without a Close frame";
        registry.register("connection_closes", help, m.closes);
        registry.register_with_unit("worker_loop_lag", "Delay of the timers of workers", Unit::Seconds, m.loop_lag);
        registry.register_with_unit("feed_lag", "Age of records when they are fanned out", Unit::Seconds, m.feed_lag);
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

/// The rows of `docs/metrics.md` for a shard, or which of them do not fit the code.
pub fn reference() -> Result<String, String> {
    let mut registry = Registry::default();
    drop(Metrics::register(&mut registry));
    registry.register_collector(Box::new(SlotMetrics(Slots::new(1, Budget::of_this_process()))));
    reference::table(&registry, NOTES)
}

const NOTES: &[Note] = &[
    note("wscluster_shard_slots", "How many connections may the shard hold?"),
    note("wscluster_shard_slots_in_use", "How full is the shard?"),
    note("wscluster_shard_slots_granted_total", "How many clients got a slot?"),
    note("wscluster_shard_slots_refused_total", "Why are clients with a valid request refused?"),
    note("wscluster_shard_handshake_attempts_total", "How many connections arrive?"),
    note("wscluster_shard_handshakes_total", "How do handshakes end, and why do some fail?"),
    note("wscluster_shard_handshake_phase_seconds", "How long do clients take to ask, and the shard to answer?"),
    note(
        "wscluster_shard_accept_pauses_total",
        "Is the shard short of file descriptors or memory, or its listener broken?",
    ),
    note("wscluster_shard_subscriptions", "How many subscriptions do clients hold?"),
    note("wscluster_shard_channels", "How many channels have a subscriber here?"),
    note("wscluster_shard_requests_total", "What do clients ask for, and how often?"),
    note("wscluster_shard_request_errors_total", "Which requests are rejected?"),
    note("wscluster_shard_recoveries_total", "Do returning clients get what they missed; if not, why?"),
    note("wscluster_shard_records_total", "Does every worker take the records that Kafka delivers?"),
    note("wscluster_shard_deliveries_total", "How many messages leave for clients?"),
    note("wscluster_shard_delivered_bytes_total", "How much traffic do clients get?"),
    note("wscluster_shard_socket_writes_total", "How many messages share a system call?"),
    note("wscluster_shard_client_queue_bytes", "How much memory do unread messages take?"),
    note("wscluster_shard_client_queue_blocked_bytes", "How much of that waits for clients that do not read?"),
    note("wscluster_shard_slow_clients_total", "How many clients cannot keep up?"),
    note("wscluster_shard_dropped_messages_total", "How many messages did slow clients lose?"),
    note("wscluster_shard_evictions_total", "How many connections did drains close?"),
    note("wscluster_shard_connection_closes_total", "Why do connections end?"),
    note("wscluster_shard_worker_loop_lag_seconds", "Are the workers overloaded?"),
    note("wscluster_shard_feed_lag_seconds", "How old are records when clients get them?"),
];
