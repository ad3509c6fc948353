//! The command line: every subcommand is a part with its own `Args` and `run`.

use std::ffi::{OsStr, OsString};
use std::process::ExitCode;

use clap::builder::Resettable;
use clap::{Command, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};

use crate::telemetry::LogArgs;
use crate::{gateway, load, local, publish, shard, tail, telemetry, top, verify};

/// Live data to many browsers: a sharded WebSocket service fed by Kafka.
#[derive(Parser, Debug)]
#[command(name = "wscluster", version, propagate_version = true, after_help = EXIT_CODES)]
struct Cli {
    #[command(flatten)]
    log: LogArgs,
    #[command(subcommand)]
    part: Part,
}

#[derive(Subcommand, Debug)]
enum Part {
    /// Run a whole WsCluster on this machine, from the manifest that Kubernetes takes.
    Local(Box<local::Args>),
    /// Hold client connections and fan records out to them.
    Shard(Box<shard::Args>),
    /// Route each upgrade to a shard with a free slot.
    Gateway(Box<gateway::Args>),
    /// Test with many clients, and audit what they receive.
    Load(Box<load::Args>),
    /// Check a running deployment end to end.
    Verify(Box<verify::Args>),
    /// Watch the shards of a running cluster.
    Top(Box<top::Args>),
    /// Publish records to Kafka.
    Publish(Box<publish::Args>),
    /// Print the messages of channels as they come.
    Tail(Box<tail::Args>),
}

/// Exit code when the command line or the manifest is wrong; that of clap too.
pub const USAGE: u8 = 2;

const EXIT_CODES: &str = "\
Exit codes: 0 ended as wanted, 1 failed, 2 the command line or the manifest is wrong. Where a command has more, its --help says so.";

/// For whom standard output is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Text for people.
    Text,
    /// JSON for programs.
    Json,
}

/// Reads an argument of the form `NAME=VALUE`.
pub fn name_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write it as NAME=VALUE".into()),
    }
}

/// Slower than once in a quarter of an hour is a mistake, and far slower ones fall due when no clock goes.
const LEAST_RATE: f64 = 0.001;

/// Reads a rate.
pub fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate >= LEAST_RATE => Ok(rate),
        _ => Err(format!("write a number a second, {LEAST_RATE} or more")),
    }
}

/// Reads a rate that may be 0: never.
pub fn rate_or_never(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(0.0) => Ok(0.0),
        _ => rate(text).map_err(|_| format!("write a number a second, {LEAST_RATE} or more, or 0 for never")),
    }
}

/// `command`, for which a variable of the environment that is empty is one that is not set.
fn without_empty_variables(command: Command) -> Command {
    let is_empty = |name: &OsStr| std::env::var_os(name).is_some_and(|value| value.is_empty());
    command
        .mut_args(|arg| if arg.get_env().is_some_and(is_empty) { arg.env(Resettable::Reset) } else { arg })
        .mut_subcommands(without_empty_variables)
}

/// Variables of the environment that stand for arguments of a part.
pub fn variables() -> Vec<OsString> {
    let cli = Cli::command();
    let args = cli.get_subcommands().chain([&cli]).flat_map(Command::get_arguments);
    args.filter_map(|arg| arg.get_env().map(OsStr::to_owned)).collect()
}

/// Parses the command line, runs the part it names, and says how that ended.
pub fn run() -> ExitCode {
    let matches = without_empty_variables(Cli::command()).get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let _logs = match telemetry::init(&cli.log) {
        Ok(logs) => logs,
        Err(error) => {
            eprintln!("error: failed to start logging: {error}");
            return ExitCode::FAILURE;
        }
    };
    match cli.part {
        Part::Local(args) => local::run(*args, &cli.log),
        Part::Shard(args) => shard::run(*args),
        Part::Gateway(args) => gateway::run(*args),
        Part::Load(args) => load::run(*args),
        Part::Verify(args) => verify::run(&args),
        Part::Top(args) => top::run(&args),
        Part::Publish(args) => publish::run(*args),
        Part::Tail(args) => tail::run(&args),
    }
}

/// The arguments of a part from a command line that begins with its name.
#[cfg(test)]
pub fn parsed<A: clap::Args>(line: impl IntoIterator<Item: Into<OsString> + Clone>) -> Result<A, clap::Error> {
    A::from_arg_matches(&A::augment_args(Command::new("part")).try_get_matches_from(line)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_rates_of_which_every_instant_can_be_told() {
        for (text, good) in [("0.001", 0.001), ("500", 500.0), ("1e300", 1e300)] {
            assert_eq!((rate(text), rate_or_never(text)), (Ok(good), Ok(good)));
        }
        assert_eq!((rate_or_never("0"), rate_or_never("-0.0")), (Ok(0.0), Ok(0.0)));
        assert_eq!(rate("0").unwrap_err(), "write a number a second, 0.001 or more");
        for bad in ["1e-20", "-1", "inf", "NaN", "fast", ""] {
            assert!(rate(bad).is_err(), "{bad}");
            assert_eq!(rate_or_never(bad).unwrap_err(), "write a number a second, 0.001 or more, or 0 for never");
        }
    }
}
