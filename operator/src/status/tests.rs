//! The status in each situation that a cluster may be in.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff;
use serde_json::json;
use wscluster_admin::health::{KafkaStatus, ShardHealth, State as ShardState};
use wscluster_plan::{Desired, plan};

use super::ConditionType::{CapacityExhausted, Degraded, Draining, Paused, Progressing, Ready};
use super::*;
use crate::build::fixtures;
use crate::build::{Decided, build};
use crate::health::ProbeHistory;
use crate::observe::{PodProblem, ProblemKind, now};
use crate::shard_client;

/// A cluster of three shards and two gateways, settled, to be changed by each test.
struct Case {
    cluster: WsCluster,
    observed: ObservedCluster,
    target: RolloutTarget,
    outcome: ApplyOutcome,
    previous: WsClusterStatus,
}

fn answer(state: ShardState, connections: u32) -> ShardHealth {
    shard_client::health(state, connections, 100)
}

fn reported(state: ShardState, connections: u32) -> ProbeHistory {
    ProbeHistory::of(answer(state, connections))
}

fn pod(ordinal: u32, revision: &str) -> ShardPod {
    ShardPod {
        name: format!("prices-{ordinal}"),
        uid: format!("uid-{ordinal}"),
        ordinal,
        revision: revision.to_owned(),
        address: Some([10, 0, 0, ordinal as u8].into()),
        ready: true,
        served: true,
        unready: None,
        leaving: None,
        age: Some(Duration::from_mins(1)),
        problem: None,
        health: reported(ShardState::Ready, 10),
    }
}

impl Case {
    fn settled() -> Self {
        let mut cluster = fixtures::cluster();
        cluster.metadata.name = Some("prices".to_owned());
        cluster.metadata.generation = Some(1);
        cluster.spec.shards = 3;
        cluster.spec.capacity = 100;
        let mut case = Self {
            cluster,
            observed: ObservedCluster::default(),
            target: RolloutTarget::default(),
            outcome: ApplyOutcome::Applied,
            previous: WsClusterStatus::default(),
        };
        case.apply(3);
        let revision = case.target.revision.clone();
        case.observed.shards = (0..3).map(|ordinal| pod(ordinal, &revision)).collect();
        case
    }

    /// Applies what the spec asks for, and completes the rollout of the gateways.
    fn apply(&mut self, replicas: u32) {
        let built = build(&self.cluster, &fixtures::settings(), Decided { replicas, partition: 0 });
        let mut gateways = built.gateways;
        gateways.metadata.generation = Some(1);
        gateways.status = serde_json::from_value(json!({ "observedGeneration": 1, "replicas": 2, "updatedReplicas": 2,
            "readyReplicas": 2, "availableReplicas": 2 }))
        .unwrap();
        let label =
            |labels: Option<std::collections::BTreeMap<String, String>>| labels.unwrap()[labels::REVISION].clone();
        self.target = RolloutTarget {
            shards: self.cluster.spec.shards,
            revision: label(built.shards.spec.clone().unwrap().template.metadata.unwrap().labels),
            gateway_revision: label(gateways.spec.clone().unwrap().template.metadata.unwrap().labels),
        };
        self.observed.stateful_set = Some(Arc::new(built.shards));
        self.observed.deployment = Some(Arc::new(gateways));
    }

    fn status(&self) -> WsClusterStatus {
        self.full_status().object
    }

    fn full_status(&self) -> Status {
        let mut desired = Desired::new(&self.cluster.spec, self.target.revision.clone());
        desired.shards = self.target.shards;
        let moment = now();
        let plan = plan(&desired, &self.observed.for_plan(&self.cluster, moment), moment);
        let at = Time(jiff::Timestamp::from_second(1_000).unwrap());
        status(&StatusInput {
            cluster: &self.cluster,
            observed: &self.observed,
            target: &self.target,
            plan: matches!(self.outcome, ApplyOutcome::Invalid(_)).then_some(()).map_or(Some(&plan), |()| None),
            outcome: &self.outcome,
            previous: &self.previous,
            now: &at,
        })
    }

    /// The phase, and conditions as `Name=Status Reason: message`.
    fn summary(&self, types: &[ConditionType]) -> (String, Vec<String>) {
        let status = self.status();
        let line = |of: &ConditionType| {
            let condition = find(&status.conditions, *of).unwrap();
            format!("{}={} {}: {}", of.as_str(), condition.status, condition.reason, condition.message)
        };
        (status.phase.clone().unwrap(), types.iter().map(line).collect())
    }

    fn assert(&self, phase: &str, conditions: &[(ConditionType, &str)]) {
        let types: Vec<_> = conditions.iter().map(|(of, _)| *of).collect();
        let revision = &self.target.revision;
        let expect = |(of, text): &(ConditionType, &str)| format!("{}={}", of.as_str(), text.replace("REV", revision));
        let expected: Vec<_> = conditions.iter().map(expect).collect();
        assert_eq!(self.summary(&types), (phase.to_owned(), expected));
    }
}

#[test]
fn ready_when_the_spec_is_completely_in_effect() {
    let case = Case::settled();
    case.assert(
        "Ready",
        &[
            (Ready, "True Serving: 3 of 3 shards serve at revision REV, 2 of 2 gateways are ready"),
            (Progressing, "False Settled: 3 of 3 shards serve at revision REV"),
            (Draining, "False NoDrain: no shard drains"),
            (Degraded, "False Healthy: no problem was found"),
            (CapacityExhausted, "False SlotsFree: 30 of 300 slots are taken, 270 are free"),
            (Paused, "False NotPaused: spec.paused is false"),
        ],
    );
    let status = case.status();
    assert_eq!((status.desired_shards, status.shards, status.ready_shards), (Some(3), Some(3), Some(3)));
    assert_eq!(
        (status.connections, status.capacity, status.utilization.as_deref()),
        (Some(30), Some(300), Some("10%"))
    );
    let selector =
        "app.kubernetes.io/component=shard,app.kubernetes.io/instance=prices,app.kubernetes.io/name=wscluster";
    assert_eq!(status.selector.as_deref(), Some(selector));
    assert!(status.conditions.iter().all(|condition| condition.observed_generation == Some(1)));
    assert_eq!(status.members[2].name, "prices-2");
}

#[test]
fn not_ready_from_the_moment_a_new_spec_is_applied() {
    let mut case = Case::settled();
    case.previous = case.status();
    case.cluster.metadata.generation = Some(2);
    case.cluster.spec.capacity = 200;
    case.apply(3);
    let ready = find(&case.status().conditions, Ready).cloned().unwrap();
    assert_eq!((&*ready.status, ready.observed_generation), ("False", Some(2)));
    assert!(ready.message.starts_with("0 of 3 shards serve at revision"), "{}", ready.message);
    assert_eq!(case.status().phase.as_deref(), Some("RollingOut"));
}

#[test]
fn not_ready_while_gateways_roll_out_or_their_controller_has_not_observed_the_spec() {
    let mut case = Case::settled();
    let mut gateways = (**case.observed.deployment.as_ref().unwrap()).clone();
    gateways.metadata.generation = Some(2);
    case.observed.deployment = Some(Arc::new(gateways.clone()));
    case.assert(
        "RollingOut",
        &[(Ready, "False GatewaysNotReady: 3 of 3 shards serve at revision REV, 2 of 2 gateways are ready")],
    );
    gateways.metadata.generation = Some(1);
    gateways.status.as_mut().unwrap().updated_replicas = Some(1);
    case.observed.deployment = Some(Arc::new(gateways));
    let pace = "an old one stops when a new one has been ready for 3 s";
    let message = format!("True RollingOut: 2 of 2 gateways are ready, 1 of them new; {pace}");
    case.assert("RollingOut", &[(Progressing, &message)]);
}

#[test]
fn ready_does_not_wait_until_gateways_are_available() {
    let mut case = Case::settled();
    let gateways = Arc::make_mut(case.observed.deployment.as_mut().unwrap());
    gateways.status.as_mut().unwrap().available_replicas = None;
    let message = "True Serving: 3 of 3 shards serve at revision REV, 2 of 2 gateways are ready";
    case.assert("Ready", &[(Ready, message)]);
    // The last old gateway still exists: the rollout is not complete.
    let gateways = Arc::make_mut(case.observed.deployment.as_mut().unwrap());
    gateways.status.as_mut().unwrap().replicas = Some(3);
    assert_eq!(case.status().phase.as_deref(), Some("RollingOut"));
}

#[test]
fn starting() {
    let mut case = Case::settled();
    case.observed.shards.clear();
    case.assert(
        "Starting",
        &[(Ready, "False ShardsNotReady: 0 of 3 shards serve at revision REV, 2 of 2 gateways are ready")],
    );
    case.observed.shards = vec![ShardPod {
        ready: false,
        served: false,
        health: ProbeHistory::default(),
        ..pod(0, &case.target.revision)
    }];
    let (phase, told) = case.summary(&[Progressing, Degraded]);
    assert_eq!(phase, "Starting");
    assert!(told[0].contains("True Starting: 0 of 3 shards serve"), "{told:?}");
    assert!(told[1].contains("False Healthy"), "{told:?}");
}

#[test]
fn a_shard_that_crashes() {
    let mut case = Case::settled();
    let message = "crashed (exit code 1), 3 restarts".to_owned();
    let pod = &mut case.observed.shards[1];
    pod.problem = Some(PodProblem { kind: ProblemKind::Crash, message, is_down: true });
    pod.ready = false;
    case.assert(
        "Degraded",
        &[
            (Ready, "False ShardsNotReady: 2 of 3 shards serve at revision REV, 2 of 2 gateways are ready"),
            (Degraded, "True ShardCrashing: prices-1 crashed (exit code 1), 3 restarts"),
        ],
    );
    assert_eq!(case.status().members[1].state, "failing");
    assert_eq!(case.status().members[1].connections, 0);
}

#[test]
fn kafka_away() {
    let mut case = Case::settled();
    for pod in &mut case.observed.shards[..2] {
        let mut answer = answer(ShardState::Ready, 10);
        let kafka = &mut answer.checks.kafka;
        (kafka.status, kafka.error) = (KafkaStatus::Disconnected, Some("connection refused".to_owned()));
        pod.health = ProbeHistory::of(answer);
    }
    case.assert(
        "Degraded",
        &[
            (Ready, "True Serving: 3 of 3 shards serve at revision REV, 2 of 2 gateways are ready"),
            (Degraded, "True KafkaUnavailable: 2 of 3 shards have a problem with Kafka; prices-0: connection refused"),
        ],
    );
}

#[test]
fn an_image_that_does_not_exist() {
    let mut case = Case::settled();
    for pod in &mut case.observed.shards {
        let message = "cannot pull image \"none:1\": not found".to_owned();
        pod.problem = Some(PodProblem { kind: ProblemKind::Image, message, is_down: true });
        (pod.ready, pod.health) = (false, ProbeHistory::default());
    }
    let told = case.summary(&[Degraded]).1;
    assert!(told[0].starts_with(
        "Degraded=True ShardImageUnavailable: prices-0 cannot pull image \"none:1\": not found; prices-1"
    ));
    case = Case::settled();
    let message = "cannot pull image \"none:1\"".to_owned();
    case.observed.gateway_problem = Some(PodProblem { kind: ProblemKind::Image, message, is_down: true });
    case.assert("Degraded", &[(Degraded, "True GatewayImageUnavailable: a gateway cannot pull image \"none:1\"")]);
}

#[test]
fn quota_exceeded() {
    let mut case = Case::settled();
    case.observed.shards.pop();
    case.observed.refused = Some("pods \"prices-2\" is forbidden: exceeded quota: q".to_owned());
    let expected = "True ShardsRefused: 1 shards cannot be created: pods \"prices-2\" is forbidden: exceeded quota: q";
    case.assert("Degraded", &[(Degraded, expected)]);
    let mut case = Case::settled();
    let mut gateways = (**case.observed.deployment.as_ref().unwrap()).clone();
    let status = gateways.status.as_mut().unwrap();
    let failure = json!({ "type": "ReplicaFailure", "status": "True", "message": "exceeded quota: q" });
    (status.ready_replicas, status.conditions) = (Some(1), Some(vec![serde_json::from_value(failure).unwrap()]));
    case.observed.deployment = Some(Arc::new(gateways));
    case.assert("Degraded", &[(Degraded, "True GatewaysRefused: 1 gateways cannot be created: exceeded quota: q")]);
}

#[test]
fn spec_invalid() {
    let mut case = Case::settled();
    let violation = Violation { field: "spec.capacity".into(), value: "0".into(), remedy: "give 1 or more".into() };
    case.outcome = ApplyOutcome::Invalid(vec![violation]);
    case.assert(
        "Invalid",
        &[
            (Ready, "False SpecInvalid: the spec was not applied; 3 shards of an earlier spec serve"),
            (Progressing, "False NotApplied: the spec was not applied: see Degraded"),
            (Degraded, "True SpecInvalid: spec.capacity: 0 is not allowed; give 1 or more"),
        ],
    );
}

#[test]
fn name_taken() {
    let mut case = Case::settled();
    case.outcome = ApplyOutcome::NameTaken("Service prices-gateway exists already".to_owned());
    case.assert("Blocked", &[(Degraded, "True NameTaken: Service prices-gateway exists already")]);
    case.outcome = ApplyOutcome::Failed(
        ErrorCategory::QuotaExceeded,
        "failed to apply Service prices-gateway: exceeded quota".to_owned(),
    );
    case.assert(
        "Degraded",
        &[(Degraded, "True QuotaExceeded: failed to apply Service prices-gateway: exceeded quota")],
    );
    assert_eq!(find(&case.status().conditions, Ready).unwrap().status, "False");
}

#[test]
fn paused_is_reported_and_a_change_meanwhile_is_not_ready() {
    let mut case = Case::settled();
    case.cluster.spec.paused = true;
    case.outcome = ApplyOutcome::Paused;
    case.assert(
        "Paused",
        &[
            (Ready, "True Serving: 3 of 3 shards serve at revision REV, 2 of 2 gateways are ready"),
            (Paused, "True SpecPaused: spec.paused is true: nothing is changed until it is false"),
        ],
    );
    case.target.shards = 5;
    case.assert("Paused", &[(Ready, "False Paused: 3 of 5 shards serve at revision REV, 2 of 2 gateways are ready")]);
}

#[test]
fn scaling_down_is_draining_until_the_last_pod_is_gone() {
    let mut case = Case::settled();
    case.cluster.spec.shards = 2;
    case.target.shards = 2;
    case.observed.shards[2].health = reported(ShardState::Draining, 7);
    let (phase, told) = case.summary(&[Ready, Progressing, Draining]);
    assert_eq!(phase, "ScalingDown");
    assert!(told[0].contains("False ShardsLeaving: 2 of 2 shards serve"), "{told:?}");
    assert!(told[1].contains("True ScalingDown: 3 shards exist, 2 are wanted"), "{told:?}");
    assert_eq!(told[2], "Draining=True ConnectionsMoving: 7 connections are left on prices-2, closed at 100/s each");
}

#[test]
fn an_overdue_pod_is_reported_and_holds_no_connections() {
    let mut case = Case::settled();
    let deadline = case.cluster.spec.drain.deadline.0;
    case.observed.shards[2].leaving = Some(deadline);
    let status = case.status();
    assert_eq!(
        (status.connections, &*status.members[2].state, status.members[2].connections),
        (Some(20), "leaving", 0)
    );
    case.assert(
        "Starting",
        &[(Draining, "False NoDrain: no shard drains"), (Degraded, "False Healthy: no problem was found")],
    );
    case.observed.shards[2].leaving = Some(deadline + Duration::from_secs(15));
    let message = "True ShardNotEnding: prices-2 has been terminating for 135 s, longer than its grace period of 135 s: check its node";
    case.assert("Degraded", &[(Degraded, message)]);
}

#[test]
fn a_shard_that_only_the_operator_cannot_reach() {
    let mut case = Case::settled();
    case.observed.shards[1].health = ProbeHistory::silent();
    let message = "True ShardSilent: prices-1 does not answer the operator, although its pod is Ready, and last held 7 connections";
    case.assert("Degraded", &[(Degraded, message)]);
}

#[test]
fn an_invalid_spec_keeps_the_wanted_number_of_shards() {
    let mut case = Case::settled();
    case.outcome = ApplyOutcome::Invalid(vec![]);
    assert_eq!(case.status().desired_shards, Some(3));
}

#[test]
fn capacity_is_exhausted_until_two_percent_are_free() {
    let mut case = Case::settled();
    let fill = |case: &mut Case, last: u32| {
        for (pod, connections) in case.observed.shards.iter_mut().zip([100, 100, last]) {
            pod.health = reported(if connections == 100 { ShardState::Full } else { ShardState::Ready }, connections);
        }
    };
    fill(&mut case, 99);
    let exhausted = |case: &Case| find(&case.status().conditions, CapacityExhausted).unwrap().status.clone();
    assert_eq!((&*exhausted(&case), case.status().utilization.as_deref()), ("False", Some("99%")));
    fill(&mut case, 100);
    case.assert("Full", &[(CapacityExhausted, "True NoFreeSlots: 300 of 300 slots are taken, 0 are free")]);
    assert_eq!(case.status().ready_shards, Some(3), "a full shard serves its clients");
    case.previous = case.status();
    fill(&mut case, 94);
    assert_eq!(exhausted(&case), "True", "2 % are not free yet");
    fill(&mut case, 93);
    assert_eq!(exhausted(&case), "False");
}

#[test]
fn a_transition_time_is_that_of_the_last_change() {
    let mut case = Case::settled();
    let early = Time(jiff::Timestamp::from_second(7).unwrap());
    case.previous = case.status();
    case.previous.conditions.iter_mut().for_each(|condition| condition.last_transition_time = early.clone());
    case.observed.shards[0].ready = false;
    let status = case.status();
    let at = |of: ConditionType| find(&status.conditions, of).unwrap().last_transition_time.0.as_second();
    assert_eq!((at(Ready), at(Progressing), at(Degraded), at(Paused)), (1_000, 1_000, 7, 7));
}

#[test]
fn an_unchanged_observation_yields_the_same_status() {
    let mut case = Case::settled();
    let before = case.full_status();
    case.previous = before.object;
    assert_eq!(change(&case.previous, &Some(before.subjects), &case.full_status()), StatusChange::Nothing);
}

#[test]
fn moving_connections_are_numbers_and_another_obstacle_is_a_transition() {
    let mut case = Case::settled();
    case.cluster.spec.shards = 2;
    case.target.shards = 2;
    case.observed.shards[2].health = reported(ShardState::Draining, 7);
    let before = case.full_status();
    case.previous = before.object;
    case.observed.shards[2].health = reported(ShardState::Draining, 3);
    let subjects = Some(before.subjects);
    assert_eq!(change(&case.previous, &subjects, &case.full_status()), StatusChange::Numbers);
    case.observed.shards[1].health = reported(ShardState::Draining, 10);
    assert_eq!(change(&case.previous, &subjects, &case.full_status()), StatusChange::Transition);
}
