//! `wscluster-fuzz`: runs the fuzz targets on stable Rust.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use wscluster_fuzz_entry::runner::{self, FileError, Settings};
use wscluster_fuzz_entry::{TARGETS, Target, target};

/// Runs the fuzz targets of wscluster with a bounded number of executions, determined by a seed.
#[derive(Parser, Debug)]
#[command(name = "wscluster-fuzz", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run targets until one fails or the executions are used up.
    Run(RunArgs),
    /// Run a target once with each file.
    Replay {
        #[arg(value_parser = parse_target)]
        target: Target,
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Print the names of the targets.
    List,
}

#[derive(clap::Args, Debug)]
struct RunArgs {
    /// Determines every input.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Executions of each target [default: its own number, 10 to 20 seconds of CPU in a debug build].
    #[arg(long)]
    executions: Option<u64>,
    /// Folder with one folder of inputs a target.
    #[arg(long, default_value = "fuzz/corpus")]
    corpus: PathBuf,
    /// Folder for failing inputs.
    #[arg(long, default_value = "target/fuzz")]
    failures: PathBuf,
    /// Write each input to this file before it is executed, to find one that hangs or ends the process.
    #[arg(long)]
    keep_last: Option<PathBuf>,
    /// Targets [default: all].
    #[arg(value_parser = parse_target)]
    targets: Vec<Target>,
}

fn parse_target(name: &str) -> Result<Target, String> {
    target(name).ok_or_else(|| "no such target; `wscluster-fuzz list` prints them".to_owned())
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run(args) => run(args).unwrap_or_else(|error| {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }),
        Command::Replay { target, files } => {
            // A panic has its place and backtrace here.
            for file in files {
                match std::fs::read(&file) {
                    Ok(input) => (target.run)(&input),
                    Err(error) => {
                        eprintln!("error: failed to read {}: {error}", file.display());
                        return ExitCode::FAILURE;
                    }
                }
            }
            ExitCode::SUCCESS
        }
        Command::List => {
            for target in TARGETS {
                println!("{}", target.name);
            }
            ExitCode::SUCCESS
        }
    }
}

fn run(args: RunArgs) -> Result<ExitCode, FileError> {
    let RunArgs { seed, executions, corpus, failures, keep_last, targets } = args;
    let targets = if targets.is_empty() { TARGETS.to_vec() } else { targets };
    let mut failed = 0;
    for target in &targets {
        let name = target.name;
        let executions = executions.unwrap_or(target.executions);
        println!("{name}: seed {seed}, {executions} executions");
        let settings = Settings {
            seed,
            executions,
            corpus: corpus.clone(),
            failures: failures.clone(),
            keep_last: keep_last.clone(),
        };
        let outcome = runner::run(target, &settings)?;
        println!("{name}: {} executions from a corpus of {} done", outcome.executions, outcome.corpus);
        if let Some(file) = outcome.failure {
            failed += 1;
            println!("{name}: failed; replay it with\n  wscluster-fuzz replay {name} {}", file.display());
        }
    }
    println!("{} passed, {failed} failed", targets.len() - failed);
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
