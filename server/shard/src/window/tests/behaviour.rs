//! Guarantees of the window, by example. [`super::model`] tests the general case.

use std::collections::HashMap;
use std::sync::Arc;

use wscluster_api::spec::History;
use wscluster_api::units::{Size, Span};
use wscluster_kafka::feed::Update;
use wscluster_protocol::{Draft, Epoch, Partition, Position, Record};

use crate::window::{Limits, Recovery, Window, weight};

fn at(number: i32, offset: i64) -> Position {
    Position { partition: Partition { epoch: Epoch(7), number }, offset }
}

fn record(channel: &str, position: Position) -> Arc<Record> {
    Arc::new(Record::encode(channel.into(), position, None, 0, Draft { kind: "t", priority: 0, data: b"\"data\":1" }))
}

fn window(partitions: i32, age_ms: u64) -> Window {
    let mut window = Window::new(&History { window: Span::millis(age_ms), max_bytes: Size(1 << 20) });
    for number in 0..partitions {
        begin(&mut window, at(number, 0), "trades", false);
    }
    window.apply(&Update::Filled, 0);
    window
}

fn begin(window: &mut Window, from: Position, topic: &str, lost: bool) -> Option<crate::window::Loss> {
    window.apply(&Update::Begin { partition: from.partition, topic: topic.into(), from: from.offset, lost }, 0)
}

fn push(window: &mut Window, channel: &str, position: Position, now_ms: i64) {
    window.apply(&Update::Records(vec![record(channel, position)]), now_ms);
}

fn offsets(recovery: Recovery) -> Result<Vec<i64>, String> {
    match recovery {
        Recovery::Complete(records) => Ok(records.iter().map(|record| record.position.offset).collect()),
        Recovery::Ahead(position) => Err(format!("ahead {position}")),
        Recovery::Lost(reason) => Err(reason.as_str().to_owned()),
    }
}

#[test]
fn replays_only_the_requested_channel() {
    let mut window = window(1, 1_000);
    for (channel, offset) in [("a", 0), ("b", 1), ("a", 2), ("b", 3), ("a", 4)] {
        push(&mut window, channel, at(0, offset), 0);
    }
    assert_eq!(offsets(window.recover("a", &[at(0, 0)])), Ok(vec![2, 4]));
    assert_eq!(offsets(window.recover("b", &[at(0, 3)])), Ok(vec![]));
}

#[test]
fn keeps_held_records_at_any_age() {
    let mut window = window(1, 0);
    push(&mut window, "a", at(0, 0), 0);
    push(&mut window, "a", at(0, 1), 10);
    let hold = window.hold();
    drop(window.hold());
    push(&mut window, "a", at(0, 2), 5_000);
    push(&mut window, "a", at(0, 3), 9_000);
    assert_eq!(offsets(window.recover("a", &[at(0, 0)])), Ok(vec![1, 2, 3]));
    drop(hold);
    push(&mut window, "a", at(0, 4), 9_001);
    assert_eq!(window.len(), 1);
}

#[test]
fn holds_a_bounded_number_of_bytes() {
    let mut window = Window::new(&History { window: Span::millis(1_000), max_bytes: Size(0) });
    begin(&mut window, at(0, 0), "trades", false);
    let _hold = window.hold();
    for offset in 0..40_000 {
        push(&mut window, "a", at(0, offset), 0);
        assert!(window.bytes <= Window::HELD_BYTES);
    }
    assert!(window.len() > 1_000, "{}", window.len());
    assert_eq!(offsets(window.recover("a", &[at(0, 0)])), Err("too_old".to_owned()));
}

#[test]
fn a_client_of_a_quiet_channel_has_missed_nothing() {
    let mut window = window(1, 1_000);
    push(&mut window, "quiet", at(0, 0), 0);
    push(&mut window, "busy", at(0, 1), 60_000);
    assert_eq!(window.len(), 1);
    assert_eq!(offsets(window.recover("quiet", &[at(0, 0)])), Ok(vec![]));
    assert_eq!(window.latest_positions("quiet"), [at(0, 0)]);
    assert!(window.latest("quiet").is_none());
}

#[test]
fn reports_too_old_when_a_missed_record_was_evicted() {
    let mut window = window(1, 1_000);
    for offset in 0..3 {
        push(&mut window, "a", at(0, offset), offset * 900);
    }
    assert_eq!(offsets(window.recover("a", &[at(0, 0)])), Ok(vec![1, 2]));
    push(&mut window, "a", at(0, 3), 2_000);
    assert_eq!(offsets(window.recover("a", &[at(0, 0)])), Err("too_old".into()));
    assert_eq!(offsets(window.recover("a", &[at(0, 1)])), Ok(vec![2, 3]));
}

#[test]
fn waits_for_a_position_that_another_shard_has_reached() {
    let mut window = window(1, 1_000);
    push(&mut window, "a", at(0, 0), 0);
    assert_eq!(offsets(window.recover("a", &[at(0, 2)])), Err("ahead 7-0-2".into()));
    push(&mut window, "a", at(0, 2), 0);
    assert_eq!(offsets(window.recover("a", &[at(0, 2)])), Ok(vec![]));
}

#[test]
fn rejects_positions_of_a_recreated_topic() {
    let mut window = window(1, 1_000);
    push(&mut window, "a", at(0, 5), 0);
    let again = Position { partition: Partition { epoch: Epoch(8), number: 0 }, offset: 0 };
    let loss = begin(&mut window, again, "trades", true).unwrap();
    assert!(window.touches(&loss, "a"));
    assert_eq!(offsets(window.recover("a", &[at(0, 5)])), Err("epoch".into()));
    push(&mut window, "a", again, 0);
    assert_eq!(offsets(window.recover("a", &[again])), Ok(vec![]));
}

#[test]
fn a_loss_touches_only_the_channels_of_its_partition() {
    let mut window = window(2, 1_000);
    push(&mut window, "a", at(0, 0), 0);
    push(&mut window, "b", at(1, 0), 0);
    let loss = begin(&mut window, at(1, 9), "trades", true).unwrap();
    assert!(!window.touches(&loss, "a"));
    assert!(window.touches(&loss, "b"));
    assert!(window.touches(&loss, "never seen"));
    assert_eq!(offsets(window.recover("b", &[at(1, 0)])), Err("too_old".into()));
    assert_eq!(offsets(window.recover("a", &[at(0, 0)])), Ok(vec![]));
}

#[test]
fn a_late_partition_touches_every_channel_of_its_topic() {
    let mut window = window(1, 1_000);
    begin(&mut window, Position { partition: Partition { epoch: Epoch(9), number: 0 }, offset: 0 }, "news", false);
    push(&mut window, "a", at(0, 0), 0);
    push(&mut window, "n", Position { partition: Partition { epoch: Epoch(9), number: 0 }, offset: 0 }, 0);
    let loss = begin(&mut window, at(1, 9), "trades", true).expect("a loss");
    assert!(window.touches(&loss, "a") && window.touches(&loss, "never seen"));
    assert!(!window.touches(&loss, "n"), "of another topic");
}

#[test]
fn latest_returns_the_last_message() {
    let mut window = window(2, 1_000);
    push(&mut window, "a", at(0, 0), 0);
    push(&mut window, "a", at(1, 0), 0);
    assert_eq!(window.latest("a").unwrap().position, at(1, 0));
    assert!(window.latest("b").is_none());
}

#[test]
fn knows_the_last_positions_of_a_channel() {
    let mut window = window(3, 1_000);
    assert!(window.latest_positions("a").is_empty(), "nothing came yet");
    for (number, offset, now_ms) in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (2, 0, 60_000), (1, 1, 60_000)] {
        push(&mut window, if number == 2 { "b" } else { "a" }, at(number, offset), now_ms);
    }
    let positions = window.latest_positions("a");
    assert_eq!(positions, [at(0, 1), at(1, 1)]);
    push(&mut window, "a", at(0, 2), 60_000);
    assert_eq!(offsets(window.recover("a", &positions)), Ok(vec![2]));
    // After a loss, the channel continues after it.
    begin(&mut window, at(1, 9), "trades", true);
    assert_eq!(window.latest_positions("a"), [at(0, 2), at(1, 8)]);
    push(&mut window, "a", at(1, 9), 60_000);
    assert_eq!(offsets(window.recover("a", &[at(0, 2), at(1, 8)])), Ok(vec![9]));
    // After the topic was recreated, old positions are invalid and no new ones are known.
    let again = Position { partition: Partition { epoch: Epoch(8), number: 0 }, offset: 0 };
    begin(&mut window, again, "trades", true);
    assert!(window.latest_positions("a").is_empty());
}

#[test]
fn serves_offsets_of_the_old_protocol_where_they_are_unambiguous() {
    let mut single = window(1, 1_000);
    for offset in 0..3 {
        push(&mut single, "a", at(0, offset), 0);
    }
    let last = |topic: &str| HashMap::from([(topic.to_owned(), 0)]);
    assert_eq!(offsets(single.recover_offsets("a", &last("trades"), None)), Ok(vec![1, 2]));
    assert_eq!(offsets(single.recover_offsets("a", &last("other"), None)), Err("unknown_position".into()));

    let mut several = window(2, 1_000);
    push(&mut several, "a", at(0, 0), 0);
    assert_eq!(offsets(several.recover_offsets("a", &last("trades"), None)), Err("several_partitions".into()));
}

#[test]
fn rejects_offsets_of_the_old_protocol_after_a_topic_was_recreated() {
    let mut window = window(1, 1_000);
    begin(&mut window, at(1, 0), "others", false);
    push(&mut window, "a", at(0, 100), 0);
    push(&mut window, "b", at(1, 0), 0);
    let again = |offset| Position { partition: Partition { epoch: Epoch(8), number: 0 }, offset };
    begin(&mut window, again(0), "trades", true);
    let last = |topic: &str, offset| HashMap::from([(topic.to_owned(), offset)]);
    assert_eq!(offsets(window.recover_offsets("a", &last("trades", 100), None)), Err("recreated".into()));
    for offset in 0..150 {
        push(&mut window, "a", again(offset), 0);
    }
    assert_eq!(offsets(window.recover_offsets("a", &last("trades", 100), None)), Err("recreated".into()));
    push(&mut window, "b", at(1, 1), 0);
    assert_eq!(offsets(window.recover_offsets("b", &last("others", 0), None)), Ok(vec![1]));
}

#[test]
fn stays_within_its_limit_of_bytes() {
    let one = weight(&record("a", at(0, 0)));
    let mut window = Window::with_limits(Limits { age_ms: i64::MAX, bytes: 10 * one, quiet: 4 });
    begin(&mut window, at(0, 0), "trades", false);
    for offset in 0..1_000 {
        push(&mut window, &format!("c{offset:03}"), at(0, offset), 0);
        assert!(window.bytes <= 11 * one);
    }
    assert!(window.channels.len() <= 9 + 4 + 1, "{}", window.channels.len());
    begin(&mut window, at(0, 2_000), "trades", true);
    assert_eq!(window.bytes, 0);
}

#[test]
fn history_has_the_age_of_its_timestamps_and_live_records_age_from_now() {
    let mut window = Window::new(&History { window: Span::secs(60), max_bytes: Size(1 << 20) });
    begin(&mut window, at(0, 0), "trades", false);
    push(&mut window, "a", at(0, 0), 100_000); // Its timestamp is 0: too old to keep.
    assert!(window.is_empty());
    window.apply(&Update::Filled, 100_000);
    push(&mut window, "a", at(0, 1), 100_000); // Live, so it is kept from now on, whatever its timestamp is.
    assert_eq!(window.len(), 1);
}

#[test]
fn reports_a_recreated_topic_once_for_all_partitions() {
    let mut window = window(3, 1_000);
    push(&mut window, "a", at(0, 0), 0);
    push(&mut window, "b", at(2, 0), 0);
    let again = |number| Position { partition: Partition { epoch: Epoch(8), number }, offset: 0 };
    let loss = begin(&mut window, again(0), "trades", true).expect("a loss");
    assert!(["a", "b", "unknown"].iter().all(|channel| window.touches(&loss, channel)));
    assert!((1..3).all(|number| begin(&mut window, again(number), "trades", true).is_none()));
    // Losses in the new topic are reported again.
    push(&mut window, "a", again(1), 0);
    let overtaken = Position { offset: 9, ..again(1) };
    let loss = begin(&mut window, overtaken, "trades", true).expect("a loss");
    assert!(window.touches(&loss, "a"));
}
