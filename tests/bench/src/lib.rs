//! Benches of wscluster. Each prints the machine, the peers with their versions, its figures and the goals that it meets,
//! and writes the same as JSON to `target/bench/NAME.json`. Run them on an idle machine with `just bench-NAME`.
//!
//! The subject has one CPU, clients and backends have the other, so CPU time can be attributed and no thread migrates.
//! Absolute figures differ between machines: compare only figures of one run.

pub mod ancestor;
pub mod audit;
pub mod backend;
pub mod broker;
pub mod catch_up;
pub mod centrifuge;
pub mod changes;
pub mod child;
pub mod cpu;
pub mod docs;
pub mod error;
pub mod fanout;
pub mod fleet;
pub mod gateway;
pub mod kafka;
pub mod kill9;
pub mod local;
pub mod machine;
pub mod ours;
pub mod overload;
pub mod progress;
pub mod proxies;
pub mod report;
pub mod slow;
pub mod soak;
pub mod throttle;
pub mod twelve;
pub mod wire;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The CPU of the process under measurement.
const SUBJECT_CPU: usize = 0;

/// The CPU of everything else.
const CLIENT_CPU: usize = 1;

/// Benches of wscluster; run them on an idle machine with two CPUs or more.
#[derive(Parser, Debug)]
#[command(name = "wscluster-bench", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// CPU and memory of one gateway worker, against HAProxy and nginx in the same run.
    Gateway(gateway::Args),
    /// Deliveries per CPU-second and memory of one shard worker, against a bare loop of `send` calls.
    Fanout(fanout::Args),
    /// Why half of the ancestor's handshakes failed: its mechanism on and off, and our service under the same load.
    Ancestor(ancestor::Args),
    /// 12,000 clients at 100/s, the same at once, and one more client than there are slots.
    #[command(name = "12k")]
    Twelve(twelve::Args),
    /// Shards killed with SIGKILL under load: no message lost or duplicated.
    Kill9(kill9::Args),
    /// Every change and failure under load, on `wscluster local`: no client refused, no message lost or duplicated.
    Changes(changes::Args),
    /// Clients that read too slowly: the effect on other clients, and the memory of the shard.
    Slow(slow::Args),
    /// Churn, storms, slow readers and hostile clients together: all that they used is given back, no honest one notices.
    Soak(soak::Args),
    /// More records than a shard can fan out: what it reports, loses and refuses.
    Overload(overload::Args),
    /// Every kind of failure under load, with real Kafka: every client receives the sequence of the topic.
    Audit(audit::Args),
    /// A shard that starts with a million records before its window: the window bounds the time to ready, not the log.
    CatchUp(catch_up::Args),
    /// One shard and a server on Centrifugo's engine: same broker, same records, same clients.
    Centrifuge(centrifuge::Args),
    /// Write the reports of the last runs into the pages of docs.
    Docs,
    /// A stand-in for the ancestor (a role, started by its bench).
    #[command(hide = true)]
    StandIn(ancestor::standin::Args),
    /// The server behind the proxies (a role, started by the benches).
    #[command(hide = true)]
    Backend(backend::Args),
}

/// Runs the bench that the command line names. Exit codes: 0 all goals met, 1 failed, 3 a goal was missed.
pub fn run() -> ExitCode {
    wscluster_runtime::sockets::raise_open_files();
    let done = match Cli::parse().command {
        Command::Gateway(args) => gateway::run(&args),
        Command::Fanout(args) => fanout::run(&args),
        Command::Ancestor(args) => ancestor::run(&args),
        Command::Twelve(args) => twelve::run(&args),
        Command::Kill9(args) => kill9::run(&args),
        Command::Changes(args) => changes::run(&args),
        Command::Slow(args) => slow::run(&args),
        Command::Soak(args) => soak::run(&args),
        Command::Overload(args) => overload::run(&args),
        Command::Audit(args) => audit::run(&args),
        Command::CatchUp(args) => catch_up::run(&args),
        Command::Centrifuge(args) => centrifuge::run(&args),
        Command::Docs => docs::run(),
        Command::StandIn(args) => ancestor::standin::run(args).map(|()| true),
        Command::Backend(args) => backend::run(args).map(|()| true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        // The bench ran, but a goal was missed.
        Ok(false) => ExitCode::from(3),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
