//! The metrics of the operator. All labels have a fixed set of values, except the names of watched namespaces.
//!
//! Series whose labels form a closed set exist from the start with the value 0, so that `increase()` sees the first
//! event. The times of watch activity are kept here as well, because both `/livez` and `/metrics` read them.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use tokio::time::Instant;

use crate::api_call::Call;

/// Defines an enum whose values are the values of one label, so that every series can be created at the start.
macro_rules! label {
    ($(#[$meta:meta])* $name:ident { $($variant:ident = $text:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(crate) enum $name {
            $($variant,)*
        }

        impl $name {
            const ALL: &[Self] = &[$(Self::$variant,)*];

            pub(crate) const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }
        }

        impl EncodeLabelValue for $name {
            fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
                EncodeLabelValue::encode(&self.as_str(), encoder)
            }
        }
    };
}

label! {
    /// What failed. The first group are also reasons of the `Degraded` condition.
    ErrorCategory {
        NameTaken = "NameTaken",
        QuotaExceeded = "QuotaExceeded",
        Forbidden = "Forbidden",
        Conflict = "Conflict",
        Invalid = "Invalid",
        Throttled = "Throttled",
        ApiServerError = "ApiServerError",
        ApiServerUnreachable = "ApiServerUnreachable",
        Malformed = "Malformed",
        StatusNotWritten = "StatusNotWritten",
        EventNotWritten = "EventNotWritten",
        EventsNotRead = "EventsNotRead",
        PodNotDeleted = "PodNotDeleted",
        WatchInterrupted = "WatchInterrupted",
    }
}

label! {
    /// Outcome of a health request to a shard.
    PollOutcome {
        Answered = "answered",
        Failed = "failed",
    }
}

label! {
    /// Outcome of a drain or eviction request to a shard.
    RequestOutcome {
        Accepted = "accepted",
        Failed = "failed",
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CategoryLabel {
    category: ErrorCategory,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ApiRequestLabels {
    verb: &'static str,
    kind: &'static str,
    answer: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PollLabel {
    outcome: PollOutcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabel {
    outcome: RequestOutcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NamespaceLabel {
    namespace: String,
}

/// A watch: its kind, and its namespace unless it covers all.
pub(crate) type WatchName = (&'static str, Option<String>);

/// The last activity of a watch.
#[derive(Clone, Copy, Debug)]
struct Activity {
    /// The watch sent a list or watch request, or received an event.
    attempted: Instant,
    /// The API server answered.
    answered: Instant,
}

/// Counters, gauges, and the activity of watches.
#[derive(Debug)]
pub(crate) struct Metrics {
    reconciles: Counter,
    errors: Family<CategoryLabel, Counter>,
    duration: Histogram,
    requests: Family<ApiRequestLabels, Counter>,
    polls: Family<PollLabel, Counter>,
    drains: Family<RequestLabel, Counter>,
    evictions: Family<RequestLabel, Counter>,
    pub(crate) status_writes: Counter,
    pub(crate) events: Counter,
    clusters: Family<NamespaceLabel, Gauge>,
    /// 1 while this process holds the lease.
    pub(crate) leader: Gauge,
    watches: Mutex<BTreeMap<WatchName, Activity>>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let metrics = Self {
            reconciles: Counter::default(),
            errors: Family::default(),
            // 1 ms to 16 s.
            duration: Histogram::new(exponential_buckets(0.001, 2.0, 15)),
            requests: Family::default(),
            polls: Family::default(),
            drains: Family::default(),
            evictions: Family::default(),
            status_writes: Counter::default(),
            events: Counter::default(),
            clusters: Family::default(),
            leader: Gauge::default(),
            watches: Mutex::default(),
        };
        for &category in ErrorCategory::ALL {
            drop(metrics.errors.get_or_create(&CategoryLabel { category }));
        }
        for &outcome in PollOutcome::ALL {
            drop(metrics.polls.get_or_create(&PollLabel { outcome }));
        }
        for &outcome in RequestOutcome::ALL {
            drop(metrics.drains.get_or_create(&RequestLabel { outcome }));
            drop(metrics.evictions.get_or_create(&RequestLabel { outcome }));
        }
        metrics
    }

    /// Adds the metrics to a registry with the prefix `wscluster_operator`.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("reconciles", "Completed reconciles, including failed ones", self.reconciles.clone());
        registry.register("errors", "Errors, by category", self.errors.clone());
        let help = "Duration of reconciles";
        registry.register_with_unit("reconcile_duration", help, Unit::Seconds, self.duration.clone());
        let help = "Requests to the API server, by verb, kind and answer";
        registry.register("api_requests", help, self.requests.clone());
        registry.register("health_requests", "Health requests to shards, by outcome", self.polls.clone());
        let help = "Requests to shards to start or cancel a drain, by outcome";
        registry.register("drain_requests", help, self.drains.clone());
        let help = "Requests to shards to evict connections for rebalancing, by outcome";
        registry.register("evict_requests", help, self.evictions.clone());
        registry.register("status_writes", "Written statuses of WsClusters", self.status_writes.clone());
        registry.register("events", "Written Kubernetes Events", self.events.clone());
        let help = "WsClusters, by watched namespace; an empty namespace stands for all";
        registry.register("clusters", help, self.clusters.clone());
        registry.register("leader", "1 while this process holds the lease, else 0", self.leader.clone());
    }

    #[cfg(test)]
    pub(crate) fn reconciles(&self) -> u64 {
        self.reconciles.get()
    }

    /// Counts a completed reconcile, and its error if it failed.
    pub(crate) fn reconciled(&self, took: Duration, error: Option<ErrorCategory>) {
        self.reconciles.inc();
        self.duration.observe(took.as_secs_f64());
        if let Some(category) = error {
            self.failed(category);
        }
    }

    /// Sets the number of clusters in a watched namespace, or in all.
    pub(crate) fn clusters(&self, namespace: Option<&str>, count: usize) {
        let namespace = namespace.unwrap_or_default().to_owned();
        self.clusters.get_or_create(&NamespaceLabel { namespace }).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    pub(crate) fn failed(&self, category: ErrorCategory) {
        self.errors.get_or_create(&CategoryLabel { category }).inc();
    }

    pub(crate) fn polled(&self, outcome: PollOutcome) {
        self.polls.get_or_create(&PollLabel { outcome }).inc();
    }

    pub(crate) fn drained(&self, outcome: RequestOutcome) {
        self.drains.get_or_create(&RequestLabel { outcome }).inc();
    }

    pub(crate) fn evicted(&self, outcome: RequestOutcome) {
        self.evictions.get_or_create(&RequestLabel { outcome }).inc();
    }

    /// Notes that a request to the API server starts.
    pub(crate) fn began(&self, call: &Call) {
        self.note(call, |activity, now| activity.attempted = now);
    }

    /// Counts a completed request to the API server.
    pub(crate) fn called(&self, call: &Call, answer: &'static str) {
        self.requests.get_or_create(&ApiRequestLabels { verb: call.verb, kind: call.kind, answer }).inc();
        if answer == crate::api_call::OK {
            self.note(call, |activity, now| activity.answered = now);
        }
    }

    /// Adds a watch.
    pub(crate) fn watches(&self, watch: WatchName) {
        let now = Instant::now();
        self.lock().insert(watch, Activity { attempted: now, answered: now });
    }

    /// Notes that a watch received an event.
    pub(crate) fn event(&self, watch: &WatchName) {
        let now = Instant::now();
        if let Some(activity) = self.lock().get_mut(watch) {
            *activity = Activity { attempted: now, answered: now };
        }
    }

    /// Time since the last answer of the API server on each watch.
    pub(crate) fn ages(&self) -> Vec<(WatchName, Duration)> {
        self.lock().iter().map(|(watch, activity)| (watch.clone(), activity.answered.elapsed())).collect()
    }

    /// Watches that have not attempted anything for longer than `limit`.
    pub(crate) fn stuck(&self, limit: Duration) -> Vec<WatchName> {
        let watches = self.lock();
        let stuck = watches.iter().filter(|(_, activity)| activity.attempted.elapsed() > limit);
        stuck.map(|(watch, _)| watch.clone()).collect()
    }

    fn note(&self, call: &Call, note: impl Fn(&mut Activity, Instant)) {
        if !matches!(call.verb, "watch" | "list") {
            return;
        }
        let now = Instant::now();
        for ((kind, namespace), activity) in self.lock().iter_mut() {
            if *kind == call.kind && *namespace == call.namespace {
                note(activity, now);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<WatchName, Activity>> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
