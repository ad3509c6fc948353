//! The ancestor's CPU guard: one CPU percentage of the whole process, sampled rarely, decides about every client.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

/// Above this percentage every upgrade is refused until the next sample.
const REFUSE_ABOVE: f64 = 75.0;

/// Above this percentage every message is dropped until the next sample.
const DROP_ABOVE: f64 = 80.0;

/// The guard. Its decision changes only when it samples.
#[derive(Debug)]
pub struct Guard {
    on: bool,
    percentage: Cell<f64>,
    last: Cell<(Instant, Duration)>,
    samples: RefCell<Vec<f64>>,
}

impl Guard {
    /// A guard that has not sampled yet; with `on` false it samples but never acts.
    pub fn new(on: bool) -> Self {
        Self { on, percentage: Cell::new(0.0), last: Cell::new((Instant::now(), cpu())), samples: RefCell::default() }
    }

    /// Samples the CPU percentage of this process since the last sample (100 = one busy CPU).
    pub fn sample(&self) {
        let (now, used) = (Instant::now(), cpu());
        let (then, before) = self.last.replace((now, used));
        self.set(100.0 * used.saturating_sub(before).as_secs_f64() / (now - then).as_secs_f64());
    }

    fn set(&self, percentage: f64) {
        self.percentage.set(percentage);
        self.samples.borrow_mut().push((percentage * 10.0).round() / 10.0);
    }

    /// Whether upgrades are refused.
    pub fn refuses(&self) -> bool {
        self.on && self.percentage.get() > REFUSE_ABOVE
    }

    /// Whether messages are dropped.
    pub fn drops(&self) -> bool {
        self.on && self.percentage.get() > DROP_ABOVE
    }

    /// Every sample so far.
    pub fn samples(&self) -> Vec<f64> {
        self.samples.borrow().clone()
    }
}

fn cpu() -> Duration {
    wscluster_runtime::usage::usage("self").unwrap_or_default().cpu
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acts_on_the_last_sample_only() {
        let guard = Guard::new(true);
        for (percentage, refuses, drops) in
            [(74.0, false, false), (78.0, true, false), (97.5, true, true), (9.0, false, false)]
        {
            guard.set(percentage);
            assert_eq!((guard.refuses(), guard.drops()), (refuses, drops), "{percentage}");
        }
        assert_eq!(guard.samples().len(), 4);
    }

    #[test]
    fn never_acts_when_switched_off() {
        let guard = Guard::new(false);
        guard.set(100.0);
        assert!(!guard.refuses() && !guard.drops());
    }
}
