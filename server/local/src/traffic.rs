//! Rates for the live line, computed from metrics of the shards.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// Metric: records that a shard read from Kafka.
pub(crate) const RECORDS: &str = "wscluster_kafka_records_total";
/// Metric: messages that a shard wrote to clients.
pub(crate) const DELIVERIES: &str = "wscluster_shard_deliveries_total";

/// The counters of every shard at one time.
#[derive(Clone, Debug)]
pub(crate) struct TrafficCounters {
    at: Instant,
    shards: BTreeMap<Arc<str>, Shard>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Shard {
    records: f64,
    deliveries: f64,
}

/// Rates of the whole run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct TrafficRates {
    /// Records per second. Every shard reads every record, so this is the highest rate of a shard.
    pub(crate) records: f64,
    /// Messages per second to clients, summed over the shards.
    pub(crate) deliveries: f64,
}

impl TrafficCounters {
    /// Counters from the `/metrics` text of each shard.
    pub(crate) fn read(texts: impl Iterator<Item = (Arc<str>, String)>) -> Self {
        let shard = |text: &str| Shard { records: sum(text, RECORDS), deliveries: sum(text, DELIVERIES) };
        Self { at: Instant::now(), shards: texts.map(|(name, text)| (name, shard(&text))).collect() }
    }

    /// Rates between `earlier` and these counters.
    pub(crate) fn since(&self, earlier: &Self) -> TrafficRates {
        let seconds = self.at.duration_since(earlier.at).as_secs_f64();
        let mut rates = TrafficRates::default();
        if seconds <= 0.0 {
            return rates;
        }
        for (name, now) in &self.shards {
            let before = earlier.shards.get(name).copied().unwrap_or(*now);
            // The counters of a restarted shard begin at zero.
            rates.records = rates.records.max((now.records - before.records).max(0.0) / seconds);
            rates.deliveries += (now.deliveries - before.deliveries).max(0.0) / seconds;
        }
        rates
    }
}

/// The sum of all samples of metric `name` in OpenMetrics text.
fn sum(text: &str, name: &str) -> f64 {
    let values = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        // `name{labels} value` or `name value`; a longer name belongs to another metric.
        let value = match rest.as_bytes().first()? {
            b'{' => rest.rsplit_once("} ")?.1,
            b' ' => &rest[1..],
            _ => return None,
        };
        value.split(' ').next()?.parse::<f64>().ok()
    });
    values.sum()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn sums_the_samples_of_one_metric() {
        let text = "# TYPE a_total counter\na_total{topic=\"x} y\"} 5\na_total{topic=\"z\"} 2.5 1700\na_total_created 9\na_total 1\n# EOF\n";
        assert!((sum(text, "a_total") - 8.5).abs() < 1e-9);
        assert!(sum(text, "b_total").abs() < 1e-9);
    }

    #[test]
    fn counts_a_restarted_shard_as_idle() {
        let text = |records: u32, deliveries: u32| format!("{RECORDS} {records}\n{DELIVERIES} {deliveries}\n");
        let one = |a: String, b: String| TrafficCounters::read([("a".into(), a), ("b".into(), b)].into_iter());
        let before = one(text(100, 1_000), text(100, 2_000));
        let mut after = one(text(300, 1_500), text(0, 0));
        after.at = before.at + Duration::from_secs(2);
        assert_eq!(after.since(&before), TrafficRates { records: 100.0, deliveries: 250.0 });
    }
}
