//! The `Degraded` condition: all problems, most severe first.

use wscluster_admin::health::KafkaStatus;
use wscluster_plan::State;

use super::conditions::Verdict;
use super::subject::Subject;
use super::{ApplyOutcome, View};
use crate::build::grace;
use crate::observe::ProblemKind;

/// Maximum number of problems that a message lists; the others are counted.
const LISTED: usize = 5;

pub(super) fn degraded(view: &View<'_>) -> Verdict {
    match view.input.outcome {
        ApplyOutcome::Invalid(violations) => {
            let message = listed(violations.iter().map(ToString::to_string).collect());
            let fields = violations.iter().map(|violation| Subject::Field(violation.field.clone()));
            return Verdict::yes("SpecInvalid", message).about(fields);
        }
        ApplyOutcome::NameTaken(message) => return Verdict::yes("NameTaken", message),
        ApplyOutcome::Failed(category, message) => {
            return Verdict::yes(category.as_str(), message).about([Subject::Failure(*category)]);
        }
        ApplyOutcome::Applied | ApplyOutcome::Paused => {}
    }
    let mut found = Vec::new();
    shards(view, &mut found);
    leaving(view, &mut found);
    if let Some(refused) = &view.input.observed.refused {
        let wanted = view.input.observed.replicas().unwrap_or(0) as usize;
        let missing = wanted.saturating_sub(view.shards().len());
        found.push((Rank::Refused, "ShardsRefused", format!("{missing} shards cannot be created: {refused}")));
    }
    gateways(view, &mut found);
    found.sort_by_key(|(rank, _, _)| *rank);
    let Some((_, reason, _)) = found.first() else { return Verdict::no("Healthy", "no problem was found") };
    let subjects: Vec<_> = found.iter().map(|(_, reason, _)| Subject::Problem(reason)).collect();
    Verdict::yes(reason, listed(found.iter().map(|(_, _, message)| message.clone()).collect())).about(subjects)
}

/// The severity of a problem. The most severe one determines the reason of the condition.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Pod(ProblemKind),
    Refused,
    Gateway,
    Kafka,
    Silent,
    Leaving,
    Process,
}

type Found = Vec<(Rank, &'static str, String)>;

fn shards(view: &View<'_>, found: &mut Found) {
    let mut without_kafka = Vec::new();
    for pod in view.shards().iter().filter(|pod| pod.leaving.is_none()) {
        if let Some(problem) = &pod.problem {
            let reason = match problem.kind {
                ProblemKind::Image => "ShardImageUnavailable",
                ProblemKind::Container => "ShardNotCreated",
                ProblemKind::Crash => "ShardCrashing",
                ProblemKind::Unschedulable => "ShardUnschedulable",
                ProblemKind::Failed => "ShardFailed",
            };
            found.push((Rank::Pod(problem.kind), reason, format!("{} {}", pod.name, problem.message)));
            continue;
        }
        if pod.state() == State::Silent && pod.health.silent_for().is_some() {
            let connections = pod.health.connections();
            let whom = if pod.ready { " the operator, although its pod is Ready," } else { "" };
            let message = format!("{} does not answer{whom} and last held {connections} connections", pod.name);
            found.push((Rank::Silent, "ShardSilent", message));
            continue;
        }
        let Some(answer) = pod.health.answer() else { continue };
        let kafka = &answer.checks.kafka;
        if kafka.status == KafkaStatus::Disconnected || kafka.error.is_some() {
            without_kafka.push((pod, kafka.error.clone()));
        }
        if let Some(reason) = &answer.reason {
            found.push((Rank::Process, "ShardImpaired", format!("{}: {reason}", pod.name)));
        }
    }
    if let Some((first, error)) = without_kafka.first() {
        let brokers = || view.input.cluster.spec.source.kafka.brokers.join(", ");
        let why = error.clone().unwrap_or_else(|| format!("no connection to {}", brokers()));
        let of = view.shards().len();
        let message =
            format!("{} of {of} shards have a problem with Kafka; {}: {why}", without_kafka.len(), first.name);
        found.push((Rank::Kafka, "KafkaUnavailable", message));
    }
}

/// Pods that should have terminated by now, for example because their node is lost.
fn leaving(view: &View<'_>, found: &mut Found) {
    let grace = grace(view.input.cluster.spec.drain.deadline.0);
    for pod in view.shards() {
        let Some(leaving) = pod.leaving.filter(|leaving| *leaving >= grace) else { continue };
        let (took, had) = (leaving.as_secs(), grace.as_secs());
        let message = format!(
            "{} has been terminating for {took} s, longer than its grace period of {had} s: check its node",
            pod.name
        );
        found.push((Rank::Leaving, "ShardNotEnding", message));
    }
}

fn gateways(view: &View<'_>, found: &mut Found) {
    let gateways = &view.gateways;
    if let Some(problem) = &view.input.observed.gateway_problem {
        let reason = match problem.kind {
            ProblemKind::Image => "GatewayImageUnavailable",
            ProblemKind::Container => "GatewayNotCreated",
            ProblemKind::Crash => "GatewayCrashing",
            ProblemKind::Unschedulable => "GatewayUnschedulable",
            ProblemKind::Failed => "GatewayFailed",
        };
        found.push((Rank::Pod(problem.kind), reason, format!("a gateway {}", problem.message)));
    }
    if let Some(refused) = &gateways.refused {
        let missing = (gateways.wanted - gateways.ready).max(0);
        found.push((Rank::Gateway, "GatewaysRefused", format!("{missing} gateways cannot be created: {refused}")));
    }
}

fn listed(messages: Vec<String>) -> String {
    let more = messages.len().saturating_sub(LISTED);
    let listed = messages.into_iter().take(LISTED).collect::<Vec<_>>().join("; ");
    if more == 0 { listed } else { format!("{listed}; {more} more") }
}
