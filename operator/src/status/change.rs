//! How much two statuses differ. A transition is written at once; mere numbers are written at a limited rate.
//!
//! Numbers are the counts of connections, and everything in a message that is not a [`Subject`]. `full` and `ready`
//! count as the same state, because one connection makes the difference.

use wscluster_api::status::WsClusterStatus;
use wscluster_plan::State;

use super::subject::Subject;
use super::{Status, state_name};

/// How much a status changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum StatusChange {
    Nothing,
    /// Only numbers changed.
    Numbers,
    /// More than numbers changed.
    Transition,
}

/// What the messages of a status are about, by condition. `None` if unknown: the status was written by another
/// process.
pub(crate) type Subjects = Option<Vec<Vec<Subject>>>;

/// How much `now` differs from `before`, whose messages are about `subjects`.
pub(crate) fn change(before: &WsClusterStatus, subjects: &Subjects, now: &Status) -> StatusChange {
    let same_subjects = || subjects.as_ref().is_none_or(|subjects| *subjects == now.subjects);
    if *before == now.object {
        StatusChange::Nothing
    } else if without_numbers(before) == without_numbers(&now.object) && same_subjects() {
        StatusChange::Numbers
    } else {
        StatusChange::Transition
    }
}

fn without_numbers(status: &WsClusterStatus) -> WsClusterStatus {
    let mut status = status.clone();
    status.connections = None;
    status.utilization = None;
    for member in &mut status.members {
        member.connections = 0;
        if member.state == state_name(State::Full) {
            state_name(State::Ready).clone_into(&mut member.state);
        }
    }
    for condition in &mut status.conditions {
        condition.message.clear();
    }
    status
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
    use wscluster_api::status::Member;
    use wscluster_plan::{Blocked, Reason};

    use super::*;

    fn status(connections: u32, subjects: &[Subject], state: State) -> Status {
        let condition = Condition {
            type_: "Draining".to_owned(),
            status: "True".to_owned(),
            reason: "ConnectionsMoving".to_owned(),
            message: format!("{connections} connections are left on prices-2"),
            observed_generation: Some(1),
            last_transition_time: Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH),
        };
        let object = WsClusterStatus {
            connections: Some(connections),
            utilization: Some(format!("{connections}%")),
            conditions: vec![condition],
            members: vec![Member { state: state_name(state).to_owned(), connections, ..Member::default() }],
            ..WsClusterStatus::default()
        };
        Status { object, subjects: vec![subjects.to_vec()] }
    }

    fn between(before: &Status, now: &Status) -> StatusChange {
        change(&before.object, &Some(before.subjects.clone()), now)
    }

    #[test]
    fn distinguishes_numbers_from_transitions() {
        let drains = [Subject::Draining];
        let before = status(1_000, &drains, State::Ready);
        assert_eq!(between(&before, &before), StatusChange::Nothing);
        assert_eq!(between(&before, &status(99, &drains, State::Full)), StatusChange::Numbers);
        let more = status(1_000, &[Subject::Draining, Subject::More], State::Ready);
        let mut more_in_words = more;
        more_in_words.object.conditions[0].message += " and 3 more";
        assert_eq!(between(&before, &more_in_words), StatusChange::Transition);
        let mut generation = status(1_000, &drains, State::Ready);
        generation.object.conditions[0].observed_generation = Some(2);
        assert_eq!(between(&before, &generation), StatusChange::Transition);
        assert_eq!(between(&before, &status(1_000, &drains, State::Draining)), StatusChange::Transition);
    }

    #[test]
    fn steps_and_obstacles_are_compared_by_kind_and_not_by_their_numbers() {
        let drains = |connections, left| {
            let left = std::time::Duration::from_millis(left);
            Subject::step(&Reason::Drains { connections, rate: 100, left })
        };
        let missing = |missing| Subject::blocked(&Blocked::Slots { ordinal: 12, missing, free: 1 });
        assert_eq!((drains(1_203, 1_500), missing(812)), (drains(9, 10), missing(3)));
        assert_ne!(drains(1_203, 1_500), Subject::step(&Reason::Leaves { connections: 1_203 }));
        assert_ne!(missing(812), Subject::blocked(&Blocked::Approval { ordinal: 12 }));
    }

    #[test]
    fn the_messages_of_another_process_are_not_compared() {
        let before = status(1_000, &[Subject::Draining], State::Ready);
        let now = status(99, &[Subject::Draining, Subject::More], State::Ready);
        assert_eq!(change(&before.object, &None, &now), StatusChange::Numbers);
    }
}
