//! Not built yet.

pub mod window;

use std::process::ExitCode;

/// Arguments.
#[derive(clap::Args, Debug)]
pub struct Args {}

/// Runs the part.
pub fn run(_: Args) -> ExitCode {
    eprintln!("not built yet");
    ExitCode::FAILURE
}
