//! Conditions as Kubernetes wants them: a status, a reason in one word, a message, and when the status last changed.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// What is to be said under one name.
pub(super) struct Verdict {
    holds: bool,
    reason: &'static str,
    message: String,
}

impl Verdict {
    /// It is so.
    pub(super) fn yes(reason: &'static str, message: impl Into<String>) -> Self {
        Self { holds: true, reason, message: message.into() }
    }

    /// It is not.
    pub(super) fn no(reason: &'static str, message: impl Into<String>) -> Self {
        Self { holds: false, reason, message: message.into() }
    }
}

/// The condition of that name.
pub fn find<'a>(conditions: &'a [Condition], name: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == name)
}

/// Most characters that an API server takes in a message.
const LONGEST: usize = 32_768;

/// Conditions of `generation`; each keeps the time of its last change where it did not change.
pub(super) fn stamped<const N: usize>(
    verdicts: [(&str, Verdict); N],
    generation: Option<i64>,
    previous: &[Condition],
    now: &Time,
) -> Vec<Condition> {
    let stamp = |(name, verdict): (&str, Verdict)| {
        let status = if verdict.holds { "True" } else { "False" };
        let before = find(previous, name).filter(|before| before.status == status);
        let mut message = verdict.message;
        if let Some((end, _)) = message.char_indices().nth(LONGEST) {
            message.truncate(end);
        }
        Condition {
            type_: name.to_owned(),
            status: status.to_owned(),
            observed_generation: generation,
            reason: verdict.reason.to_owned(),
            message,
            last_transition_time: before.map_or_else(|| now.clone(), |before| before.last_transition_time.clone()),
        }
    };
    verdicts.into_iter().map(stamp).collect()
}
