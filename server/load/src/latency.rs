//! Latencies as HDR histograms: three significant digits, 1 µs to 10 min. All have the same buckets, so threads and
//! processes can be merged without loss.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Largest value; longer durations count as this.
const MAX_MICROS: u64 = 600_000_000;

/// A histogram of durations.
#[derive(Clone, Debug)]
pub(super) struct Latency(Histogram<u32>);

impl Default for Latency {
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, MAX_MICROS, 3).expect("bounds are constants"))
    }
}

impl Latency {
    /// Adds `duration`.
    pub(super) fn record(&mut self, duration: Duration) {
        self.0.saturating_record(u64::try_from(duration.as_micros()).unwrap_or(MAX_MICROS).max(1));
    }

    /// Adds every value of `other`.
    pub(super) fn merge(&mut self, other: &Self) {
        self.0.add(&other.0).expect("buckets are the same");
    }

    /// Percentiles for a report.
    pub(super) fn summary(&self) -> Summary {
        if self.0.is_empty() {
            return Summary::default();
        }
        let ms = |micros: u64| micros as f64 / 1_000.0;
        let at = |quantile| ms(self.0.value_at_quantile(quantile));
        Summary {
            count: self.0.len(),
            min: ms(self.0.min()),
            mean: self.0.mean() / 1_000.0,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: ms(self.0.max()),
        }
    }
}

/// Percentiles of a histogram, milliseconds; all 0 for an empty one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct Summary {
    /// Values counted.
    pub(super) count: u64,
    /// Smallest.
    pub(super) min: f64,
    /// Mean.
    pub(super) mean: f64,
    /// Median.
    pub p50: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 99th percentile.
    pub p99: f64,
    /// 99.9th percentile.
    pub p999: f64,
    /// Largest.
    pub(super) max: f64,
}

impl Serialize for Latency {
    /// Pairs of (value, count), because most buckets are empty.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter_recorded().map(|v| (v.value_iterated_to(), v.count_at_value())))
    }
}

impl<'de> Deserialize<'de> for Latency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut latency = Self::default();
        for (micros, count) in Vec::<(u64, u32)>::deserialize(deserializer)? {
            latency.0.saturating_record_n(micros, count);
        }
        Ok(latency)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(micros: &[u64]) -> Latency {
        let mut latency = Latency::default();
        for micros in micros {
            latency.record(Duration::from_micros(*micros));
        }
        latency
    }

    #[test]
    fn says_nothing_of_nothing() {
        assert_eq!(Latency::default().summary(), Summary::default());
    }

    #[test]
    fn counts_what_is_out_of_range_at_its_edge() {
        let mut latency = of(&[0]);
        latency.record(Duration::from_hours(9));
        assert_eq!(latency.summary().count, 2);
        assert!(latency.summary().max >= 600_000.0);
    }

    proptest! {
        #[test]
        fn merging_over_the_wire_equals_one_histogram(a in prop::collection::vec(1_u64..700_000_000, 0..60),
                                                      b in prop::collection::vec(1_u64..700_000_000, 0..60)) {
            let mut merged = Latency::default();
            for part in [&a, &b] {
                let wire = serde_json::to_string(&of(part)).unwrap();
                merged.merge(&serde_json::from_str(&wire).unwrap());
            }
            let whole = of(&[a, b].concat()).summary();
            let merged = merged.summary();
            prop_assert_eq!(merged.count, whole.count);
            for (x, y) in [(merged.p50, whole.p50), (merged.p99, whole.p99), (merged.max, whole.max)] {
                prop_assert!((x - y).abs() <= y * 0.001, "{} {}", x, y);
            }
        }
    }
}
