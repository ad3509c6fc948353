//! The transitions between two statuses, as Events. Pure; equal statuses have none.
//!
//! A condition that changes its status, or holds for another reason, is a transition. Other numbers in its message
//! are not.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use wscluster_api::status::WsClusterStatus;

use super::conditions::{ConditionType, find};
use crate::events::Note;

/// The order of the Events of one change.
const ORDER: [ConditionType; 6] = [
    ConditionType::Paused,
    ConditionType::Degraded,
    ConditionType::CapacityExhausted,
    ConditionType::Draining,
    ConditionType::Progressing,
    ConditionType::Ready,
];

/// The Events for a change from `before` to `now`.
pub(crate) fn transitions(before: &WsClusterStatus, now: &WsClusterStatus) -> Vec<Note> {
    ORDER
        .into_iter()
        .filter_map(|of| {
            let now = find(&now.conditions, of)?;
            note(of, find(&before.conditions, of), now)
        })
        .collect()
}

fn note(of: ConditionType, before: Option<&Condition>, now: &Condition) -> Option<Note> {
    let holds = now.status == "True";
    let held = before.is_some_and(|before| before.status == "True");
    let turned = holds != held;
    let other_reason = holds && before.is_some_and(|before| before.reason != now.reason);
    if !turned && !other_reason {
        return None;
    }
    let text = now.message.clone();
    Some(match (of, holds) {
        (ConditionType::Ready, true) => Note::normal("Ready", text),
        (ConditionType::Ready, false) => Note::normal("NotReady", text),
        (ConditionType::Degraded, true) => Note::warning(now.reason.clone(), text),
        (ConditionType::Degraded, false) => Note::normal("Recovered", text),
        (ConditionType::CapacityExhausted, true) => Note::warning("CapacityExhausted", text),
        (ConditionType::CapacityExhausted, false) => Note::normal("CapacityFree", text),
        (ConditionType::Draining, true) => Note::normal("Draining", text),
        (ConditionType::Draining, false) => Note::normal("DrainEnded", text),
        (ConditionType::Progressing, true) => Note::normal(now.reason.clone(), text),
        // The transition of `Ready` reports the end.
        (ConditionType::Progressing, false) => return None,
        (ConditionType::Paused, true) => Note::normal("Paused", text),
        (ConditionType::Paused, false) => Note::normal("Resumed", text),
    })
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
    fn an_unchanged_condition_is_no_transition() {
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
    fn a_condition_that_turns_or_holds_for_another_reason_is_a_transition() {
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
