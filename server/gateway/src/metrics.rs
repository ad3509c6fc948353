//! What a gateway counts about handshakes. What is a state and not an event is read where it lives: see
//! [`super::gauges`].

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::outcome::{Outcome, Phase, Retry, Stopwatch};

/// Counters and histograms of handshakes.
#[derive(Debug)]
pub struct Metrics {
    attempts: Counter,
    outcomes: Family<OutcomeLabels, Counter>,
    retries: Family<CauseLabel, Counter>,
    granted: Counter,
    refused: Counter,
    evictions: Family<EvictionLabel, Counter>,
    /// `accept` failed for want of descriptors or memory.
    pub accept_errors: Counter,
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
pub enum Eviction {
    /// The client was told to come back.
    Closed,
    /// It could not be told in time: a frame did not end, or it read nothing.
    Cut,
    /// It, or its shard, was faster.
    Left,
}

impl Eviction {
    /// Label.
    pub const fn code(self) -> &'static str {
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
    pub fn new() -> Self {
        let by_phase = Family::new_with_constructor(seconds as fn() -> Histogram);
        let phases = Phase::ALL.map(|phase| by_phase.get_or_create_owned(&PhaseLabel { phase: phase.name() }));
        Self {
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
        }
    }

    /// Adds all of this to what `/metrics` tells.
    pub fn register(&self, registry: &mut Registry) {
        let phase = "Time of a handshake, by phase; retries add up";
        let total = "Time from accept to the end of a handshake";
        let misroutes = self.retries.get_or_create_owned(&CauseLabel { cause: Retry::Full.code() });
        registry.register("handshake_attempts", "Clients accepted", self.attempts.clone());
        registry.register("handshake_outcomes", "Handshakes ended, by outcome and reason", self.outcomes.clone());
        registry.register_with_unit("handshake_phase", phase, Unit::Seconds, self.by_phase.clone());
        registry.register_with_unit("handshake", total, Unit::Seconds, self.total.clone());
        registry.register("shard_retries", "Tries that opened no tunnel, by cause", self.retries.clone());
        registry.register("misroutes", "Clients sent to a shard that turned out to be full", misroutes);
        registry.register("slots_granted", "Slots granted by shards", self.granted.clone());
        registry.register("slots_refused", "Slots refused by full, draining or starting shards", self.refused.clone());
        let evictions = "Tunnels whose clients were told to go elsewhere by a drain, by how they ended";
        registry.register("evictions", evictions, self.evictions.clone());
        registry.register("accept_errors", "Accepts that failed for want of descriptors", self.accept_errors.clone());
    }

    /// A client was accepted.
    pub fn attempt(&self) {
        self.attempts.inc();
    }

    /// A handshake has ended.
    pub fn ended(&self, outcome: Outcome, watch: &Stopwatch) {
        let (outcome, reason) = outcome.labels();
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
    pub fn granted(&self) {
        self.granted.inc();
    }

    /// A shard did not take the client.
    pub fn retried(&self, cause: Retry) {
        self.retries.get_or_create(&CauseLabel { cause: cause.code() }).inc();
        if !cause.is_fault() {
            self.refused.inc();
        }
    }

    /// A tunnel has ended whose client was to go.
    pub fn evicted(&self, eviction: Eviction) {
        self.evictions.get_or_create(&EvictionLabel { outcome: eviction.code() }).inc();
    }

    /// How many ended like that.
    #[cfg(test)]
    pub fn evictions(&self, eviction: Eviction) -> u64 {
        self.evictions.get_or_create(&EvictionLabel { outcome: eviction.code() }).get()
    }

    /// Clients accepted, and handshakes ended.
    pub fn totals(&self) -> (u64, u64) {
        (self.attempts.get(), self.ended.load(Relaxed))
    }

    /// How many handshakes ended like that.
    #[cfg(test)]
    pub fn count(&self, outcome: &'static str, reason: &'static str) -> u64 {
        self.outcomes.get_or_create(&OutcomeLabels { outcome, reason }).get()
    }

    /// How many tries failed like that.
    #[cfg(test)]
    pub fn retries(&self, cause: &'static str) -> u64 {
        self.retries.get_or_create(&CauseLabel { cause }).get()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
