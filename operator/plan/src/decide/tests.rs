//! Plans for clusters that are written as one line per shard.

mod laws;

use std::time::Duration;

use crate::{Action, Blocked, Desired, Observed, Plan, Reason, Shard, State, Timestamp, UndrainCause, plan};

const NOW: Timestamp = Timestamp::from_millis(1_000_000);

fn desired(shards: u32, revision: &str) -> Desired {
    Desired {
        shards,
        revision: revision.to_owned(),
        capacity: 100,
        evict_rate: 10,
        deadline: Duration::from_mins(1),
        paused: false,
        max_in_motion: 1,
        surge: false,
        supervised: false,
        approved: None,
    }
}

/// Shards by ordinal, as `REVISION STATE CONNECTIONS [SECONDS]`, with 100 slots each; `-` for none. `new` is ready
/// but not known to every gateway; `cut` is silent although its pod is Ready.
fn observed(replicas: u32, lines: &[&str]) -> Observed {
    let parse = |(ordinal, line): (u32, &&str)| {
        let words: Vec<_> = line.split(' ').collect();
        let state = match *words.get(1)? {
            "starting" => State::Starting,
            "ready" | "new" => State::Ready,
            "full" => State::Full,
            "draining" => State::Draining,
            "silent" | "cut" => State::Silent,
            "failing" => State::Failing,
            "leaving" => State::Leaving,
            other => panic!("no state: {other}"),
        };
        let age = |word: &&str| Duration::from_secs(word.parse().unwrap());
        Some(Shard {
            ordinal,
            revision: words[0].to_owned(),
            state,
            connections: words.get(2).map_or(0, |word| word.parse().unwrap()),
            capacity: 100,
            known_to_gateways: words[1] != "new",
            pod_ready: words[1] == "cut",
            since: words.get(3).map(|word| Timestamp(NOW.0.saturating_sub(age(word)))),
        })
    };
    Observed { replicas, reconnecting: 0, shards: (0..).zip(lines).filter_map(parse).collect() }
}

/// `REPLICAS/PARTITION`, followed by every action except `Wait`.
fn summary(plan: &Plan) -> String {
    let mut text = format!("{}/{}", plan.replicas, plan.partition);
    for step in &plan.steps {
        let action = match step.action {
            Action::Wait => continue,
            Action::Drain { .. } => "drain",
            Action::Undrain => "undrain",
            Action::Remove => "remove",
            Action::Restart => "restart",
        };
        text += &format!(" {action} {}", step.ordinal);
    }
    text
}

#[track_caller]
fn check(desired: &Desired, replicas: u32, lines: &[&str], expected: &str) -> Plan {
    let plan = plan(desired, &observed(replicas, lines), NOW);
    assert_eq!(summary(&plan), expected, "{plan:#?}");
    plan
}

fn reason(plan: &Plan, ordinal: u32) -> String {
    plan.steps.iter().find(|step| step.ordinal == ordinal).unwrap().reason.to_string()
}

#[test]
fn leaves_wanted_shards_alone() {
    let plan = check(&desired(2, "b"), 2, &["b ready 5", "b full 100"], "2/0");
    assert_eq!((plan.blocked, plan.look_again), (None, None));
    check(&desired(3, "b"), 3, &["b ready 5", "b starting", "-"], "3/0");
}

#[test]
fn creates_all_shards_at_once() {
    check(&desired(3, "b"), 0, &[], "3/0");
    check(&desired(5, "b"), 2, &["b ready 5", "b ready 5"], "5/0");
}

#[test]
fn removes_the_highest_after_it_has_drained() {
    let spec = desired(2, "b");
    let plan = check(&spec, 4, &["b ready 5", "b ready 5", "b ready 5", "b ready 25"], "4/0 drain 3");
    assert_eq!(reason(&plan, 3), "drains: 25 connections at 10/s, 285 slots free, because 2 shards are wanted");
    assert_eq!(reason(&plan, 2), "waits: another shard is in motion");
    let plan = check(&spec, 4, &["b ready 5", "b ready 5", "b ready 5", "b draining 12 3"], "4/0");
    assert_eq!(reason(&plan, 3), "drains: 12 connections at 10/s, 2 s left");
    check(&spec, 4, &["b ready 5", "b ready 5", "b ready 5", "b draining 0 3"], "3/0 remove 3");
    check(&spec, 3, &["b ready 5", "b ready 5", "b ready 5", "b leaving"], "3/0");
    check(&spec, 3, &["b ready 5", "b ready 5", "b ready 5"], "3/0 drain 2");
}

#[test]
fn waits_and_reports_missing_slots() {
    let plan = check(&desired(2, "b"), 3, &["b ready 90", "b ready 80", "b ready 50"], "3/0");
    assert_eq!(reason(&plan, 2), "waits: 20 slots missing on the other shards");
    assert_eq!(plan.blocked, Some(Blocked::Slots { ordinal: 2, missing: 20, free: 30 }));
    check(&desired(2, "b"), 3, &["b ready 75", "b ready 75", "b ready 50"], "3/0 drain 2");
}

#[test]
fn slots_of_a_shard_unknown_to_a_gateway_do_not_count() {
    let plan = check(&desired(2, "b"), 3, &["b ready 75", "b new 0", "b ready 50"], "3/0");
    assert_eq!(plan.blocked, Some(Blocked::Slots { ordinal: 2, missing: 25, free: 25 }));
    let plan = check(&desired(3, "b"), 3, &["a ready 5", "a ready 7", "b new 0"], "3/2");
    assert_eq!(reason(&plan, 1), "waits: not every gateway routes to shard 2 yet");
    // A running drain continues.
    check(&desired(2, "b"), 3, &["b ready 75", "b new 0", "b draining 50"], "3/0");
}

#[test]
fn counts_reconnecting_clients() {
    let mut seen = observed(3, &["b ready 75", "b ready 75", "b ready 50"]);
    seen.reconnecting = 1;
    assert_eq!(plan(&desired(2, "b"), &seen, NOW).blocked, Some(Blocked::Slots { ordinal: 2, missing: 1, free: 49 }));
}

#[test]
fn counts_clients_of_leaving_and_silent_shards() {
    let spec = Desired { max_in_motion: 3, ..desired(2, "b") };
    check(&spec, 4, &["b ready 70", "b ready 70", "b ready 50", "b draining 30"], "4/0");
    check(&spec, 3, &["b ready 70", "b silent 60", "b ready 10"], "3/0");
}

#[test]
fn replaces_shards_of_another_revision_one_by_one_from_the_top() {
    let spec = desired(3, "b");
    check(&spec, 3, &["a ready 5", "a ready 5", "a ready 5"], "3/3 drain 2");
    check(&spec, 3, &["a ready 8", "a ready 7", "a draining 0"], "3/2 restart 2");
    check(&spec, 3, &["a ready 8", "a ready 7", "a leaving"], "3/2");
    check(&spec, 3, &["a ready 8", "a ready 7", "-"], "3/2");
    let plan = check(&spec, 3, &["a ready 8", "a ready 7", "b starting 0 4"], "3/2");
    assert_eq!(reason(&plan, 1), "waits: shard 2 is not ready");
    check(&spec, 3, &["a ready 8", "a ready 7", "b ready 0"], "3/2 drain 1");
    check(&spec, 3, &["a draining 0", "b ready 7", "b ready 8"], "3/0 restart 0");
}

#[test]
fn a_new_template_does_not_roll_out_by_itself() {
    check(&desired(3, "c"), 3, &["a ready 90", "b ready 90", "b ready 90"], "3/3");
    // Not even a shard that the last partition had released.
    check(&desired(3, "c"), 3, &["a ready 50", "a ready 50", "b starting"], "3/2 restart 2");
}

#[test]
fn stops_at_the_first_shard_of_a_bad_revision_and_rolls_it_back_at_once() {
    let bad = ["a ready 5", "a ready 5", "a ready 5", "b failing"];
    let plan = check(&desired(4, "b"), 4, &bad, "4/3");
    assert_eq!(plan.blocked, Some(Blocked::NotReady { ordinal: 3 }));
    check(&Desired { max_in_motion: 9, ..desired(4, "b") }, 4, &bad, "4/3");
    // Back, and on to another revision; supervised or not.
    check(&Desired { supervised: true, ..desired(4, "a") }, 4, &bad, "4/0 restart 3");
    check(&desired(4, "c"), 4, &bad, "4/3 restart 3");
    check(&desired(4, "c"), 4, &["a ready 5", "a ready 5", "a ready 5", "b starting"], "4/3 restart 3");
    // All shards are broken.
    check(&desired(2, "b"), 2, &["a failing", "a starting"], "2/0 restart 0 restart 1");
}

#[test]
fn a_broken_shard_below_others_does_not_stop_its_own_repair() {
    check(&desired(4, "c"), 4, &["a ready 5", "a ready 5", "b failing", "b ready 5"], "4/4 restart 2");
    check(&desired(4, "c"), 4, &["a ready 5", "a ready 5", "a starting", "b ready 5"], "4/4 drain 3");
    // A restart on the same revision would not help.
    check(&desired(3, "c"), 3, &["b ready 5", "b failing", "b ready 5"], "3/3 drain 2");
}

#[test]
fn an_extra_shard_provides_missing_slots_for_a_rollout() {
    let spec = Desired { surge: true, ..desired(2, "b") };
    let plan = check(&spec, 2, &["a ready 80", "a ready 80"], "3/2");
    assert_eq!(reason(&plan, 1), "waits: 60 slots missing on the other shards, shard 2 is started to provide them");
    assert_eq!(plan.blocked, None);
    check(&spec, 3, &["a ready 80", "a ready 80", "b starting"], "3/2");
    check(&spec, 3, &["a ready 80", "a ready 80", "b ready 0"], "3/2 drain 1");
    check(&spec, 3, &["a ready 80", "b starting", "b ready 80"], "3/1");
    check(&spec, 3, &["a ready 80", "b ready 0", "b ready 80"], "3/1 drain 0");
    check(&spec, 3, &["b ready 0", "b ready 80", "b ready 80"], "3/0 drain 2");
    // A bad revision is found before any connection moves.
    check(&spec, 3, &["a ready 80", "a ready 80", "b failing"], "3/2");
    check(&Desired { surge: true, ..desired(2, "a") }, 3, &["a ready 80", "a ready 80", "b failing"], "2/0 remove 2");
}

#[test]
fn a_single_shard_is_replaced_only_beside_another() {
    check(&Desired { surge: true, ..desired(1, "b") }, 1, &["a ready 80"], "2/1");
    let plan = check(&desired(1, "b"), 1, &["a ready 80"], "1/1");
    assert_eq!(plan.blocked, Some(Blocked::Slots { ordinal: 0, missing: 80, free: 0 }));
    check(&desired(1, "b"), 1, &["a ready 0"], "1/1 drain 0");
}

#[test]
fn no_extra_shard_for_a_removal_or_if_it_would_not_suffice() {
    check(&Desired { surge: true, ..desired(2, "b") }, 3, &["b ready 90", "b ready 90", "b ready 90"], "3/0");
    check(&Desired { surge: true, capacity: 10, ..desired(2, "b") }, 2, &["a ready 80", "a ready 80"], "2/2");
}

#[test]
fn cancels_a_drain_when_the_spec_is_reverted() {
    let drains = ["b ready 5", "b ready 5", "b draining 30 2"];
    let plan = check(&desired(3, "b"), 3, &drains, "3/0 undrain 2");
    assert_eq!(reason(&plan, 2), "accepts upgrades again with 30 connections: it is wanted again");
    check(&desired(3, "a"), 3, &["a ready 5", "b ready 5", "a draining 0"], "3/2 undrain 2");
    // It is still of another revision: the drain continues.
    check(&desired(3, "c"), 3, &["a ready 5", "a ready 5", "b draining 30 2"], "3/3");
}

#[test]
fn cancels_a_drain_that_could_never_end() {
    // Both are of another revision now, and the partition releases the higher one first.
    check(&desired(2, "c"), 2, &["a draining 30", "b ready 5"], "2/2 undrain 0");
    check(&desired(1, "b"), 3, &["b ready 5", "b draining 30", "b ready 5"], "3/0 undrain 1 drain 2");
}

#[test]
fn cancels_a_drain_when_the_others_are_full() {
    let full = check(&desired(2, "b"), 3, &["b full 100", "b ready 100", "b draining 30"], "3/0 undrain 2");
    let undrains = Reason::Undrains { connections: 30, cause: UndrainCause::OthersFull };
    assert_eq!(full.steps[2].reason, undrains);
    check(&desired(2, "b"), 3, &["b full 100", "b ready 100", "b ready 30"], "3/0");
    // The last client got the last slot.
    check(&desired(2, "b"), 3, &["b full 100", "b ready 100", "b draining 0"], "2/0 remove 2");
}

#[test]
fn keeps_the_limit_of_shards_in_motion() {
    let spec = Desired { max_in_motion: 2, ..desired(4, "b") };
    check(&spec, 4, &["a ready 5", "a ready 5", "a ready 5", "a ready 5"], "4/4 drain 2 drain 3");
    check(&spec, 4, &["a ready 5", "a ready 5", "a draining 0", "a draining 3"], "4/4");
    check(&spec, 4, &["a ready 5", "a ready 5", "a draining 2", "a draining 0"], "4/3 restart 3");
    check(&spec, 4, &["a ready 5", "a ready 5", "a draining 2", "b starting 0"], "4/3");
    check(&spec, 4, &["a ready 5", "a ready 5", "a draining 2", "b ready 0"], "4/3 drain 1");
    check(&desired(4, "b"), 4, &["a ready 5", "a ready 5", "a draining 2", "a draining 3"], "4/4 undrain 2");
}

#[test]
fn a_drain_ends_at_its_deadline() {
    let spec = desired(1, "b");
    check(&spec, 2, &["b ready 5", "b draining 30 59"], "2/0");
    let plan = check(&spec, 2, &["b ready 5", "b draining 30 60"], "1/0 remove 1");
    assert_eq!(reason(&plan, 1), "stops because 1 shard is wanted: its deadline has passed with 30 connections");
    check(&desired(2, "b"), 2, &["b ready 5", "a draining 30 60"], "2/0 restart 1");
}

#[test]
fn a_silent_shard_goes_at_its_deadline_and_not_before() {
    let spec = desired(1, "b");
    let plan = check(&spec, 2, &["b ready 5", "b silent 30 59"], "2/0");
    assert_eq!(reason(&plan, 1), "does not answer for 59 s, 1 s until its deadline");
    assert_eq!(plan.look_again, Some(Duration::from_secs(1)));
    check(&spec, 2, &["b ready 5", "b silent 30 60"], "1/0 remove 1");
    // It is unknown since when.
    check(&spec, 2, &["b ready 5", "b silent 30"], "2/0");
    // It is wanted: restarting it is up to the kubelet.
    check(&desired(2, "b"), 2, &["b ready 5", "b silent 30 999"], "2/0");
}

#[test]
fn a_silent_shard_does_not_block_shards_above_it() {
    check(&desired(3, "b"), 3, &["a ready 5", "a silent 5 1", "a ready 5"], "3/3 drain 2");
    check(&desired(1, "b"), 3, &["b ready 5", "b silent 5 1", "b ready 5"], "3/0 drain 2");
}

#[test]
fn an_ordinal_is_reused_only_after_its_previous_pod_has_terminated() {
    let spec = desired(4, "b");
    let plan = check(&spec, 2, &["b ready 5", "b ready 5", "-", "b leaving"], "3/0");
    assert_eq!(reason(&plan, 3), "waits: the previous pod of this ordinal is still terminating");
    check(&spec, 2, &["b ready 5", "b ready 5", "b leaving 3"], "2/0");
    check(&spec, 2, &["b ready 5", "b ready 5"], "4/0");
}

#[test]
fn pods_without_a_stateful_set_are_adopted() {
    check(&desired(2, "b"), 0, &["b ready 5", "b ready 5", "b ready 5"], "3/0 drain 2");
    check(&desired(2, "b"), 0, &["b leaving 5", "b leaving 5"], "0/0");
}

#[test]
fn paused_starts_nothing_and_cancels_drains() {
    let paused = |shards, revision| Desired { paused: true, ..desired(shards, revision) };
    let plan = check(&paused(1, "b"), 3, &["b ready 5", "a draining 0 99", "b draining 3"], "3/2 undrain 1 undrain 2");
    assert_eq!(plan.blocked, Some(Blocked::Paused));
    check(&paused(9, "b"), 2, &["a failing", "a ready 5", "b leaving"], "2/2");
    check(&paused(2, "b"), 0, &[], "0/0");
    assert_eq!(check(&paused(1, "b"), 1, &["b ready 5"], "1/0").blocked, None);
}

#[test]
fn supervised_waits_for_the_approval_of_each_replacement() {
    let spec = Desired { supervised: true, ..desired(2, "b") };
    let shards = ["a ready 5", "a ready 5"];
    let plan = check(&spec, 2, &shards, "2/2");
    assert_eq!(plan.blocked, Some(Blocked::Approval { ordinal: 1 }));
    assert_eq!(reason(&plan, 1), "waits: the step requires an approval");
    check(&Desired { approved: Some(1), ..spec.clone() }, 2, &shards, "2/2 drain 1");
    check(&Desired { approved: Some(1), ..spec.clone() }, 2, &["a ready 5", "b ready 5"], "2/1");
    // A person has asked for fewer shards already.
    check(&Desired { shards: 1, ..spec }, 2, &["b ready 5", "b ready 5"], "2/0 drain 1");
}

#[test]
fn a_removal_does_not_wait_for_starting_shards() {
    check(&desired(2, "b"), 3, &["b ready 5", "b starting", "b ready 5"], "3/0 drain 2");
    check(
        &desired(2, "b"),
        9,
        &["b ready 5", "b ready 5", "b ready 5", "-", "b starting", "b failing"],
        "3/0 remove 4 remove 5",
    );
}

#[test]
fn a_pod_that_never_terminates_blocks_nothing() {
    check(&desired(1, "b"), 2, &["b ready 5", "b ready 5", "b leaving 0 59"], "2/0");
    check(&desired(1, "b"), 2, &["b ready 5", "b ready 5", "b leaving 0 60"], "2/0 drain 1");
}

#[test]
fn a_shard_that_only_the_operator_cannot_reach_goes_after_it_has_drained() {
    let cut = ["a cut 1000 59", "a cut 1000 99", "a cut 1000 99", "a cut 1000 99", "a cut 1000 99"];
    let plan = check(&desired(5, "b"), 5, &cut, "5/5");
    let why = "the pod of shard 4 is Ready with 1,000 connections, but the shard does not answer the operator for 99 s: check \
        that the operator can reach its admin port";
    assert_eq!(reason(&plan, 4), format!("waits: {why}"));
    assert_eq!(plan.blocked.map(|blocked| blocked.to_string()).as_deref(), Some(why));
    assert_eq!(reason(&plan, 3), "waits: shard 4 goes first");
    check(&desired(2, "a"), 5, &cut, "5/0");
    check(&Desired { supervised: true, max_in_motion: 9, ..desired(5, "b") }, 5, &cut, "5/5");
    // A drain below it could never end.
    check(&desired(1, "b"), 3, &["b ready 5", "b draining 30", "b cut 5 99"], "3/0 undrain 1");
}

#[test]
fn silent_shards_go_one_by_one_and_each_with_approval() {
    let silent = ["a silent 9 99", "a silent 9 99", "a silent 9 99"];
    check(&desired(3, "b"), 3, &silent, "3/2 restart 2");
    check(&desired(1, "a"), 3, &silent, "2/0 remove 2");
    check(&Desired { max_in_motion: 2, ..desired(3, "b") }, 3, &silent, "3/1 restart 1 restart 2");
    check(&desired(3, "b"), 3, &["a silent 9 99", "a silent 9 99", "a leaving 9 5"], "3/2");
    check(&desired(3, "b"), 3, &["a silent 9 99", "a silent 9 99", "b starting 0 5"], "3/2");
    check(&desired(1, "a"), 2, &["a silent 9 99", "a silent 9 99", "a silent 9 99"], "2/0");
    check(&desired(3, "b"), 3, &["a draining 9 5", "a silent 9 99", "b ready 9"], "3/2");
    // A drained shard and a silent one do not wait for each other.
    check(&desired(1, "b"), 3, &["b ready 5", "b draining 0 5", "b silent 5 99"], "1/0 remove 1 remove 2");

    let supervised = Desired { supervised: true, ..desired(3, "b") };
    let plan = check(&supervised, 3, &silent, "3/3");
    assert_eq!(plan.blocked, Some(Blocked::Approval { ordinal: 2 }));
    check(&Desired { approved: Some(2), ..supervised.clone() }, 3, &silent, "3/2 restart 2");
    check(
        &Desired { shards: 1, ..supervised },
        3,
        &["b silent 9 99", "b silent 9 99", "b silent 9 99"],
        "2/0 remove 2",
    );
}

#[test]
fn a_pod_that_never_terminates_needs_no_slots() {
    let plan = check(&desired(1, "b"), 2, &["b ready 60", "b ready 30", "b leaving 90 59"], "2/0");
    assert_eq!(plan.look_again, Some(Duration::from_secs(1)), "until the leaving pod is overdue");
    let plan = check(&desired(1, "b"), 2, &["b ready 60", "b ready 30", "b leaving 90 60"], "2/0 drain 1");
    assert_ne!(plan.look_again, Some(Duration::from_secs(1)));
}
