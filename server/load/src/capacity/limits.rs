//! The limits of a step, e.g. `p99=50ms,cpu=90,loss=0,failed=0`.

use std::str::FromStr;

use serde::Serialize;

use super::evidence::Row;

/// Upper bounds; absent ones are not checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Limits {
    /// Publish to receipt, 99th percentile, milliseconds.
    pub(super) p99: Option<f64>,
    /// CPU of the server, in percent of one CPU per worker.
    pub(super) cpu: Option<f64>,
    /// Messages lost.
    pub(super) loss: Option<f64>,
    /// Clients that failed or were lost.
    pub(super) failed: Option<f64>,
}

/// Text that is not a limit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a limit; write any of p99=50ms, cpu=90, loss=0, failed=0, separated by commas")]
pub(crate) struct LimitError(String);

impl FromStr for Limits {
    type Err = LimitError;

    fn from_str(text: &str) -> Result<Self, LimitError> {
        let mut limits = Self::default();
        for part in text.split(',') {
            let bad = || LimitError(part.to_owned());
            let (name, value) = part.split_once('=').ok_or_else(bad)?;
            let (slot, unit) = match name.trim() {
                "p99" => (&mut limits.p99, "ms"),
                "cpu" => (&mut limits.cpu, "%"),
                "loss" => (&mut limits.loss, ""),
                "failed" => (&mut limits.failed, ""),
                _ => return Err(bad()),
            };
            let value: f64 = value.trim().trim_end_matches(unit).parse().map_err(|_| bad())?;
            if value < 0.0 || !value.is_finite() {
                return Err(bad());
            }
            *slot = Some(value);
        }
        Ok(limits)
    }
}

impl Limits {
    /// The limits that `row` breaks, each with its value, for a server with `workers` workers.
    pub(super) fn broken_by(&self, row: &Row, workers: u32) -> Vec<String> {
        let workers = f64::from(workers.max(1));
        let checks = [
            ("p99", self.p99, Some(row.delivery_p99_ms), " ms"),
            ("cpu", self.cpu.map(|cpu| cpu * workers), row.cpu_percent, " %"),
            ("loss", self.loss, Some(row.lost as f64), ""),
            ("failed", self.failed, Some(row.failed as f64), ""),
        ];
        let broken = checks.into_iter().filter_map(|(name, limit, value, unit)| {
            let (limit, value) = (limit?, value?);
            (value > limit).then(|| format!("{name} {value:.0}{unit} > {limit:.0}{unit}"))
        });
        broken.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_limits() {
        let limits: Limits = "p99=50ms,cpu=90%,loss=0".parse().unwrap();
        assert_eq!(limits, Limits { p99: Some(50.0), cpu: Some(90.0), loss: Some(0.0), failed: None });
        for bad in ["", "p99", "p99=", "p98=1", "cpu=-1", "loss=NaN", "p99=50ms;cpu=90"] {
            assert!(bad.parse::<Limits>().is_err(), "{bad}");
        }
    }

    #[test]
    fn says_which_limit_broke_and_by_how_much() {
        let limits: Limits = "p99=50ms,cpu=90,loss=0,failed=0".parse().unwrap();
        let mut row = Row { delivery_p99_ms: 50.0, cpu_percent: Some(90.0), ..Row::default() };
        assert!(limits.broken_by(&row, 1).is_empty());
        row.delivery_p99_ms = 61.0;
        row.lost = 3;
        assert_eq!(limits.broken_by(&row, 1), ["p99 61 ms > 50 ms", "loss 3 > 0"]);
        row.cpu_percent = Some(150.0);
        assert_eq!(limits.broken_by(&row, 1).len(), 3);
        assert_eq!(limits.broken_by(&row, 2).len(), 2);
        row.cpu_percent = None;
        assert_eq!(limits.broken_by(&row, 1).len(), 2);
    }
}
