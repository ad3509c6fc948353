//! Clients that lost their shard and may not have come back yet. They hold no slot, so no shard counts them, and a plan that
//! forgets them would give their slots away.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::{Observed, Timestamp};

/// Remembers how many connections each shard has lost, until those must be back.
///
/// Who left for good counts until then as well, and so does who is back earlier: nobody can tell them from others, and too careful is
/// only slow. The window should be `drain.retryAfter.max`, the age that a health answer may have, and a second or two for the
/// handshake.
#[derive(Clone, Debug)]
pub struct Returning {
    window: Duration,
    /// Connections by ordinal, as seen last.
    seen: BTreeMap<u32, u32>,
    gone: VecDeque<(Timestamp, u32)>,
    sum: u32,
}

impl Returning {
    /// Remembers for `window`.
    pub const fn new(window: Duration) -> Self {
        Self { window, seen: BTreeMap::new(), gone: VecDeque::new(), sum: 0 }
    }

    /// Takes in what was observed `now` and writes down how many may be on their way.
    pub fn note(&mut self, observed: &mut Observed, now: Timestamp) {
        let before = std::mem::take(&mut self.seen);
        self.seen = observed.shards.iter().map(|shard| (shard.ordinal, shard.connections)).collect();
        for (ordinal, held) in before {
            let left = held.saturating_sub(self.seen.get(&ordinal).copied().unwrap_or(0));
            if left > 0 {
                self.gone.push_back((now, left));
                self.sum = self.sum.saturating_add(left);
            }
        }
        while let Some((_, left)) = self.gone.pop_front_if(|(at, _)| now.since(*at) > self.window) {
            self.sum = self.sum.saturating_sub(left);
        }
        observed.returning = self.sum;
    }

    /// When, from `now`, all of them must be back: a plan that waits for their slots has to look again then, though nothing moves.
    pub fn look_again(&self, now: Timestamp) -> Option<Duration> {
        let (last, _) = self.gone.back()?;
        Some((self.window + Duration::from_millis(1)).saturating_sub(now.since(*last)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Shard, State};

    /// Notes shards by ordinal, at that second.
    fn note(returning: &mut Returning, second: u64, shards: &[(State, u32)]) -> u32 {
        let shard = |(ordinal, (state, connections)): (u32, &(State, u32))| Shard {
            ordinal,
            revision: String::new(),
            state: *state,
            connections: *connections,
            capacity: 100,
            routed: true,
            ready: true,
            since: None,
        };
        let shards = (0..).zip(shards).map(shard).collect();
        let mut observed = Observed { replicas: 2, returning: 0, shards };
        returning.note(&mut observed, Timestamp::from_millis(1_000 * second));
        observed.returning
    }

    #[test]
    fn counts_who_was_evicted_until_they_must_be_back() {
        use State::{Draining, Ready};
        let mut returning = Returning::new(Duration::from_secs(5));
        assert_eq!(note(&mut returning, 0, &[(Ready, 50), (Ready, 40)]), 0);
        assert_eq!(note(&mut returning, 1, &[(Ready, 50), (Draining, 30)]), 10);
        assert_eq!(note(&mut returning, 3, &[(Ready, 65), (Draining, 10)]), 30);
        assert_eq!(note(&mut returning, 6, &[(Ready, 80), (Draining, 0)]), 40);
        assert_eq!(note(&mut returning, 7, &[(Ready, 90)]), 30);
        assert_eq!(note(&mut returning, 12, &[(Ready, 90)]), 0);
    }

    #[test]
    fn asks_for_a_look_when_all_must_be_back() {
        use State::Ready;
        let mut returning = Returning::new(Duration::from_secs(5));
        note(&mut returning, 0, &[(Ready, 50)]);
        let at = |second: u64| Timestamp::from_millis(1_000 * second);
        assert_eq!(returning.look_again(at(0)), None);
        note(&mut returning, 1, &[(Ready, 40)]);
        let after = returning.look_again(at(4)).unwrap();
        assert_eq!(after, Duration::from_millis(2_001));
        assert_eq!(note(&mut returning, 6, &[(Ready, 40)]), 10);
        let mut observed = Observed { replicas: 1, returning: 0, shards: vec![] };
        returning.note(&mut observed, Timestamp(at(4).0 + after));
        assert_eq!(observed.returning, 40, "those of the shard that is gone since");
    }

    #[test]
    fn counts_clients_of_a_shard_that_is_gone_or_starts_anew() {
        use State::{Ready, Starting};
        let mut returning = Returning::new(Duration::from_secs(5));
        note(&mut returning, 0, &[(Ready, 50), (Ready, 40)]);
        assert_eq!(note(&mut returning, 1, &[(Starting, 0)]), 90);
    }
}
