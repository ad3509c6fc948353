//! `wscluster-simulation`: runs seeds, prints the trace of one, proves that the checks can fail, and measures at
//! scale.

use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, Subcommand, ValueEnum as _};
use wscluster_simulation::mutant::Mutant;
use wscluster_simulation::play::search;
use wscluster_simulation::report::page;
use wscluster_simulation::world::run;

/// Simulates clusters in virtual time.
#[derive(Parser)]
#[command(about = "Simulates clusters in virtual time", max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run many seeds; on a failure, print the trace of the first failed seed and exit with 1
    Run {
        /// Number of seeds
        #[arg(long, default_value_t = 100_000)]
        seeds: u64,
        /// First seed
        #[arg(long, default_value_t = 0)]
        from: u64,
        /// Run this seed only, and print its trace
        #[arg(long, conflicts_with_all = ["seeds", "from"])]
        seed: Option<u64>,
        /// Break this part on purpose
        #[arg(long, value_enum)]
        mutant: Option<Mutant>,
    },
    /// Break each part on purpose; exit with 1 if one is not detected
    Mutants {
        /// Seeds to try for each part
        #[arg(long, default_value_t = 20_000)]
        seeds: u64,
    },
    /// Simulate a thousand shards and a million clients, and print the page of figures
    Scale,
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Run { seed: Some(seed), mutant, .. } => trace(seed, mutant),
        Command::Run { seeds, from, mutant, .. } => play(from, seeds, mutant),
        Command::Mutants { seeds } => mutants(seeds),
        Command::Scale => {
            print!("{}", page(|step| eprintln!("{step}")));
            ExitCode::SUCCESS
        }
    }
}

fn trace(seed: u64, mutant: Option<Mutant>) -> ExitCode {
    let outcome = run(seed, mutant, true);
    for line in &outcome.trace {
        println!("{line}");
    }
    if let Some(violation) = outcome.violation {
        println!("seed {seed}: {violation}");
        return ExitCode::FAILURE;
    }
    println!("seed {seed}: all checks pass, {} s", outcome.ended / 1_000);
    ExitCode::SUCCESS
}

fn play(from: u64, seeds: u64, mutant: Option<Mutant>) -> ExitCode {
    let began = Instant::now();
    let total = search(from, seeds, mutant);
    let seconds = began.elapsed().as_secs_f64();
    if let Some((seed, violation)) = total.failed {
        let _ = trace(seed, mutant);
        println!("seed {seed} fails: {violation}");
        println!("reproduce: cargo run -p wscluster-simulation -- run --seed {seed}");
        println!("0 passed, 1 failed");
        return ExitCode::FAILURE;
    }
    println!(
        "{seeds} scenarios in {seconds:.1} s: {:.1} days of virtual time, {} connections, {} upgrades refused by a shard, {} \
         handshakes refused, {} reported gaps, {} plans blocked by missing slots at the end",
        total.virtual_ms as f64 / 86_400_000.0,
        total.sessions,
        total.wrong_picks,
        total.refusals,
        total.told,
        total.blocked
    );
    println!("{seeds} passed, 0 failed");
    ExitCode::SUCCESS
}

fn mutants(seeds: u64) -> ExitCode {
    let mut missed = 0;
    for mutant in Mutant::value_variants() {
        let name = mutant.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
        if let Some((seed, violation)) = search(0, seeds, Some(*mutant)).failed {
            println!("{name:24} caught by seed {seed}: {violation}");
        } else {
            missed += 1;
            println!("{name:24} NOT DETECTED in {seeds} seeds");
        }
    }
    println!("{} passed, {missed} failed", Mutant::value_variants().len() - missed);
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
