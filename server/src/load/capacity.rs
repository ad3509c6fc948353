//! `--find-capacity`: not built yet.

use std::process::ExitCode;
use std::str::FromStr;

/// What must hold at each step.
#[derive(Clone, Debug)]
pub(super) struct Limits;

impl FromStr for Limits {
    type Err = String;
    fn from_str(_: &str) -> Result<Self, String> {
        Ok(Self)
    }
}

/// Finds it.
pub(super) async fn run(_: &super::Args, _: u64) -> ExitCode {
    eprintln!("error: --find-capacity is not built yet");
    ExitCode::from(3)
}
