//! What is wanted of the shards now, and the plan that leads there: the pure functions of the plan, with what they cannot remember.

use std::time::Duration;

use wscluster_api::WsCluster;
use wscluster_plan::{Desired, Evict, Observed as Seen, Plan, Reconnecting, Timestamp, plan};

use super::memory::Memory;
use crate::build;
use crate::observe::{Observed, now};
use crate::settings::Settings;
use crate::status::Target;

/// Annotation by which a person approves one step of a supervised rollout: `REVISION:ORDINAL`.
pub const APPROVE: &str = "wscluster.dev/approve";

/// A health answer may be as old as this.
const HEALTH_AGE: Duration = Duration::from_secs(10);

impl Memory {
    /// What `cluster` asks for.
    pub(super) fn target(&mut self, cluster: &WsCluster, settings: &Settings, observed: &Observed) -> Target {
        let deadline = cluster.spec.drain.deadline.0;
        let connections = observed.shards.iter().map(|pod| pod.connections(deadline)).sum();
        // During a drain, or beside an extra shard, there are more replicas than are wanted.
        let before = self.status(cluster).desired_shards.or_else(|| observed.replicas());
        Target {
            shards: self.autoscaler.wanted(&cluster.spec, before, connections, now()).shards,
            revision: build::shard_revision(cluster, settings),
            gateway_revision: build::gateway_revision(cluster, settings),
        }
    }

    /// The plan for what was observed.
    pub(super) fn plan(&mut self, cluster: &WsCluster, target: &Target, observed: &Observed) -> Plan {
        let now = now();
        let mut desired = Desired::new(&cluster.spec, target.revision.clone());
        desired.shards = target.shards;
        desired.approved = approved(cluster, &target.revision);
        plan(&desired, &self.seen(cluster, observed, now), now)
    }

    /// The plan where nobody can tell what is wanted: as for a pause, drains are taken back.
    pub(super) fn halt(&mut self, cluster: &WsCluster, observed: &Observed) -> Plan {
        let now = now();
        let desired = Desired { paused: true, ..Desired::new(&cluster.spec, "") };
        plan(&desired, &self.seen(cluster, observed, now), now)
    }

    /// Who moves to emptier shards now, beside `plan`.
    pub(super) fn rebalance(&mut self, cluster: &WsCluster, observed: &Observed, plan: &Plan) -> Vec<Evict> {
        let Some(rules) = &cluster.spec.rebalance else { return Vec::new() };
        let now = now();
        let seen = self.seen(cluster, observed, now);
        self.rounds.next(rules, &seen, plan, window(cluster), now)
    }

    /// What was observed, with those who are on their way back.
    fn seen(&mut self, cluster: &WsCluster, observed: &Observed, now: Timestamp) -> Seen {
        let mut seen = observed.for_plan(cluster, now);
        let window = window(cluster);
        match &mut self.reconnecting {
            Some((known, reconnecting)) if *known == window => reconnecting.note(&mut seen, now),
            _ => self.reconnecting.insert((window, Reconnecting::new(window))).1.note(&mut seen, now),
        }
        seen
    }
}

/// Time until who was moved is back and seen.
fn window(cluster: &WsCluster) -> Duration {
    cluster.spec.drain.retry_after.max.0 + HEALTH_AGE
}

/// The shard whose step to `revision` a person approved.
fn approved(cluster: &WsCluster, revision: &str) -> Option<u32> {
    let (of, ordinal) = cluster.metadata.annotations.as_ref()?.get(APPROVE)?.split_once(':')?;
    (of == revision).then(|| ordinal.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use wscluster_api::status::WsClusterStatus;

    use super::*;
    use crate::build::fixtures;
    use crate::health::Seen;
    use crate::observe::{Ailment, ShardPod, Trouble};

    fn pod(ordinal: u32, connections: u32) -> ShardPod {
        let answer = json!({ "state": "ready", "connections": connections, "capacity": 100 });
        ShardPod {
            name: format!("prices-{ordinal}"),
            uid: format!("uid-{ordinal}"),
            ordinal,
            revision: String::new(),
            address: None,
            ready: true,
            unready: None,
            served: true,
            leaving: None,
            age: None,
            trouble: None,
            health: Seen::of(serde_json::from_value(answer).unwrap()),
        }
    }

    /// Shards that an operator wants that was just started.
    fn wanted(desired: Option<u32>, shards: Vec<ShardPod>) -> u32 {
        let mut cluster = fixtures::cluster();
        cluster.spec.capacity = 100;
        cluster.spec.autoscale =
            serde_json::from_value(json!({ "min": 1, "max": 9, "targetUtilization": 100 })).unwrap();
        cluster.status = Some(WsClusterStatus { desired_shards: desired, ..WsClusterStatus::default() });
        let set = json!({ "metadata": {}, "spec": { "replicas": shards.len(), "selector": {}, "serviceName": "s", "template": {} } });
        let stateful_set = Some(std::sync::Arc::new(serde_json::from_value(set).unwrap()));
        let observed = Observed { stateful_set, shards, ..Observed::default() };
        Memory::default().target(&cluster, &fixtures::settings(), &observed).shards
    }

    #[test]
    fn a_restart_in_the_middle_of_a_scale_down_does_not_take_it_back() {
        let shards = || vec![pod(0, 50), pod(1, 50), pod(2, 0)];
        assert_eq!(wanted(Some(2), shards()), 2, "one still drains");
        assert_eq!(wanted(None, shards()), 3, "nobody has said what is wanted");
    }

    #[test]
    fn shards_are_not_wanted_for_clients_that_are_not_there() {
        let deadline = fixtures::cluster().spec.drain.deadline.0;
        let crash = Trouble { ailment: Ailment::Crash, message: String::new(), is_down: true };
        let failing = ShardPod { trouble: Some(crash), ..pod(1, 100) };
        let lost = ShardPod { leaving: Some(deadline), ..pod(2, 100) };
        assert_eq!(wanted(Some(1), vec![pod(0, 50), failing, lost]), 1);
        let leaves = ShardPod { leaving: Some(Duration::ZERO), ..pod(1, 100) };
        assert_eq!(wanted(Some(1), vec![pod(0, 50), leaves]), 2);
    }
}
