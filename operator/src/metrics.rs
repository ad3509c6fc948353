//! What the operator counts. Every label comes from a fixed list, but for the namespaces that it was told to watch.
//!
//! The ages of watches live here as well, as `/livez` and `/metrics` both read them.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use tokio::time::Instant;

use crate::client::Call;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Category {
    category: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ApiCall {
    verb: &'static str,
    kind: &'static str,
    answer: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Namespace {
    namespace: String,
}

/// A watch: its kind and the namespace it is bound to.
pub type WatchName = (&'static str, Option<String>);

#[derive(Clone, Copy, Debug)]
struct Signs {
    /// The watch asked for a list or a stream, or got an event.
    turned: Instant,
    /// The API server answered it.
    heard: Instant,
}

/// Counters, gauges, and signs of life.
#[derive(Debug)]
pub struct Metrics {
    reconciles: Counter,
    errors: Family<Category, Counter>,
    duration: Histogram,
    calls: Family<ApiCall, Counter>,
    polls: Family<Outcome, Counter>,
    drains: Family<Outcome, Counter>,
    evictions: Family<Outcome, Counter>,
    /// Statuses written.
    pub status_writes: Counter,
    /// Events written.
    pub events: Counter,
    clusters: Family<Namespace, Gauge>,
    /// 1 while this process holds the lease.
    pub leader: Gauge,
    watches: Mutex<BTreeMap<WatchName, Signs>>,
}

impl Metrics {
    /// Zero.
    pub fn new() -> Self {
        Self {
            reconciles: Counter::default(),
            errors: Family::default(),
            // 1 ms to 16 s.
            duration: Histogram::new(exponential_buckets(0.001, 2.0, 15)),
            calls: Family::default(),
            polls: Family::default(),
            drains: Family::default(),
            evictions: Family::default(),
            status_writes: Counter::default(),
            events: Counter::default(),
            clusters: Family::default(),
            leader: Gauge::default(),
            watches: Mutex::default(),
        }
    }

    /// Adds all of this to what `/metrics` tells.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("reconciles", "Reconciles ended", self.reconciles.clone());
        registry.register("reconcile_errors", "Reconciles that failed, by category", self.errors.clone());
        registry.register_with_unit("reconcile", "Time of a reconcile", Unit::Seconds, self.duration.clone());
        registry.register("api_calls", "Calls to the API server, by verb, kind and answer", self.calls.clone());
        registry.register("health_polls", "Health asked of shards, by outcome", self.polls.clone());
        registry.register(
            "eviction_calls",
            "Rounds of rebalancing asked of shards, by outcome",
            self.evictions.clone(),
        );
        registry.register("drain_calls", "Drains asked of shards or taken back, by outcome", self.drains.clone());
        registry.register("status_writes", "Statuses written", self.status_writes.clone());
        registry.register("events", "Events written", self.events.clone());
        registry.register("clusters", "WsClusters, by the namespace that is watched; none: all", self.clusters.clone());
        registry.register("leader", "1 while this process holds the lease", self.leader.clone());
    }

    /// Reconciles so far.
    #[cfg(test)]
    pub(crate) fn reconciles(&self) -> u64 {
        self.reconciles.get()
    }

    /// A reconcile ended, by itself or with an error of a category.
    pub fn reconciled(&self, took: Duration, error: Option<&'static str>) {
        self.reconciles.inc();
        self.duration.observe(took.as_secs_f64());
        if let Some(category) = error {
            self.failed(category);
        }
    }

    /// So many clusters there are where this process watches.
    pub fn clusters(&self, namespace: Option<&str>, count: usize) {
        let namespace = namespace.unwrap_or_default().to_owned();
        self.clusters.get_or_create(&Namespace { namespace }).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// An error outside a reconcile.
    pub fn failed(&self, category: &'static str) {
        self.errors.get_or_create(&Category { category }).inc();
    }

    /// A shard was asked for its health.
    pub fn polled(&self, outcome: &'static str) {
        self.polls.get_or_create(&Outcome { outcome }).inc();
    }

    /// A shard was asked to drain, or to drain no more.
    pub fn drained(&self, outcome: &'static str) {
        self.drains.get_or_create(&Outcome { outcome }).inc();
    }

    /// A shard was asked to let some connections go.
    pub fn evicted(&self, outcome: &'static str) {
        self.evictions.get_or_create(&Outcome { outcome }).inc();
    }

    /// A call to the API server begins.
    pub fn began(&self, call: &Call) {
        self.sign(call, |signs, now| signs.turned = now);
    }

    /// A call to the API server ended.
    pub fn called(&self, call: &Call, answer: &'static str) {
        self.calls.get_or_create(&ApiCall { verb: call.verb, kind: call.kind, answer }).inc();
        if answer == "ok" {
            self.sign(call, |signs, now| signs.heard = now);
        }
    }

    /// A watch exists from now on.
    pub fn watches(&self, watch: WatchName) {
        let now = Instant::now();
        self.lock().insert(watch, Signs { turned: now, heard: now });
    }

    /// A watch brought an event.
    pub fn event(&self, watch: &WatchName) {
        let now = Instant::now();
        if let Some(signs) = self.lock().get_mut(watch) {
            *signs = Signs { turned: now, heard: now };
        }
    }

    /// Seconds since the API server last said anything on each watch.
    pub fn ages(&self) -> Vec<(WatchName, Duration)> {
        self.lock().iter().map(|(watch, signs)| (watch.clone(), signs.heard.elapsed())).collect()
    }

    /// Watches that did nothing by themselves for longer than `limit`.
    pub fn stuck(&self, limit: Duration) -> Vec<WatchName> {
        let watches = self.lock();
        watches.iter().filter(|(_, signs)| signs.turned.elapsed() > limit).map(|(watch, _)| watch.clone()).collect()
    }

    fn sign(&self, call: &Call, note: impl Fn(&mut Signs, Instant)) {
        if !matches!(call.verb, "watch" | "list") {
            return;
        }
        let now = Instant::now();
        for ((kind, namespace), signs) in self.lock().iter_mut() {
            if *kind == call.kind && *namespace == call.namespace {
                note(signs, now);
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<WatchName, Signs>> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
