//! The command line: every subcommand is a part with its own `Args` and `run`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::telemetry::LogArgs;
use crate::{gateway, load, local, publish, shard, tail, telemetry, verify};

/// Live data to many browsers: a sharded WebSocket service fed by Kafka.
#[derive(Parser, Debug)]
#[command(name = "wscluster", version, propagate_version = true)]
struct Cli {
    #[command(flatten)]
    log: LogArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
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
    /// Publish records to Kafka.
    Publish(Box<publish::Args>),
    /// Print the messages of channels as they come.
    Tail(Box<tail::Args>),
}

/// Parses the command line, runs the part it names, and says how that ended.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    telemetry::init(&cli.log);
    match cli.command {
        Command::Local(args) => local::run(*args, &cli.log),
        Command::Shard(args) => shard::run(*args),
        Command::Gateway(args) => gateway::run(*args),
        Command::Load(args) => load::run(*args),
        Command::Verify(args) => verify::run(&args),
        Command::Publish(args) => publish::run(*args),
        Command::Tail(args) => tail::run(&args),
    }
}
