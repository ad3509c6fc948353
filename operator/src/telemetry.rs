//! Structured logs on standard error, as text or JSON.

use std::io::IsTerminal as _;

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

/// Flags for logging.
#[derive(Args, Clone, Debug)]
pub(crate) struct LogArgs {
    /// Log filter: a level, or directives such as `info,wscluster_operator=debug`.
    #[arg(long, env = "WSCLUSTER_LOG", value_name = "FILTER", default_value = "info", help_heading = "Logs")]
    log: String,
    /// Format of log lines.
    #[arg(long, env = "WSCLUSTER_LOG_FORMAT", value_name = "FORMAT", default_value = "text", help_heading = "Logs")]
    log_format: LogFormat,
}

/// Format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Text, in color on a terminal.
    Text,
    /// One JSON object per line.
    Json,
}

/// Initializes logging. An invalid filter is reported and replaced by `info`.
pub(crate) fn init(args: &LogArgs) {
    let (filter, bad) = match EnvFilter::try_new(&args.log) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new("info"), Some(error)),
    };
    // The client logs every unsuccessful answer as an error, also those that the operator handles.
    let quiet = ["kube_client=off", "tower=warn", "hyper_util=warn"].map(str::parse);
    let filter = quiet.into_iter().flatten().fold(filter, EnvFilter::add_directive);
    // By default, a line that cannot be written is reported on standard error, which panics if that is closed.
    let builder = tracing_subscriber::fmt().log_internal_errors(false);
    let builder = builder.with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    match args.log_format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    if let Some(error) = bad {
        tracing::warn!(filter = args.log, %error, "invalid log filter, using info");
    }
}
