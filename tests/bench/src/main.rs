//! `wscluster-bench`: one subcommand a bench.

use std::process::ExitCode;

fn main() -> ExitCode {
    wscluster_bench::run()
}
