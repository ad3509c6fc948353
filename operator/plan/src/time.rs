//! Time as the plan knows it: no clock, only what the caller says.

use std::ops::Add;
use std::time::Duration;

/// A moment: the time since an epoch of the caller's choice, the same for all moments that it tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub Duration);

impl Timestamp {
    /// `n` milliseconds after the epoch.
    pub const fn from_millis(n: u64) -> Self {
        Self(Duration::from_millis(n))
    }

    /// How long ago `earlier` was; zero where it lies ahead.
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }
}
