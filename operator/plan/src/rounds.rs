//! Decides when the next round of [`rebalance()`] starts, and keeps the hourly budget.

use std::collections::VecDeque;
use std::time::Duration;

use wscluster_api::spec::Rebalance;

use crate::{Evict, Observed, Plan, Reason, Timestamp, rebalance};

/// The period of the budget.
const HOUR: Duration = Duration::from_hours(1);

/// Remembers rounds, so that one runs at a time and the hourly budget holds. A restarted process starts with a full
/// budget.
#[derive(Clone, Debug, Default)]
pub struct RebalanceRounds {
    /// End of the last round, including the time for its clients to reconnect.
    until: Option<Timestamp>,
    moved: VecDeque<(Timestamp, u32)>,
}

impl RebalanceRounds {
    /// The next round. Empty unless `plan` has nothing to do, the last round is over, and its clients had `window` to
    /// reconnect.
    pub fn next(
        &mut self,
        rules: &Rebalance,
        observed: &Observed,
        plan: &Plan,
        window: Duration,
        now: Timestamp,
    ) -> Vec<Evict> {
        while self.moved.pop_front_if(|(at, _)| now.since(*at) > HOUR).is_some() {}
        if self.look_again(now).is_some() || !is_settled(observed, plan) {
            return Vec::new();
        }
        let spent = self.moved.iter().fold(0, |sum: u32, (_, count)| sum.saturating_add(*count));
        let round = rebalance(rules, observed, spent);
        let takes = |evict: &Evict| Duration::from_secs(1).saturating_mul(evict.count) / evict.rate.max(1);
        if let Some(takes) = round.iter().map(takes).max() {
            self.until = Some(now + takes.saturating_add(window));
            self.moved.push_back((now, round.iter().map(|evict| evict.count).sum()));
        }
        round
    }

    /// Time until the running round is over, if there is one.
    pub fn look_again(&self, now: Timestamp) -> Option<Duration> {
        self.until.map(|until| until.since(now)).filter(|left| !left.is_zero())
    }
}

/// Whether all wanted shards serve and no other shard exists.
fn is_settled(observed: &Observed, plan: &Plan) -> bool {
    let serves = plan.steps.iter().all(|step| matches!(step.reason, Reason::Serves { .. }));
    serves && plan.blocked.is_none() && plan.replicas == observed.replicas
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Desired, Shard, State, plan};

    const WINDOW: Duration = Duration::from_secs(10);

    fn desired(revision: &str) -> Desired {
        Desired {
            shards: 3,
            revision: revision.to_owned(),
            capacity: 6_000,
            evict_rate: 100,
            deadline: Duration::from_mins(2),
            paused: false,
            max_in_motion: 1,
            surge: true,
            supervised: false,
            approved: None,
        }
    }

    fn observed(connections: [u32; 3]) -> Observed {
        let shard = |(ordinal, connections)| Shard {
            ordinal,
            revision: "new".to_owned(),
            state: State::Ready,
            connections,
            capacity: 6_000,
            known_to_gateways: true,
            pod_ready: true,
            since: None,
        };
        Observed { replicas: 3, reconnecting: 0, shards: (0..).zip(connections).map(shard).collect() }
    }

    /// Connections that a round at this second moves.
    fn moves(rounds: &mut RebalanceRounds, desired: &Desired, connections: [u32; 3], second: u64) -> u32 {
        let (observed, now) = (observed(connections), Timestamp::from_millis(second * 1_000));
        let rules = Rebalance { max_imbalance: 20, evict_rate: 100, budget: 10 };
        let plan = plan(desired, &observed, now);
        rounds.next(&rules, &observed, &plan, WINDOW, now).iter().map(|evict| evict.count).sum()
    }

    #[test]
    fn waits_for_the_last_round_and_keeps_the_hourly_budget() {
        let (mut rounds, desired) = (RebalanceRounds::default(), desired("new"));
        assert_eq!(moves(&mut rounds, &desired, [300, 300, 0], 0), 60);
        // 30 from each of two shards at 50 per second, and ten seconds to reconnect.
        assert_eq!(rounds.look_again(Timestamp::default()), Some(Duration::from_millis(10_600)));
        assert_eq!(moves(&mut rounds, &desired, [3_000, 3_000, 0], 10), 0);
        assert_eq!(moves(&mut rounds, &desired, [3_000, 3_000, 0], 11), 540, "a tenth, less the first round");
        assert_eq!(moves(&mut rounds, &desired, [3_000, 3_000, 0], 3_000), 0, "the budget is spent");
        assert_eq!(moves(&mut rounds, &desired, [3_000, 3_000, 0], 3_605), 60, "an hour after the first round");
    }

    #[test]
    fn does_nothing_while_the_plan_has_work() {
        let mut rounds = RebalanceRounds::default();
        assert_eq!(moves(&mut rounds, &desired("newer"), [3_000, 3_000, 0], 0), 0, "a rollout");
        let fewer = Desired { shards: 2, ..desired("new") };
        assert_eq!(moves(&mut rounds, &fewer, [3_000, 3_000, 0], 0), 0, "a scale-down");
        let more = Desired { shards: 4, ..desired("new") };
        assert_eq!(moves(&mut rounds, &more, [3_000, 3_000, 0], 0), 0, "a scale-up");
        let paused = Desired { paused: true, ..fewer };
        assert_eq!(moves(&mut rounds, &paused, [3_000, 3_000, 0], 0), 0, "a pause during a scale-down");
        assert_eq!(moves(&mut rounds, &desired("new"), [3_000, 3_000, 0], 0), 600);
    }
}
