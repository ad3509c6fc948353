//! Logs: fields on standard error, as text for people or JSON for collectors.

use std::io::IsTerminal as _;

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

/// How logs look.
#[derive(Args, Clone, Debug)]
pub(crate) struct LogArgs {
    /// What to log: a level, or directives such as `info,wscluster_operator=debug`.
    #[arg(long, env = "WSCLUSTER_LOG", default_value = "info", help_heading = "Logs")]
    log: String,
    /// Form of a log line on standard error.
    #[arg(long, env = "WSCLUSTER_LOG_FORMAT", default_value = "text", help_heading = "Logs")]
    log_format: LogFormat,
}

/// Form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people; coloured on a terminal.
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging for this process. A bad filter is reported and replaced by `info`.
pub(crate) fn init(args: &LogArgs) {
    let (filter, bad) = match EnvFilter::try_new(&args.log) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new("info"), Some(error)),
    };
    // Every answer that is no success is an error to the client's own log; here it is one where it is handled.
    let quiet = ["kube_client=off", "tower=warn", "hyper_util=warn"].map(str::parse);
    let filter = quiet.into_iter().flatten().fold(filter, EnvFilter::add_directive);
    // Of a line that cannot be written it would tell on standard error too, and panic where nobody reads there any more.
    let builder = tracing_subscriber::fmt().log_internal_errors(false);
    let builder = builder.with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    match args.log_format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    if let Some(error) = bad {
        tracing::warn!(filter = args.log, %error, "log filter not understood, using info");
    }
}
