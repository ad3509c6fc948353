//! Arguments that several subcommands share.

use std::ffi::OsString;

use clap::{Command, ValueEnum};

/// Exit code when the command line or the manifest is wrong; that of clap too.
pub const USAGE: u8 = 2;

/// Environment variables that stand for arguments of a subcommand. A test of the command line keeps the list complete.
pub const VARIABLES: [&str; 15] = [
    "WSCLUSTER_ADMIN",
    "WSCLUSTER_ADMIN_URL",
    "WSCLUSTER_BROKERS",
    "WSCLUSTER_DISCOVER",
    "WSCLUSTER_DRAIN_LAG",
    "WSCLUSTER_FILE",
    "WSCLUSTER_INCARNATION",
    "WSCLUSTER_LISTEN",
    "WSCLUSTER_LOG",
    "WSCLUSTER_LOG_FORMAT",
    "WSCLUSTER_LOG_HANDSHAKES",
    "WSCLUSTER_NAME",
    "WSCLUSTER_REVISION",
    "WSCLUSTER_URL",
    "WSCLUSTER_WORKERS",
];

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

/// The arguments of a part from a command line that begins with its name.
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
