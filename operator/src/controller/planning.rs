//! Connects the pure functions of the plan with the memory that they need.

use std::time::Duration;

use wscluster_api::WsCluster;
use wscluster_plan::{Desired, Evict, Observed, Plan, Reconnecting, Timestamp, plan};

use super::memory::Memory;
use crate::approval::approved;
use crate::build;
use crate::observe::{ObservedCluster, now};
use crate::settings::Settings;
use crate::status::RolloutTarget;

/// Maximum age of a health answer.
const HEALTH_AGE: Duration = Duration::from_secs(10);

impl Memory {
    /// What `cluster` asks for.
    pub(super) fn target(
        &mut self,
        cluster: &WsCluster,
        settings: &Settings,
        observed: &ObservedCluster,
    ) -> RolloutTarget {
        let deadline = cluster.spec.drain.deadline.0;
        let connections = observed.shards.iter().map(|pod| pod.connections(deadline)).sum();
        // During a drain, or with an extra shard, there are more replicas than wanted.
        let before = self.status(cluster).desired_shards.or_else(|| observed.replicas());
        RolloutTarget {
            shards: self.autoscaler.wanted(&cluster.spec, before, connections, now()).shards,
            revision: build::shard_revision(cluster, settings),
            gateway_revision: build::gateway_revision(cluster, settings),
        }
    }

    /// The plan for an observation.
    pub(super) fn plan(&mut self, cluster: &WsCluster, target: &RolloutTarget, observed: &ObservedCluster) -> Plan {
        let now = now();
        let mut desired = Desired::new(&cluster.spec, target.revision.clone());
        desired.shards = target.shards;
        desired.approved = approved(cluster, &target.revision);
        plan(&desired, &self.input(cluster, observed, now), now)
    }

    /// The plan while the spec is invalid: as during a pause, drains are cancelled.
    pub(super) fn paused_plan(&mut self, cluster: &WsCluster, observed: &ObservedCluster) -> Plan {
        let now = now();
        let desired = Desired { paused: true, ..Desired::new(&cluster.spec, "") };
        plan(&desired, &self.input(cluster, observed, now), now)
    }

    /// The connections to move to emptier shards now, in addition to `plan`.
    pub(super) fn rebalance(&mut self, cluster: &WsCluster, observed: &ObservedCluster, plan: &Plan) -> Vec<Evict> {
        let Some(rules) = &cluster.spec.rebalance else { return Vec::new() };
        let now = now();
        let input = self.input(cluster, observed, now);
        self.rounds.next(rules, &input, plan, window(cluster), now)
    }

    /// The observation as input of a plan, including reconnecting clients.
    fn input(&mut self, cluster: &WsCluster, observed: &ObservedCluster, now: Timestamp) -> Observed {
        let mut input = observed.for_plan(cluster, now);
        let window = window(cluster);
        match &mut self.reconnecting {
            Some((known, reconnecting)) if *known == window => reconnecting.note(&mut input, now),
            _ => self.reconnecting.insert((window, Reconnecting::new(window))).1.note(&mut input, now),
        }
        input
    }
}

/// Time until a moved client has reconnected and is counted.
fn window(cluster: &WsCluster) -> Duration {
    cluster.spec.drain.retry_after.max.0 + HEALTH_AGE
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use wscluster_api::status::WsClusterStatus;

    use super::*;
    use crate::build::fixtures;
    use crate::health::ProbeHistory;
    use crate::observe::{PodProblem, ProblemKind, ShardPod};
    use wscluster_admin::health::State;

    fn pod(ordinal: u32, connections: u32) -> ShardPod {
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
            problem: None,
            health: ProbeHistory::of(crate::shard_client::health(State::Ready, connections, 100)),
        }
    }

    /// The wanted number of shards of an operator that has just started.
    fn wanted(desired: Option<u32>, shards: Vec<ShardPod>) -> u32 {
        let mut cluster = fixtures::cluster();
        cluster.spec.capacity = 100;
        cluster.spec.autoscale =
            serde_json::from_value(json!({ "min": 1, "max": 9, "targetUtilization": 100 })).unwrap();
        cluster.status = Some(WsClusterStatus { desired_shards: desired, ..WsClusterStatus::default() });
        let set = json!({ "metadata": {}, "spec": { "replicas": shards.len(), "selector": {}, "serviceName": "s", "template": {} } });
        let stateful_set = Some(std::sync::Arc::new(serde_json::from_value(set).unwrap()));
        let observed = ObservedCluster { stateful_set, shards, ..ObservedCluster::default() };
        Memory::default().target(&cluster, &fixtures::settings(), &observed).shards
    }

    #[test]
    fn a_restart_during_a_scale_down_does_not_undo_it() {
        let shards = || vec![pod(0, 50), pod(1, 50), pod(2, 0)];
        assert_eq!(wanted(Some(2), shards()), 2, "one still drains");
        assert_eq!(wanted(None, shards()), 3, "the status does not contain the wanted number");
    }

    #[test]
    fn connections_of_broken_shards_do_not_count() {
        let deadline = fixtures::cluster().spec.drain.deadline.0;
        let crash = PodProblem { kind: ProblemKind::Crash, message: String::new(), is_down: true };
        let failing = ShardPod { problem: Some(crash), ..pod(1, 100) };
        let lost = ShardPod { leaving: Some(deadline), ..pod(2, 100) };
        assert_eq!(wanted(Some(1), vec![pod(0, 50), failing, lost]), 1);
        let leaves = ShardPod { leaving: Some(Duration::ZERO), ..pod(1, 100) };
        assert_eq!(wanted(Some(1), vec![pod(0, 50), leaves]), 2);
    }
}
