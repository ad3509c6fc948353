//! Which transitions there are between two statuses, as Events. Pure; equal statuses have none.
//!
//! A condition that turns, or that holds for another reason, is a transition. That a message has other numbers is none.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use wscluster_api::status::WsClusterStatus;

use super::Note;
use crate::status::find;

/// Conditions in the order in which people want to read of them.
const ORDER: [&str; 6] = ["Paused", "Degraded", "CapacityExhausted", "Draining", "Progressing", "Ready"];

/// What is to be told when `before` becomes `now`.
pub fn transitions(before: &WsClusterStatus, now: &WsClusterStatus) -> Vec<Note> {
    ORDER
        .into_iter()
        .filter_map(|name| {
            let now = find(&now.conditions, name)?;
            note(name, find(&before.conditions, name), now)
        })
        .collect()
}

fn note(name: &str, before: Option<&Condition>, now: &Condition) -> Option<Note> {
    let holds = now.status == "True";
    let held = before.is_some_and(|before| before.status == "True");
    let turned = holds != held;
    let other_reason = holds && before.is_some_and(|before| before.reason != now.reason);
    if !turned && !other_reason {
        return None;
    }
    let text = now.message.clone();
    Some(match (name, holds) {
        ("Ready", true) => Note::normal("Ready", text),
        ("Ready", false) => Note::normal("NotReady", text),
        ("Degraded", true) => Note::warning(reason(&now.reason, "Degraded"), text),
        ("Degraded", false) => Note::normal("Recovered", text),
        ("CapacityExhausted", true) => Note::warning("CapacityExhausted", text),
        ("CapacityExhausted", false) => Note::normal("CapacityFree", text),
        ("Draining", true) => Note::normal("Draining", text),
        ("Draining", false) => Note::normal("DrainEnded", text),
        ("Progressing", true) => Note::normal(reason(&now.reason, "Progressing"), text),
        ("Paused", true) => Note::normal("Paused", text),
        ("Paused", false) => Note::normal("Resumed", text),
        // What Progressing ends in, Ready tells.
        _ => return None,
    })
}

/// Reasons that an Event carries as they are.
const REASONS: [&str; 30] = [
    "SpecInvalid",
    "NameTaken",
    "QuotaExceeded",
    "Forbidden",
    "Conflict",
    "Invalid",
    "Throttled",
    "ApiServerError",
    "ApiServerUnreachable",
    "Malformed",
    "ShardImageUnavailable",
    "ShardNotCreated",
    "ShardCrashing",
    "ShardUnschedulable",
    "ShardFailed",
    "ShardsRefused",
    "ShardSilent",
    "ShardNotEnding",
    "ShardImpaired",
    "KafkaUnavailable",
    "GatewayImageUnavailable",
    "GatewayNotCreated",
    "GatewayCrashing",
    "GatewayUnschedulable",
    "GatewayFailed",
    "GatewaysRefused",
    "ScalingDown",
    "ScalingUp",
    "RollingOut",
    "Starting",
];

fn reason(reason: &str, otherwise: &'static str) -> &'static str {
    REASONS.into_iter().find(|known| *known == reason).unwrap_or(otherwise)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use k8s_openapi::jiff::Timestamp;

    use super::*;

    fn status(conditions: &[(&str, &str, &str, &str)]) -> WsClusterStatus {
        let condition = |(name, status, reason, message): &(&str, &str, &str, &str)| Condition {
            type_: (*name).to_owned(),
            status: (*status).to_owned(),
            reason: (*reason).to_owned(),
            message: (*message).to_owned(),
            observed_generation: Some(1),
            last_transition_time: Time(Timestamp::UNIX_EPOCH),
        };
        WsClusterStatus { conditions: conditions.iter().map(condition).collect(), ..WsClusterStatus::default() }
    }

    #[test]
    fn nothing_is_told_twice() {
        let starting =
            status(&[("Ready", "False", "ShardsNotReady", "0 of 3"), ("Progressing", "True", "Starting", "0 of 3")]);
        let first = transitions(&WsClusterStatus::default(), &starting);
        assert_eq!(first, [Note::normal("Starting", "0 of 3")]);
        assert_eq!(transitions(&starting, &starting), []);
        let more =
            status(&[("Ready", "False", "ShardsNotReady", "1 of 3"), ("Progressing", "True", "Starting", "1 of 3")]);
        assert_eq!(transitions(&starting, &more), []);
    }

    #[test]
    fn a_condition_that_turns_or_holds_for_another_reason_is_told() {
        let well = status(&[("Ready", "True", "Serving", "3 of 3"), ("Degraded", "False", "Healthy", "")]);
        let crash = status(&[
            ("Ready", "False", "ShardsNotReady", "2 of 3"),
            ("Degraded", "True", "ShardCrashing", "a crashed"),
        ]);
        let kafka =
            status(&[("Ready", "True", "Serving", "3 of 3"), ("Degraded", "True", "KafkaUnavailable", "refused")]);
        assert_eq!(
            transitions(&well, &crash),
            [Note::warning("ShardCrashing", "a crashed"), Note::normal("NotReady", "2 of 3")]
        );
        assert_eq!(
            transitions(&crash, &kafka),
            [Note::warning("KafkaUnavailable", "refused"), Note::normal("Ready", "3 of 3")]
        );
        assert_eq!(transitions(&kafka, &well), [Note::normal("Recovered", "")]);
    }
}
