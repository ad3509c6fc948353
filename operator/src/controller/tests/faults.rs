//! Faults between the operator and its API server, drawn from a seed.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// The fault of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The request is refused with an error.
    Refused(u16),
    /// The request is carried out, but the answer is an error.
    Lost(u16),
    /// The request is delayed.
    Slow(Duration),
    /// The watch ends after this many events.
    Dropped(usize),
    /// The watch reports that its resource version has expired.
    Gone,
}

/// The source of faults.
#[derive(Debug)]
pub(super) struct Faults(Option<StdRng>);

impl Faults {
    pub(super) fn none() -> Self {
        Self(None)
    }

    pub(super) fn seeded(seed: u64) -> Self {
        Self(Some(StdRng::seed_from_u64(seed)))
    }

    /// The fault of the next request; `watches` if it starts a watch.
    pub(super) fn next(&mut self, watches: bool) -> Option<Fault> {
        let random = self.0.as_mut()?;
        if random.random_bool(0.7) {
            return None;
        }
        let code = [409, 422, 429, 500, 503, 504][random.random_range(0..6)];
        Some(match (watches, random.random_range(0..4)) {
            (true, 0) => Fault::Gone,
            (true, 1 | 2) => Fault::Dropped(random.random_range(0..4)),
            (false, 0) => Fault::Lost(code),
            (_, 3) => Fault::Slow(Duration::from_millis(random.random_range(1..40_000))),
            _ => Fault::Refused(code),
        })
    }
}
