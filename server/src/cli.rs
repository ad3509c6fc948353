//! The command line: every subcommand is a part with its own `Args` and `run`.

use std::ffi::OsStr;
use std::process::ExitCode;

use clap::builder::Resettable;
use clap::{Command, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use wscluster_gateway as gateway;
use wscluster_load as load;
use wscluster_local as local;
use wscluster_runtime::logs::{self, LogArgs};
use wscluster_shard as shard;
use wscluster_tools::{publish, tail, top, verify};

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

const EXIT_CODES: &str = "\
Exit codes: 0 ended as wanted, 1 failed, 2 the command line or the manifest is wrong. Where a command has more, its --help says so.";

/// `command`, for which a variable of the environment that is empty is one that is not set.
fn without_empty_variables(command: Command) -> Command {
    let is_empty = |name: &OsStr| std::env::var_os(name).is_some_and(|value| value.is_empty());
    command
        .mut_args(|arg| if arg.get_env().is_some_and(is_empty) { arg.env(Resettable::Reset) } else { arg })
        .mut_subcommands(without_empty_variables)
}

/// Parses the command line, runs the part it names, and says how that ended.
pub(crate) fn run() -> ExitCode {
    let matches = without_empty_variables(Cli::command()).get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let _logs = match logs::init(&cli.log) {
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use wscluster_runtime::args::VARIABLES;

    use super::*;

    #[test]
    fn the_list_of_variables_is_that_of_the_arguments() {
        let cli = Cli::command();
        let args = cli.get_subcommands().chain([&cli]).flat_map(Command::get_arguments);
        let names: BTreeSet<_> = args.filter_map(clap::Arg::get_env).collect();
        assert_eq!(names, VARIABLES.iter().map(OsStr::new).collect());
    }
}
