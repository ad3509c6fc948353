//! What goes wrong between the operator and its API server, drawn from a seed.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// What happens to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is answered with an error and not carried out.
    Refused(u16),
    /// It is carried out, and the answer is an error.
    Lost(u16),
    /// It takes a while.
    Slow(Duration),
    /// A watch ends after so many events.
    Dropped(usize),
    /// A watch says that what it began from is too old.
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

    /// What happens to the next request, which begins a watch, writes or reads.
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
