//! Conditions as Kubernetes defines them: a status, a reason in one word, a message, and the time of the last change.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::subject::Subject;

/// The type of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConditionType {
    Ready,
    Progressing,
    Draining,
    Degraded,
    CapacityExhausted,
    Paused,
}

impl ConditionType {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Progressing => "Progressing",
            Self::Draining => "Draining",
            Self::Degraded => "Degraded",
            Self::CapacityExhausted => "CapacityExhausted",
            Self::Paused => "Paused",
        }
    }
}

/// The content of a condition, before it is compared with the previous one.
pub(super) struct Verdict {
    holds: bool,
    reason: &'static str,
    message: String,
    subjects: Vec<Subject>,
}

impl Verdict {
    /// The condition is true.
    pub(super) fn yes(reason: &'static str, message: impl Into<String>) -> Self {
        Self { holds: true, reason, message: message.into(), subjects: Vec::new() }
    }

    /// The condition is false.
    pub(super) fn no(reason: &'static str, message: impl Into<String>) -> Self {
        Self { holds: false, reason, message: message.into(), subjects: Vec::new() }
    }

    /// Adds what the message is about.
    pub(super) fn about(mut self, subjects: impl IntoIterator<Item = Subject>) -> Self {
        self.subjects.extend(subjects);
        self
    }
}

/// Finds a condition by its type.
pub(crate) fn find(conditions: &[Condition], of: ConditionType) -> Option<&Condition> {
    conditions.iter().find(|condition| condition.type_ == of.as_str())
}

/// Whether a condition of this type is true.
pub(crate) fn holds(conditions: &[Condition], of: ConditionType) -> bool {
    find(conditions, of).is_some_and(|condition| condition.status == "True")
}

/// Maximum length of a message that the API server accepts, in characters.
const LONGEST: usize = 32_768;

/// The conditions for `generation`, and what their messages are about. A condition whose status has not changed keeps
/// its transition time.
pub(super) fn stamped<const N: usize>(
    verdicts: [(ConditionType, Verdict); N],
    generation: Option<i64>,
    previous: &[Condition],
    now: &Time,
) -> (Vec<Condition>, Vec<Vec<Subject>>) {
    let stamp = |(of, verdict): (ConditionType, Verdict)| {
        let status = if verdict.holds { "True" } else { "False" };
        let before = find(previous, of).filter(|before| before.status == status);
        let mut message = verdict.message;
        if let Some((end, _)) = message.char_indices().nth(LONGEST) {
            message.truncate(end);
        }
        let condition = Condition {
            type_: of.as_str().to_owned(),
            status: status.to_owned(),
            observed_generation: generation,
            reason: verdict.reason.to_owned(),
            message,
            last_transition_time: before.map_or_else(|| now.clone(), |before| before.last_transition_time.clone()),
        };
        (condition, verdict.subjects)
    };
    verdicts.into_iter().map(stamp).unzip()
}
