//! The timer wheel of a worker: a deadline costs eight bytes, and no timer of the runtime.
//!
//! Deadlines are multiples of [`TICK`]. An entry is only a hint to check a connection, which stores its own deadline.
//! To move a deadline, add an entry; the old one is ignored when it comes up.

use std::time::Duration;

/// Time between two steps of the wheel.
pub(super) const TICK: Duration = Duration::from_millis(100);

/// A time, in ticks since the worker started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tick(pub(super) u32);

impl Tick {
    /// The first tick at or after `span` from this one, and at least one tick later.
    pub(super) fn after(self, span: Duration) -> Self {
        let ticks = span.as_millis().div_ceil(TICK.as_millis()).max(1);
        Self(self.0.saturating_add(u32::try_from(ticks).unwrap_or(u32::MAX)))
    }
}

/// Slots of the wheel. An entry beyond one turn stays for another turn.
const SLOTS: usize = 512;

/// The wheel.
#[derive(Debug)]
pub(super) struct Wheel {
    now: Tick,
    slots: Box<[Vec<(u32, Tick)>]>,
}

impl Wheel {
    /// A wheel at tick 0.
    pub(super) fn new() -> Self {
        Self { now: Tick(0), slots: (0..SLOTS).map(|_| Vec::new()).collect() }
    }

    /// The current tick.
    pub(super) fn now(&self) -> Tick {
        self.now
    }

    /// Adds a check of `key` at the tick `at`, which must be in the future.
    pub(super) fn add(&mut self, key: u32, at: Tick) {
        debug_assert!(at > self.now, "a deadline in the past never comes up");
        self.slots[at.0 as usize % SLOTS].push((key, at));
    }

    /// Advances by one tick and moves the keys to check to `keys`.
    pub(super) fn step(&mut self, keys: &mut Vec<u32>) {
        self.now.0 += 1;
        let now = self.now;
        self.slots[now.0 as usize % SLOTS].retain(|(key, at)| {
            let later = *at > now;
            if !later {
                keys.push(*key);
            }
            later
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_comes_up_at_its_tick() {
        let mut wheel = Wheel::new();
        for ticks in [1, 2, 300, 511, 512, 513, 5_000] {
            wheel.add(ticks, Tick(ticks));
        }
        let mut seen = Vec::new();
        for _ in 1..=6_000 {
            let mut keys = Vec::new();
            wheel.step(&mut keys);
            seen.extend(keys.into_iter().map(|key| (wheel.now().0, key)));
        }
        assert_eq!(seen, [1, 2, 300, 511, 512, 513, 5_000].map(|tick| (tick, tick)));
    }

    #[test]
    fn is_never_early() {
        assert_eq!(Tick(10).after(Duration::from_millis(101)), Tick(12));
        assert_eq!(Tick(10).after(Duration::ZERO), Tick(11));
    }
}
