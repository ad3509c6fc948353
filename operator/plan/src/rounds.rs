//! When the next round of [`rebalance`] begins, and what the hour has cost.

use std::collections::VecDeque;
use std::time::Duration;

use wscluster_api::spec::Rebalance;

use crate::{Evict, Observed, Plan, Reason, Timestamp, rebalance};

/// What the budget is for.
const HOUR: Duration = Duration::from_hours(1);

/// Remembers rounds, so that there is one at a time and no more in an hour than the budget allows. Who forgets it, as a
/// process that starts anew, begins a new hour.
#[derive(Clone, Debug, Default)]
pub struct Rounds {
    /// When the last one is over and its clients are back.
    until: Option<Timestamp>,
    moved: VecDeque<(Timestamp, u32)>,
}

impl Rounds {
    /// The next round: empty unless `plan` has nothing to do, the last round is over, and its clients had `window` to come
    /// back.
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

    /// When the round under way is over, if there is one.
    pub fn look_again(&self, now: Timestamp) -> Option<Duration> {
        self.until.map(|until| until.since(now)).filter(|left| !left.is_zero())
    }
}

/// Whether every shard that is wanted is there and does its work, and no other.
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
            routed: true,
            ready: true,
            since: None,
        };
        Observed { replicas: 3, returning: 0, shards: (0..).zip(connections).map(shard).collect() }
    }

    /// Connections that are asked to move at that second, and the longest that it takes.
    fn moves(rounds: &mut Rounds, desired: &Desired, connections: [u32; 3], second: u64) -> u32 {
        let (observed, now) = (observed(connections), Timestamp::from_millis(second * 1_000));
        let rules = Rebalance { max_imbalance: 20, evict_rate: 100, budget: 10 };
        let plan = plan(desired, &observed, now);
        rounds.next(&rules, &observed, &plan, WINDOW, now).iter().map(|evict| evict.count).sum()
    }

    #[test]
    fn waits_for_the_last_round_and_its_clients_and_keeps_the_budget_of_the_hour() {
        let (mut rounds, desired) = (Rounds::default(), desired("new"));
        assert_eq!(moves(&mut rounds, &desired, [300, 300, 0], 0), 60);
        // 30 of each of two at 50 a second, and ten seconds to come back.
        assert_eq!(rounds.look_again(Timestamp::default()), Some(Duration::from_millis(10_600)));
        assert_eq!(moves(&mut rounds, &desired, [3_000, 3_000, 0], 10), 0);
        assert_eq!(moves(&mut rounds, &desired, [3_000, 3_000, 0], 11), 540, "a tenth, less those of before");
        assert_eq!(moves(&mut rounds, &desired, [3_000, 3_000, 0], 3_000), 0, "the budget is spent");
        assert_eq!(moves(&mut rounds, &desired, [3_000, 3_000, 0], 3_605), 60, "an hour after the first round");
    }

    #[test]
    fn does_nothing_while_the_plan_does_something() {
        let mut rounds = Rounds::default();
        assert_eq!(moves(&mut rounds, &desired("newer"), [3_000, 3_000, 0], 0), 0, "a rollout");
        let fewer = Desired { shards: 2, ..desired("new") };
        assert_eq!(moves(&mut rounds, &fewer, [3_000, 3_000, 0], 0), 0, "a scale-down");
        let more = Desired { shards: 4, ..desired("new") };
        assert_eq!(moves(&mut rounds, &more, [3_000, 3_000, 0], 0), 0, "a scale-up");
        let paused = Desired { paused: true, ..fewer };
        assert_eq!(moves(&mut rounds, &paused, [3_000, 3_000, 0], 0), 0, "a pause in the middle of one");
        assert_eq!(moves(&mut rounds, &desired("new"), [3_000, 3_000, 0], 0), 600);
    }
}
