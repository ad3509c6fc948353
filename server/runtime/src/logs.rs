//! Logs: structured lines on standard error, as text for people or JSON for collectors. Standard output is for
//! results.
//!
//! Logging never blocks and never fails, whatever the reader does ([`crate::nonblocking_writer`]). [`Logs`] writes
//! the last lines before the process ends.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::IsTerminal as _;
use std::panic::PanicHookInfo;
use std::sync::OnceLock;
use std::time::Duration;

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};

use crate::nonblocking_writer::{NonblockingWriter, Raw};

/// Bytes of log lines that may wait for the reader: some thousand lines.
const WAITING: usize = 1 << 20;

/// Time without progress after which the end of the process stops waiting for the reader.
const PATIENCE: Duration = Duration::from_secs(1);

/// The same during a panic, which must not delay the rest of the process.
const PANIC_PATIENCE: Duration = Duration::from_millis(100);

static STDERR: OnceLock<NonblockingWriter> = OnceLock::new();
static FORMAT: OnceLock<LogFormat> = OnceLock::new();

/// Log options of every subcommand.
#[derive(Args, Debug)]
pub struct LogArgs {
    /// Log filter: a level, or directives such as `info,wscluster::gateway=debug`.
    #[arg(long, global = true, env = "WSCLUSTER_LOG", value_name = "FILTER", default_value = "info", help_heading = "Logs", value_parser = filter)]
    pub log: String,
    /// Format of log lines on standard error.
    #[arg(
        long,
        global = true,
        env = "WSCLUSTER_LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "text",
        help_heading = "Logs"
    )]
    pub log_format: LogFormat,
}

/// Form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people; coloured on a terminal.
    Text,
    /// One JSON object per line.
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

/// Writes pending log lines when it is dropped, at the end of the process.
#[derive(Debug)]
pub struct Logs(());

impl Drop for Logs {
    fn drop(&mut self) {
        flush();
    }
}

/// Starts logging for this process; once.
pub fn init(args: &LogArgs) -> std::io::Result<Logs> {
    let format = args.log_format;
    let writer =
        NonblockingWriter::start(Raw(rustix::stdio::stderr()), WAITING, Box::new(move |lost| dropped(format, lost)))?;
    let logs = STDERR.get_or_init(|| writer);
    FORMAT.get_or_init(|| format);
    std::panic::set_hook(Box::new(move |panic| {
        logs.line(&panicked(format, panic));
        // Flushed at once: a second panic would abort the process.
        logs.flush(PANIC_PATIENCE);
    }));
    let filter = EnvFilter::new(&args.log);
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(move || logs.clone()).with_target(false);
    match format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    Ok(Logs(()))
}

/// The writer of standard error.
///
/// # Panics
///
/// Before [`init`].
pub fn stderr() -> &'static NonblockingWriter {
    STDERR.get().expect("logging starts first")
}

/// Writes pending log lines; for a process that ends without dropping its [`Logs`].
pub fn flush() {
    if let Some(logs) = STDERR.get() {
        logs.flush(PATIENCE);
    }
}

/// The line that replaces a number of dropped lines.
pub fn dropped(format: LogFormat, lines: u64) -> String {
    let message = format!("{lines} log lines dropped: the reader of standard error was too slow, or gone");
    line(format, "WARN", &message)
}

fn panicked(format: LogFormat, panic: &PanicHookInfo<'_>) -> String {
    let thread = std::thread::current();
    let mut message = format!("thread {} {panic}", thread.name().unwrap_or("without a name"));
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        message += &format!("\n{backtrace}");
    }
    line(format, "ERROR", &message)
}

/// Writes `label: message` for people, or a JSON log line where that is the format. Works before [`init`] too.
pub(crate) fn plain(label: &str, level: &str, message: &str) {
    let text = match FORMAT.get() {
        Some(LogFormat::Json) => line(LogFormat::Json, level, message),
        _ => format!("{label}: {message}"),
    };
    match STDERR.get() {
        Some(logs) => logs.line(&text),
        None => eprintln!("{text}"),
    }
}

/// A log line whatever the filter says.
fn line(format: LogFormat, level: &str, message: &str) -> String {
    match format {
        LogFormat::Text => format!("{} {level:>5} {message}", time()),
        LogFormat::Json => serde_json::json!({ "timestamp": time(), "level": level, "message": message }).to_string(),
    }
}

/// The present time as in log lines: RFC 3339, UTC, microseconds.
pub fn time() -> String {
    let mut text = String::new();
    // Writing to memory does not fail.
    let _ = SystemTime.format_time(&mut Writer::new(&mut text));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_right_form_of_a_filter() {
        assert!(super::filter("info,wscluster::gateway=debug").is_ok());
        for bad in ["foo=bar=x", "info,wscluster=loud"] {
            let error = super::filter(bad).unwrap_err();
            assert!(error.contains("TARGET=LEVEL"), "{error}");
        }
    }

    #[test]
    fn lines_about_the_log_itself_look_like_the_others() {
        let json: serde_json::Value = serde_json::from_str(&dropped(LogFormat::Json, 7)).unwrap();
        assert_eq!((&json["level"], json["timestamp"].is_string()), (&"WARN".into(), true), "{json}");
        assert!(json["message"].as_str().unwrap().starts_with("7 log lines dropped"), "{json}");
        let text = dropped(LogFormat::Text, 7);
        assert!(text.contains("Z  WARN 7 log lines dropped"), "{text}");
    }

    #[test]
    fn writes_time_as_rfc_3339_in_utc() {
        let time = super::time();
        let shape: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        assert_eq!(shape, "0000-00-00T00:00:00.000000Z", "{time}");
    }
}
