//! Shards hold 100 connections each and are used to 70 %.

use proptest::prelude::*;
use wscluster_api::spec::{ScaleDown, ScaleUp};
use wscluster_api::units::Span;

use super::*;

fn rules() -> Autoscale {
    Autoscale {
        min: 2,
        max: 20,
        target_utilization: 70,
        headroom: 0,
        scale_up: ScaleUp::default(),
        scale_down: ScaleDown::default(),
    }
}

fn seconds(n: u64) -> Timestamp {
    Timestamp::from_millis(1_000 * n)
}

/// A sample every five seconds.
fn samples(connections: impl IntoIterator<Item = u32>) -> Vec<Sample> {
    connections.into_iter().zip(0..).map(|(connections, n)| Sample { at: seconds(5 * n), connections }).collect()
}

fn wanted(rules: &Autoscale, shards: u32, samples: &[Sample]) -> WantedShards {
    let now = samples.last().map_or(seconds(0), |last| last.at);
    autoscale(rules, &CurrentScale { shards, capacity: 100, changed: None }, samples, now)
}

#[test]
fn scales_up_as_soon_as_the_target_is_exceeded() {
    assert_eq!(wanted(&rules(), 3, &samples([210])).shards, 3);
    assert_eq!(wanted(&rules(), 3, &samples([211])).shards, 4);
    assert_eq!(wanted(&rules(), 3, &samples([1_000])).shards, 15);
}

#[test]
fn scales_up_for_growth_expected_before_a_new_shard_is_ready() {
    // 4 per second: 240 more in the minute that a shard needs to start.
    let rising = samples((0..13).map(|n| 20 * n));
    let WantedShards { shards, reason } = wanted(&rules(), 4, &rising);
    assert_eq!(shards, 480_u32.div_ceil(70));
    assert_eq!(reason, ScaleReason::Growth { expected: 480, per_minute: 240 });
    let blind = Autoscale { scale_up: ScaleUp { lead: Span::secs(0), ..ScaleUp::default() }, ..rules() };
    assert_eq!(wanted(&blind, 4, &rising).shards, 4);
}

#[test]
fn clients_that_return_after_a_crash_are_no_growth() {
    let crash = samples((0..30).map(|_| 200).chain([0, 50, 100, 150, 200]));
    assert_eq!(wanted(&rules(), 3, &crash).shards, 3);
}

#[test]
fn keeps_the_headroom_free() {
    let with = Autoscale { headroom: 250, ..rules() };
    assert_eq!(wanted(&with, 2, &samples([100])).shards, 4);
}

#[test]
fn scales_down_only_after_the_whole_window_and_one_at_a_time() {
    let falls = |n: usize| samples((0..10).map(|_| 600).chain(std::iter::repeat_n(100, n)));
    assert_eq!(wanted(&rules(), 9, &falls(60)).shards, 9);
    let later = wanted(&rules(), 9, &falls(61));
    assert_eq!((later.shards, later.reason), (8, ScaleReason::Less { enough: 2 }));
    // Also if samples do not cover the window.
    assert_eq!(
        wanted(&rules(), 9, &samples([100; 30])),
        WantedShards { shards: 9, reason: ScaleReason::Window { enough: 2 } }
    );
}

#[test]
fn waits_for_the_interval_between_two_scale_downs() {
    let few = samples([100; 100]);
    let now = few[99].at;
    let after = |age: u64| {
        let scale = CurrentScale {
            shards: 9,
            capacity: 100,
            changed: Some(Timestamp(now.0.saturating_sub(Duration::from_secs(age)))),
        };
        autoscale(&rules(), &scale, &few, now).shards
    };
    assert_eq!((after(59), after(60)), (9, 8));
}

#[test]
fn the_next_client_does_not_undo_a_scale_down() {
    // 209 fit in three shards at 70 %, with nothing to spare.
    assert_eq!(wanted(&rules(), 4, &samples([209; 100])).shards, 4);
    assert_eq!(wanted(&rules(), 4, &samples([200; 100])).shards, 3);
}

#[test]
fn without_samples_nothing_changes() {
    assert_eq!(wanted(&rules(), 5, &[]), WantedShards { shards: 5, reason: ScaleReason::NoSamples });
    assert_eq!(wanted(&rules(), 1, &[]).shards, 2);
    assert_eq!(wanted(&rules(), 99, &[]).shards, 20);
}

proptest! {
    #[test]
    fn stays_within_bounds_and_holds_all_connections(
        counts in prop::collection::vec(0..3_000_u32, 0..80),
        shards in 0..40_u32,
        min in 1..10_u32,
        more in 0..20_u32,
        target in 1..=100_u32,
        headroom in 0..500_u32,
    ) {
        let rules = Autoscale { min, max: min + more, target_utilization: target, headroom, ..rules() };
        let counts = samples(counts);
        let wanted = wanted(&rules, shards, &counts).shards;
        prop_assert!((min..=min + more).contains(&wanted));
        let needed = counts.last().map_or(0, |last| last.connections.div_ceil(100));
        prop_assert!(wanted >= needed.min(min + more), "{wanted} shards cannot hold {counts:?}");
        // Down by at most one, unless the bounds require more.
        prop_assert!(wanted + 1 >= shards.min(min + more));
    }

    #[test]
    fn more_connections_never_want_fewer_shards(counts in prop::collection::vec(0..3_000_u32, 1..80), shards in 2..20_u32) {
        let less = wanted(&rules(), shards, &samples(counts.clone())).shards;
        let mut more = counts;
        *more.last_mut().unwrap() += 500;
        prop_assert!(wanted(&rules(), shards, &samples(more)).shards >= less);
    }

    #[test]
    fn settles_under_a_steady_load(connections in 0..2_000_u32, start in 2..20_u32) {
        let mut counts = samples(std::iter::repeat_n(connections, 62));
        let mut scale = CurrentScale { shards: start, capacity: 100, changed: None };
        let mut changes = Vec::new();
        for n in 62..500 {
            let now = seconds(5 * n);
            counts.push(Sample { at: now, connections });
            let WantedShards { shards, .. } = autoscale(&rules(), &scale, &counts, now);
            if shards != scale.shards {
                changes.push(i64::from(shards) - i64::from(scale.shards));
                scale = CurrentScale { shards, changed: Some(now), ..scale };
            }
        }
        let one_way = changes.iter().all(|change| *change > 0) || changes.iter().all(|change| *change < 0);
        prop_assert!(one_way, "{changes:?}");
        prop_assert!(scale.shards >= connections.div_ceil(70).clamp(2, 20));
    }
}
