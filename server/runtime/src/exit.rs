//! How a command ends: its exit codes, and the one function that reports an error.

use std::fmt::Display;
use std::process::ExitCode;

use crate::logs;

/// Exit code when the work failed.
pub const FAILED: u8 = 1;

/// Exit code when the command line or the manifest is wrong; clap uses it too.
pub const USAGE: u8 = 2;

/// Reports `error` on standard error and returns `code`.
///
/// The error should name what is wrong, its value and the remedy.
pub fn fail(code: u8, error: impl Display) -> ExitCode {
    report(error);
    ExitCode::from(code)
}

/// Writes `error: …` to standard error, or a JSON log line with `--log-format json`.
pub fn report(error: impl Display) {
    logs::plain("error", "ERROR", &error.to_string());
}

/// Writes `hint: …` to standard error, or a JSON log line with `--log-format json`.
pub fn hint(hint: impl Display) {
    logs::plain("hint", "INFO", &hint.to_string());
}
