//! What a gateway counts about handshakes. What is a state and not an event is read where it lives: see
//! [`super::gauges`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use wscluster_admin::metrics::reference::{self, Note, note};
use wscluster_admin::metrics::register_process;
use wscluster_api::WsClusterSpec;
use wscluster_runtime::fds::Budget;

use super::discovery::Discovery;
use super::gateway::Gateway;
use super::gauges::Gauges;
use super::outcome::{self, Outcome, Phase, Retry, Stopwatch};
use super::settings::Settings;

/// Counters and histograms of handshakes.
#[derive(Debug)]
pub(crate) struct Metrics {
    attempts: Counter,
    outcomes: Family<OutcomeLabels, Counter>,
    retries: Family<CauseLabel, Counter>,
    granted: Counter,
    refused: Counter,
    evictions: Family<EvictionLabel, Counter>,
    /// `accept` failed, mostly for want of descriptors or memory.
    pub(crate) accept_errors: Counter,
    by_phase: Family<PhaseLabel, Histogram, fn() -> Histogram>,
    /// The members of `by_phase`, at hand.
    phases: [Histogram; Phase::ALL.len()],
    total: Histogram,
    ended: AtomicU64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CauseLabel {
    cause: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EvictionLabel {
    outcome: &'static str,
}

/// How a tunnel ended whose client was to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Eviction {
    /// The client received a Close with a hint to reconnect.
    Closed,
    /// The Close could not be sent in time: a frame did not end, or the client read nothing.
    Cut,
    /// It, or its shard, was faster.
    Left,
}

impl Eviction {
    const ALL: [Self; 3] = [Self::Closed, Self::Cut, Self::Left];

    /// Label.
    pub(crate) const fn code(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Cut => "cut",
            Self::Left => "left",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PhaseLabel {
    phase: &'static str,
}

/// 50 µs to 26 s, each twice the one before.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.000_05, 2.0, 20))
}

impl Metrics {
    /// Zero.
    pub(crate) fn new() -> Self {
        let by_phase = Family::new_with_constructor(seconds as fn() -> Histogram);
        let phases = Phase::ALL.map(|phase| by_phase.get_or_create_owned(&PhaseLabel { phase: phase.name() }));
        let metrics = Self {
            attempts: Counter::default(),
            outcomes: Family::default(),
            retries: Family::default(),
            granted: Counter::default(),
            refused: Counter::default(),
            evictions: Family::default(),
            accept_errors: Counter::default(),
            by_phase,
            phases,
            total: seconds(),
            ended: AtomicU64::new(0),
        };
        for (outcome, reason) in outcome::all_labels() {
            drop(metrics.outcomes.get_or_create(&OutcomeLabels { outcome, reason }));
        }
        for cause in outcome::CAUSES {
            drop(metrics.retries.get_or_create(&CauseLabel { cause }));
        }
        for eviction in Eviction::ALL {
            drop(metrics.evictions.get_or_create(&EvictionLabel { outcome: eviction.code() }));
        }
        metrics
    }

    /// Adds all of this to `/metrics`.
    fn register(&self, registry: &mut Registry) {
        let misroutes = self.retries.get_or_create_owned(&CauseLabel { cause: Retry::Full.code() });
        registry.register("handshake_attempts", "Connections accepted from clients", self.attempts.clone());
        registry.register("handshake_outcomes", "Handshakes ended, by outcome and reason", self.outcomes.clone());
        let help = "Duration of the phases of handshakes; retries add up";
        registry.register_with_unit("handshake_phase", help, Unit::Seconds, self.by_phase.clone());
        let help = "Duration of handshakes, from accept to their end";
        registry.register_with_unit("handshake", help, Unit::Seconds, self.total.clone());
        let help = "Tries at a shard that opened no tunnel, by cause";
        registry.register("shard_retries", help, self.retries.clone());
        let help = "Clients sent to a shard that turned out to be full";
        registry.register("misroutes", help, misroutes);
        registry.register("slots_granted", "Slots granted by shards", self.granted.clone());
        let help = "Slots refused by full, draining or starting shards";
        registry.register("slots_refused", help, self.refused.clone());
        let help = "Tunnels ended by a drain, by how they ended";
        registry.register("evictions", help, self.evictions.clone());
        let help = "Calls of accept that failed; the gateway then rests for 100 ms";
        registry.register("accept_errors", help, self.accept_errors.clone());
    }

    /// A client was accepted.
    pub(crate) fn attempt(&self) {
        self.attempts.inc();
    }

    /// A handshake has ended.
    pub(crate) fn ended(&self, outcome: Outcome, watch: &Stopwatch) {
        let (outcome, reason) = outcome.labels();
        debug_assert!(
            outcome::all_labels().any(|labels| labels == (outcome, reason)),
            "{outcome} {reason} is not in outcome::all_labels"
        );
        self.outcomes.get_or_create(&OutcomeLabels { outcome, reason }).inc();
        for (phase, histogram) in Phase::ALL.into_iter().zip(&self.phases) {
            let spent = watch.spent(phase);
            if !spent.is_zero() {
                histogram.observe(spent.as_secs_f64());
            }
        }
        self.total.observe(watch.total().as_secs_f64());
        self.ended.fetch_add(1, Relaxed);
    }

    /// A shard granted a slot.
    pub(crate) fn granted(&self) {
        self.granted.inc();
    }

    /// A shard did not take the client.
    pub(crate) fn retried(&self, cause: Retry) {
        debug_assert!(outcome::CAUSES.contains(&cause.code()), "{} is not in outcome::CAUSES", cause.code());
        self.retries.get_or_create(&CauseLabel { cause: cause.code() }).inc();
        if cause.is_refusal() {
            self.refused.inc();
        }
    }

    /// A tunnel has ended whose client was to go.
    pub(crate) fn evicted(&self, eviction: Eviction) {
        self.evictions.get_or_create(&EvictionLabel { outcome: eviction.code() }).inc();
    }

    /// How many ended like that.
    #[cfg(test)]
    pub(crate) fn evictions(&self, eviction: Eviction) -> u64 {
        self.evictions.get_or_create(&EvictionLabel { outcome: eviction.code() }).get()
    }

    /// Clients accepted, and handshakes ended.
    pub(crate) fn totals(&self) -> (u64, u64) {
        (self.attempts.get(), self.ended.load(Relaxed))
    }

    /// How many handshakes ended like that.
    #[cfg(test)]
    pub(crate) fn count(&self, outcome: &'static str, reason: &'static str) -> u64 {
        self.outcomes.get_or_create(&OutcomeLabels { outcome, reason }).get()
    }

    /// How many tries failed like that.
    #[cfg(test)]
    pub(crate) fn retries(&self, cause: &'static str) -> u64 {
        self.retries.get_or_create(&CauseLabel { cause }).get()
    }
}

/// Everything that `/metrics` of `gateway` serves.
pub(crate) fn registry(gateway: &Arc<Gateway>) -> Registry {
    let mut registry = Registry::default();
    register_process(&mut registry, env!("CARGO_PKG_VERSION"), "");
    let own = registry.sub_registry_with_prefix("wscluster_gateway");
    gateway.metrics.register(own);
    own.register_collector(Box::new(Gauges(Arc::clone(gateway))));
    registry
}

/// The question that each metric answers, for `docs/metrics.md`.
const NOTES: &[Note] = &[
    note("wscluster_gateway_handshake_attempts_total", "How many clients arrive?"),
    note("wscluster_gateway_handshake_outcomes_total", "How do handshakes end, and why do some fail?"),
    note("wscluster_gateway_handshakes_in_progress", "Do handshakes pile up?"),
    note("wscluster_gateway_handshake_phase_seconds", "In which phase do handshakes spend their time?"),
    note("wscluster_gateway_handshake_seconds", "How long does a client wait for its connection?"),
    note("wscluster_gateway_shard_retries_total", "Why do shards not take clients?"),
    note("wscluster_gateway_misroutes_total", "Is the gateway's knowledge of free slots up to date?"),
    note("wscluster_gateway_slots_granted_total", "How many clients got a slot?"),
    note("wscluster_gateway_slots_refused_total", "How many tries met a shard without a free slot?"),
    note("wscluster_gateway_evictions_total", "Do drains end tunnels with a Close that clients understand?"),
    note(
        "wscluster_gateway_accept_errors_total",
        "Is the gateway short of file descriptors or memory, or its listener broken?",
    ),
    note("wscluster_gateway_queue_waiting", "How many clients wait for a free slot?"),
    note("wscluster_gateway_tunnels", "How many connections does this gateway relay?"),
    note("wscluster_gateway_open_files_limit", "How many descriptors may tunnels use (two each)?"),
    note("wscluster_gateway_relayed_bytes_total", "How much traffic does this gateway relay?"),
    note(
        "wscluster_gateway_stalled_tunnels",
        "How many clients read too slowly? (each holds up to 0.5 MiB of the kernel)",
    ),
    of_shard("wscluster_gateway_shard_connections", "How full is each shard, seen from here?"),
    of_shard("wscluster_gateway_shard_capacity", "How much may each shard hold?"),
    of_shard("wscluster_gateway_shard_in_flight", "Is a shard slow to answer upgrades?"),
    of_shard("wscluster_gateway_shard_age_seconds", "Which shards have stopped answering?"),
    of_shard("wscluster_gateway_shard_open", "Which shards take clients?"),
    note("wscluster_gateway_discovery_members", "How many shards does the API server list? (only with --discover)"),
    note("wscluster_gateway_discovery_age_seconds", "Is the list of shards up to date? (only with --discover)"),
    note("wscluster_gateway_discovery_errors_total", "Does the API server answer? (only with --discover)"),
];

/// The rows of `docs/metrics.md` for a gateway of the cluster with this `spec`, or which of them do not fit the code.
pub fn reference(spec: &WsClusterSpec) -> Result<String, String> {
    let gateway = Gateway::new(Settings::new(spec, Duration::ZERO, false), Budget::of_this_process());
    let discovery = Discovery::new("namespace/service".parse()?);
    gateway.discovery.get_or_init(|| Arc::new(discovery));
    let mut registry = Registry::default();
    let own = registry.sub_registry_with_prefix("wscluster_gateway");
    gateway.metrics.register(own);
    own.register_collector(Box::new(Gauges(gateway)));
    reference::table(&registry, NOTES)
}

const fn of_shard(name: &'static str, question: &'static str) -> Note {
    Note { name, question, labels: &["shard"] }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
