//! Counts clients that lost their shard and may not have reconnected yet. They hold no slot, so no shard counts them,
//! and a plan without them would give their slots away.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::{Observed, Timestamp};

/// Counts the connections that each shard has lost within a window.
///
/// Clients that left for good, and clients that have already reconnected, count until the window ends, because they
/// cannot be told apart. Counting too many only delays a plan. The window should be `drain.retryAfter.max`, plus the
/// maximum age of a health answer, plus one or two seconds for the handshake.
#[derive(Clone, Debug)]
pub struct Reconnecting {
    window: Duration,
    /// Last observed connections by ordinal.
    seen: BTreeMap<u32, u32>,
    gone: VecDeque<(Timestamp, u32)>,
    sum: u32,
}

impl Reconnecting {
    /// Counts each lost connection for `window`.
    pub const fn new(window: Duration) -> Self {
        Self { window, seen: BTreeMap::new(), gone: VecDeque::new(), sum: 0 }
    }

    /// Compares `observed` with the previous observation, and sets `observed.reconnecting`.
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
        observed.reconnecting = self.sum;
    }

    /// Time from `now` until none of them counts any longer. A plan that waits for their slots must be computed again
    /// then.
    pub fn look_again(&self, now: Timestamp) -> Option<Duration> {
        let (last, _) = self.gone.back()?;
        Some((self.window + Duration::from_millis(1)).saturating_sub(now.since(*last)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Shard, State};

    /// Notes shards, listed by ordinal, at this second.
    fn note(reconnecting: &mut Reconnecting, second: u64, shards: &[(State, u32)]) -> u32 {
        let shard = |(ordinal, (state, connections)): (u32, &(State, u32))| Shard {
            ordinal,
            revision: String::new(),
            state: *state,
            connections: *connections,
            capacity: 100,
            known_to_gateways: true,
            pod_ready: true,
            since: None,
        };
        let shards = (0..).zip(shards).map(shard).collect();
        let mut observed = Observed { replicas: 2, reconnecting: 0, shards };
        reconnecting.note(&mut observed, Timestamp::from_millis(1_000 * second));
        observed.reconnecting
    }

    #[test]
    fn counts_evicted_clients_until_the_window_ends() {
        use State::{Draining, Ready};
        let mut reconnecting = Reconnecting::new(Duration::from_secs(5));
        assert_eq!(note(&mut reconnecting, 0, &[(Ready, 50), (Ready, 40)]), 0);
        assert_eq!(note(&mut reconnecting, 1, &[(Ready, 50), (Draining, 30)]), 10);
        assert_eq!(note(&mut reconnecting, 3, &[(Ready, 65), (Draining, 10)]), 30);
        assert_eq!(note(&mut reconnecting, 6, &[(Ready, 80), (Draining, 0)]), 40);
        assert_eq!(note(&mut reconnecting, 7, &[(Ready, 90)]), 30);
        assert_eq!(note(&mut reconnecting, 12, &[(Ready, 90)]), 0);
    }

    #[test]
    fn asks_for_a_new_plan_when_the_window_ends() {
        use State::Ready;
        let mut reconnecting = Reconnecting::new(Duration::from_secs(5));
        note(&mut reconnecting, 0, &[(Ready, 50)]);
        let at = |second: u64| Timestamp::from_millis(1_000 * second);
        assert_eq!(reconnecting.look_again(at(0)), None);
        note(&mut reconnecting, 1, &[(Ready, 40)]);
        let after = reconnecting.look_again(at(4)).unwrap();
        assert_eq!(after, Duration::from_millis(2_001));
        assert_eq!(note(&mut reconnecting, 6, &[(Ready, 40)]), 10);
        let mut observed = Observed { replicas: 1, reconnecting: 0, shards: vec![] };
        reconnecting.note(&mut observed, Timestamp(at(4).0 + after));
        assert_eq!(observed.reconnecting, 40, "clients of the removed shard");
    }

    #[test]
    fn counts_clients_of_a_removed_or_restarted_shard() {
        use State::{Ready, Starting};
        let mut reconnecting = Reconnecting::new(Duration::from_secs(5));
        note(&mut reconnecting, 0, &[(Ready, 50), (Ready, 40)]);
        assert_eq!(note(&mut reconnecting, 1, &[(Starting, 0)]), 90);
    }
}
