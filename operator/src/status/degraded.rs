//! `Degraded`: what is wrong, the gravest first, and each in the words of whoever knows.

use wscluster_plan::State;

use super::conditions::Verdict;
use super::{Outcome, View};
use crate::build::grace;
use crate::observe::Ailment;

/// Troubles that a message names; the others are counted.
const NAMED: usize = 5;

pub(super) fn degraded(view: &View<'_>) -> Verdict {
    match view.input.outcome {
        Outcome::Invalid(violations) => {
            return Verdict::yes("SpecInvalid", listed(violations.iter().map(ToString::to_string).collect()));
        }
        Outcome::NameTaken(message) => return Verdict::yes("NameTaken", message),
        Outcome::Failed(reason, message) => return Verdict::yes(reason, message),
        Outcome::Applied | Outcome::Paused => {}
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
    let Some((_, reason, _)) = found.first() else { return Verdict::no("Healthy", "nothing is wrong") };
    Verdict::yes(reason, listed(found.iter().map(|(_, _, message)| message.clone()).collect()))
}

/// What decides on the reason, where several things are wrong.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Ailment(Ailment),
    Refused,
    Gateway,
    Kafka,
    Silent,
    Leaving,
    Process,
}

type Found = Vec<(Rank, &'static str, String)>;

fn shards(view: &View<'_>, found: &mut Found) {
    let mut away = Vec::new();
    for pod in view.shards().iter().filter(|pod| pod.leaving.is_none()) {
        if let Some(trouble) = &pod.trouble {
            let reason = match trouble.ailment {
                Ailment::Image => "ShardImageUnavailable",
                Ailment::Container => "ShardNotCreated",
                Ailment::Crash => "ShardCrashing",
                Ailment::Unschedulable => "ShardUnschedulable",
                Ailment::Failed => "ShardFailed",
            };
            found.push((Rank::Ailment(trouble.ailment), reason, format!("{} {}", pod.name, trouble.message)));
            continue;
        }
        if pod.state() == State::Silent && pod.health.silent_for().is_some() {
            let whom = if pod.ready { " the operator, and its kubelet finds it ready" } else { "" };
            let message = format!("{} does not answer{whom}, with {} connections", pod.name, pod.health.connections());
            found.push((Rank::Silent, "ShardSilent", message));
            continue;
        }
        let Some(answer) = pod.health.answer() else { continue };
        let kafka = &answer.checks.kafka;
        if kafka.status == "disconnected" || kafka.error.is_some() {
            away.push((pod, kafka.error.clone()));
        }
        if let Some(reason) = &answer.reason {
            found.push((Rank::Process, "ShardImpaired", format!("{}: {reason}", pod.name)));
        }
    }
    if let Some((first, error)) = away.first() {
        let brokers = || view.input.cluster.spec.source.kafka.brokers.join(", ");
        let why = error.clone().unwrap_or_else(|| format!("no connection to {}", brokers()));
        let of = view.shards().len();
        let message = format!("{} of {of} shards have trouble with Kafka; {}: {why}", away.len(), first.name);
        found.push((Rank::Kafka, "KafkaUnavailable", message));
    }
}

/// Pods that are still there after all the time that they had to end, as when their node is lost.
fn leaving(view: &View<'_>, found: &mut Found) {
    let grace = grace(view.input.cluster.spec.drain.deadline.0);
    for pod in view.shards() {
        let Some(leaving) = pod.leaving.filter(|leaving| *leaving >= grace) else { continue };
        let (took, had) = (leaving.as_secs(), grace.as_secs());
        let message = format!("{} is terminating for {took} s and had {had} s: is its node there?", pod.name);
        found.push((Rank::Leaving, "ShardNotEnding", message));
    }
}

fn gateways(view: &View<'_>, found: &mut Found) {
    let gateways = &view.gateways;
    if let Some(trouble) = &view.input.observed.gateway_trouble {
        let reason = match trouble.ailment {
            Ailment::Image => "GatewayImageUnavailable",
            Ailment::Container => "GatewayNotCreated",
            Ailment::Crash => "GatewayCrashing",
            Ailment::Unschedulable => "GatewayUnschedulable",
            Ailment::Failed => "GatewayFailed",
        };
        found.push((Rank::Ailment(trouble.ailment), reason, format!("a gateway {}", trouble.message)));
    }
    if let Some(refused) = &gateways.refused {
        let missing = (gateways.wanted - gateways.ready).max(0);
        found.push((Rank::Gateway, "GatewaysRefused", format!("{missing} gateways cannot be created: {refused}")));
    }
}

fn listed(messages: Vec<String>) -> String {
    let more = messages.len().saturating_sub(NAMED);
    let named = messages.into_iter().take(NAMED).collect::<Vec<_>>().join("; ");
    if more == 0 { named } else { format!("{named}; {more} more") }
}
