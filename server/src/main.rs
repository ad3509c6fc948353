//! `wscluster`: one binary, one subcommand a part of the system.

use std::process::ExitCode;

fn main() -> ExitCode {
    wscluster::cli::run()
}
