//! Some thousand seeds, and the proof that they would tell. `tests/stages/25-simulation.sh` plays a hundred thousand.

use clap::ValueEnum as _;
use wscluster_simulation::mutant::Mutant;
use wscluster_simulation::play::search;
use wscluster_simulation::world::run;

#[test]
fn everything_holds() {
    let total = search(0, 4_000, None);
    assert_eq!(total.failed, None, "again: cargo run -p wscluster-simulation -- run --seed …");
    assert!(total.sessions > 100_000 && total.wrong_picks > 1_000, "too little happens: {total:?}");
}

#[test]
fn whatever_is_broken_on_purpose_is_noticed() {
    for mutant in Mutant::value_variants() {
        assert!(search(0, 20_000, Some(*mutant)).failed.is_some(), "{mutant:?} is not noticed");
    }
}

#[test]
fn a_seed_plays_the_same_story_twice() {
    for seed in [1, 2, 3, 104_556] {
        assert_eq!(run(seed, None, true).story, run(seed, None, true).story);
    }
}

#[test]
fn a_seed_that_fails_tells_what_happened() {
    let outcome = run(0, Some(Mutant::RemovesWithoutDrain), true);
    assert!(outcome.violation.is_some_and(|violation| violation.contains("is taken away with")));
    assert!(outcome.story.iter().any(|line| line.contains("EDIT Spec")) && outcome.story.len() > 10);
}
