//! Some thousand seeds, and the proof that they detect broken parts. `tests/stages/25-simulation.sh` runs a hundred
//! thousand.

use clap::ValueEnum as _;
use wscluster_simulation::mutant::Mutant;
use wscluster_simulation::play::search;
use wscluster_simulation::world::run;

#[test]
fn all_checks_pass() {
    let total = search(0, 4_000, None);
    assert_eq!(total.failed, None, "reproduce: cargo run -p wscluster-simulation -- run --seed …");
    assert!(total.sessions > 100_000 && total.wrong_picks > 1_000, "too few events: {total:?}");
}

#[test]
fn detects_every_mutant() {
    for mutant in Mutant::value_variants() {
        assert!(search(0, 20_000, Some(*mutant)).failed.is_some(), "{mutant:?} is not detected");
    }
}

#[test]
fn seed_reproduces_its_trace() {
    for seed in [1, 2, 3, 104_556] {
        assert_eq!(run(seed, None, true).trace, run(seed, None, true).trace);
    }
}

#[test]
fn failed_seed_has_a_trace() {
    let outcome = run(0, Some(Mutant::RemovesWithoutDrain), true);
    assert!(outcome.violation.is_some_and(|violation| violation.contains("is removed with")));
    assert!(outcome.trace.iter().any(|line| line.contains("EDIT Spec")) && outcome.trace.len() > 10);
}
