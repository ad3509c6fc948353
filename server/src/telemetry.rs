//! Logs: fields on standard error, as text for people or JSON for collectors. Standard output belongs to results.

use std::io::IsTerminal as _;

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};

/// How logs look; taken by every subcommand.
#[derive(Args, Debug)]
pub struct LogArgs {
    /// What to log: a level, or directives such as `info,wscluster::gateway=debug`.
    #[arg(long, global = true, env = "WSCLUSTER_LOG", default_value = "info", help_heading = "Logs", value_parser = filter)]
    pub log: String,
    /// Form of a log line on standard error.
    #[arg(long, global = true, env = "WSCLUSTER_LOG_FORMAT", default_value = "text", help_heading = "Logs")]
    pub log_format: LogFormat,
}

/// Form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people; coloured on a terminal.
    Text,
    /// One JSON object a line.
    Json,
}

fn filter(text: &str) -> Result<String, String> {
    match EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!(
            "{error}; write error, warn, info, debug or trace, or TARGET=LEVEL with commas between, such as \
             info,wscluster::gateway=debug"
        )),
    }
}

/// Starts logging for this process.
pub fn init(args: &LogArgs) {
    let filter = EnvFilter::new(&args.log);
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    match args.log_format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
}

/// The time now, as log lines write it: RFC 3339, UTC, microseconds.
pub fn time() -> String {
    let mut text = String::new();
    // Writing to memory does not fail.
    let _ = SystemTime.format_time(&mut Writer::new(&mut text));
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_what_a_filter_should_be() {
        assert!(super::filter("info,wscluster::gateway=debug").is_ok());
        for bad in ["foo=bar=x", "info,wscluster=loud"] {
            let error = super::filter(bad).unwrap_err();
            assert!(error.contains("TARGET=LEVEL"), "{error}");
        }
    }

    #[test]
    fn writes_time_as_rfc_3339_in_utc() {
        let time = super::time();
        let shape: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        assert_eq!(shape, "0000-00-00T00:00:00.000000Z", "{time}");
    }
}
