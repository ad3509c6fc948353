//! `wscluster load`: tests a deployment with many clients and audits what they receive. [`run`] is the only entry.
//!
//! - Open loop: each client has a planned instant, and latencies count from it. A slow server cannot slow down the load
//!   and thereby look better.
//! - Every failure is counted under its own name. A 101 alone is not a success.
//! - The audit compares positions and, if it can read the topic, the records themselves.
//! - The report states when this tester was the bottleneck.
//!
//! `coordinator` performs a run; `fleet` starts its `worker`s, each with a `worker_plan`. A worker runs a task per
//! `client`: `dial`, then `session`, whose `inbox` feeds the `audit`. `ground_truth` compares the result with
//! the `topic`. `capacity` repeats runs to find what a shard can hold. The handshake, message types and the reconnect
//! policy come from `wscluster-client`; the read loop is its own, because it is the hot path.

mod args;
mod audit;
mod capacity;
mod channels;
mod client;
mod coordinator;
mod dial;
mod failure;
mod fleet;
mod ground_truth;
mod inbox;
mod latency;
mod message;
mod progress;
mod report;
mod schedule;
mod session;
mod settings;
mod source;
mod stats;
mod table;
mod target;
#[cfg(test)]
mod tests;
mod threshold;
mod topic;
mod worker;
mod worker_plan;

use std::process::ExitCode;

pub use args::Args;
use report::Report;
use wscluster_runtime::args::Output;
use wscluster_runtime::exit::USAGE;

/// A threshold was crossed or, without thresholds, no client connected.
const CROSSED: u8 = 1;
/// The run or its audit could not be completed.
const COULD_NOT_RUN: u8 = 3;

/// Runs `wscluster load`.
#[allow(clippy::needless_pass_by_value)] // the signature of every subcommand
pub fn run(args: Args) -> ExitCode {
    if args.member {
        return match fleet::be_member() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(COULD_NOT_RUN, &error),
        };
    }
    let files = wscluster_runtime::sockets::raise_open_files();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(COULD_NOT_RUN, &format!("failed to start an event loop: {error}")),
    };
    if args.find_capacity {
        return runtime.block_on(capacity::run(&args, files));
    }
    let run = match settings::run(&args, files) {
        Ok(run) => run,
        Err(error) => return fail(USAGE, &error),
    };
    if run.processes > 1 && args.processes == 0 && !args.quiet {
        eprintln!("{} clients need more than one process: using {}", args.connections, run.processes);
    }
    match runtime.block_on(coordinator::coordinate(&run, |_| {})) {
        Ok(report) => finish(&args, &report),
        Err(error) => fail(COULD_NOT_RUN, &error),
    }
}

fn fail(code: u8, error: &dyn std::fmt::Display) -> ExitCode {
    wscluster_runtime::exit::fail(code, error)
}

/// Prints the result and checks it against the thresholds.
fn finish(args: &Args, report: &Report) -> ExitCode {
    let value = match serde_json::to_value(report) {
        Ok(value) => value,
        Err(error) => return fail(COULD_NOT_RUN, &error),
    };
    let text = match args.output {
        Output::Text => table::render(report),
        Output::Json => format!("{value}\n"),
    };
    // If standard output is closed, the exit code still reports the result.
    let _ = std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes());
    let mut code = ExitCode::SUCCESS;
    // A run without a connected client has tested nothing.
    if args.fail_on.is_empty() && report.connected == 0 && !report.interrupted {
        let most = report.failures.iter().max_by_key(|(_, times)| **times).map_or("none was started", |(name, _)| name);
        let targets = report.targets.join(", ");
        let clients = report.planned;
        code = fail(CROSSED, &format_args!("none of {clients} clients connected to {targets}: {most}"));
    }
    for threshold in &args.fail_on {
        if let Some(how) = threshold.crossed(&value) {
            eprintln!("crossed: {threshold} ({how})");
            code = ExitCode::from(CROSSED);
        }
    }
    if let Some(reason) = &report.audit.not_compared {
        return fail(COULD_NOT_RUN, reason);
    }
    code
}
