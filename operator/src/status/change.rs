//! How much two statuses differ: a transition is written at once, mere counts wait for their turn, nothing is not written.
//!
//! A message that differs in its numbers alone is a count. So is `full` against `ready`, which is a matter of one connection.

use wscluster_api::status::WsClusterStatus;

/// How much moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moved {
    /// Nothing.
    Nothing,
    /// Numbers.
    Counts,
    /// More than numbers.
    Transition,
}

/// How much `now` differs from `before`.
pub fn moved(before: &WsClusterStatus, now: &WsClusterStatus) -> Moved {
    if before == now {
        Moved::Nothing
    } else if essence(before) == essence(now) {
        Moved::Counts
    } else {
        Moved::Transition
    }
}

fn essence(status: &WsClusterStatus) -> WsClusterStatus {
    let mut status = status.clone();
    status.connections = None;
    status.utilization = None;
    for member in &mut status.members {
        member.connections = 0;
        if member.state == "full" {
            "ready".clone_into(&mut member.state);
        }
    }
    for condition in &mut status.conditions {
        condition.message = without_numbers(&condition.message);
    }
    status
}

/// Every number as `#`, with its grouping.
fn without_numbers(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        if !c.is_ascii_digit() {
            out.push(c);
            continue;
        }
        out.push('#');
        while rest.next_if(|c| c.is_ascii_digit() || matches!(c, ',' | '.')).is_some() {}
    }
    out
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
    use wscluster_api::status::Member;

    use super::*;

    fn status(connections: u32, message: &str, state: &str) -> WsClusterStatus {
        let condition = Condition {
            type_: "Draining".to_owned(),
            status: "True".to_owned(),
            reason: "ConnectionsMoving".to_owned(),
            message: message.to_owned(),
            observed_generation: Some(1),
            last_transition_time: Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH),
        };
        WsClusterStatus {
            connections: Some(connections),
            utilization: Some(format!("{connections}%")),
            conditions: vec![condition],
            members: vec![Member { state: state.to_owned(), connections, ..Member::default() }],
            ..WsClusterStatus::default()
        }
    }

    #[test]
    fn tells_counts_from_transitions() {
        let before = status(1_000, "1,000 connections are left on prices-2, closed at 100/s each", "ready");
        let counts = status(99, "99 connections are left on prices-2, closed at 100/s each", "full");
        assert_eq!(moved(&before, &before.clone()), Moved::Nothing);
        assert_eq!(moved(&before, &counts), Moved::Counts);
        let other = status(1_000, "1,000 connections are left on prices-2 and 3 more", "ready");
        assert_eq!(moved(&before, &other), Moved::Transition);
        let mut generation = before.clone();
        generation.conditions[0].observed_generation = Some(2);
        assert_eq!(moved(&before, &generation), Moved::Transition);
        assert_eq!(moved(&before, &status(1_000, &before.conditions[0].message, "draining")), Moved::Transition);
    }

    #[test]
    fn a_number_is_a_number_however_it_is_written() {
        assert_eq!(
            without_numbers("prices-12 drains: 1,203 at 100/s, 1.5 s left"),
            "prices-# drains: # at #/s, # s left"
        );
    }
}
