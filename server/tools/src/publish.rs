//! `wscluster publish`: writes records to Kafka from the command line, a file or standard input.
//!
//! Records are written once and in order (idempotent producer). Equal keys go to the partition that the Java client
//! would choose.

pub(crate) mod deliver;
pub(crate) mod input;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::builder::NonEmptyStringValueParser;
use wscluster_api::spec::Kafka;
use wscluster_api::units::Span;
use wscluster_kafka::{ConfigError, Connect};
use wscluster_runtime::args::{Output, name_value, rate};
use wscluster_runtime::exit::{FAILED, USAGE, fail, hint};

use self::deliver::{DeliverError, Outcome, Outlet};
use self::input::{InputError, Records};

const EXAMPLES: &str = "\
Examples:
  # one record with a key, to the brokers of a manifest
  wscluster publish -f cluster.yaml odin.trades --key BTC '{\"price\": 64000.5}'
  # each line of a file, at 500 records per second
  wscluster publish --brokers localhost:9092 odin.trades --records trades.txt \\
      --key-delimiter : --rate 500
  # JSON lines with keys and headers from another program, such as
  # {\"key\": \"BTC\", \"value\": {\"price\": 64000.5}, \"headers\": {\"venue\": \"x\"}}
  producer | wscluster publish --brokers localhost:9092 odin.trades --json-lines

Publishing stops at the first line that is not a record. Of a file, that line and the rest count as
failed; of standard input, only that line.

Exit codes: 0 the brokers accepted all records, 1 not all, 2 wrong command line or manifest.";

/// Arguments of `wscluster publish`.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Kafka topic to write to.
    topic: String,
    /// Values, one record each. Without any, each line of standard input is a record.
    #[arg(conflicts_with_all = ["records", "tombstone", "json_lines"])]
    values: Vec<String>,
    /// Kafka bootstrap addresses, instead of those in the manifest; separated by commas.
    #[arg(long, short, value_name = "HOST:PORT", value_delimiter = ',', env = "WSCLUSTER_BROKERS",
        value_parser = NonEmptyStringValueParser::new())]
    brokers: Vec<String>,
    /// WsCluster manifest with the brokers and the login; `-` is standard input.
    #[arg(long, short, alias = "manifest", value_name = "FILE")]
    file: Option<PathBuf>,
    /// Key of every record.
    #[arg(long, short)]
    key: Option<String>,
    /// Header of every record; repeatable.
    #[arg(long, short = 'H', value_name = "NAME=VALUE", value_parser = name_value)]
    header: Vec<(String, String)>,
    /// Read one record per line from this file; `-` is standard input.
    #[arg(long, value_name = "FILE")]
    records: Option<PathBuf>,
    /// Text between key and value in a line, or in a value given as an argument.
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["json_lines", "key"])]
    key_delimiter: Option<String>,
    /// Each line is a JSON object with `value` and optionally `key` and `headers`. A `value` that is a string is
    /// written without its quotes, any other byte for byte.
    #[arg(long)]
    json_lines: bool,
    /// Write one record without a value, which marks its key as deleted.
    #[arg(long, conflicts_with_all = ["records", "json_lines", "key_delimiter"])]
    tombstone: bool,
    /// Write the values given as arguments this many times.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u64).range(1..),
        conflicts_with = "records")]
    repeat: u64,
    /// Records per second [default: as many as the brokers accept].
    #[arg(long, value_name = "N", value_parser = rate)]
    rate: Option<f64>,
    /// Time for the brokers to accept a record.
    #[arg(long, default_value = "30s", value_name = "DURATION")]
    timeout: Span,
    /// Format of the result on standard output.
    #[arg(long, short, default_value = "text", value_name = "FORMAT")]
    output: Output,
}

#[derive(Debug, thiserror::Error)]
enum PublishError {
    #[error(transparent)]
    Manifest(#[from] wscluster_api::manifest::ManifestError),
    #[error("no brokers: give --brokers HOST:PORT, or -f FILE for those of a manifest")]
    Where,
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Input(#[from] InputError),
    #[error(transparent)]
    Deliver(#[from] DeliverError),
}

impl PublishError {
    /// Whether the arguments or the manifest are wrong, rather than Kafka.
    fn is_usage(&self) -> bool {
        !matches!(self, Self::Deliver(error) if !matches!(error, DeliverError::Config(_) | DeliverError::Client(_)))
    }

    /// Whether `--file` does not name a manifest. Earlier versions read records from `--file`.
    fn is_other_file(&self) -> bool {
        use wscluster_api::manifest::ManifestError::{Documents, Kind, Parse};
        matches!(self, Self::Manifest(Documents { .. } | Kind { .. } | Parse { .. }))
    }
}

/// Publishes the records.
pub fn run(args: Args) -> ExitCode {
    let (topic, output) = (args.topic.clone(), args.output);
    let started = Instant::now();
    match publish(args) {
        Ok(outcome) => {
            report(&topic, &outcome, started.elapsed(), output);
            if outcome.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            let code = fail(if error.is_usage() { USAGE } else { FAILED }, &error);
            if error.is_other_file() {
                hint("--file names the manifest; give a file of records as --records FILE");
            }
            code
        }
    }
}

fn publish(args: Args) -> Result<Outcome, PublishError> {
    let spec = match &args.file {
        Some(path) => wscluster_api::manifest::read(path)?.spec.source.kafka,
        None => Kafka::default(),
    };
    if args.brokers.is_empty() && spec.brokers.is_empty() {
        return Err(PublishError::Where);
    }
    let (brokers, topic, timeout) = (args.brokers.clone(), args.topic.clone(), args.timeout.0);
    let connect = Connect { spec: &spec, brokers: &brokers, client: "wscluster-publish" };
    // Before any connection to a broker, so that a wrong argument is reported at once.
    let mut records = Records::open(args.into())?;
    let mut outlet = Outlet::open(&connect, &topic, timeout)?;
    let (rate, started) = (records.rate, Instant::now());
    let progress = progress();
    for index in 0_u64.. {
        let Some(record) = records.next() else { break };
        if let Some(rate) = rate {
            // The schedule counts from the start, so a delay is caught up.
            let due = Duration::from_secs_f64(index as f64 / rate);
            std::thread::sleep(due.saturating_sub(started.elapsed()));
        }
        match record {
            Ok(record) => outlet.send(&record)?,
            Err(error) => {
                // Records sent before still need their reports. To continue would change the order of records.
                outlet.reject(&error, 1 + records.rest());
                break;
            }
        }
        progress.inc(1);
    }
    progress.finish_and_clear();
    Ok(outlet.close())
}

fn progress() -> indicatif::ProgressBar {
    // Draws only if standard error is a terminal.
    let style = indicatif::ProgressStyle::with_template("{human_pos} records, {per_sec}, {elapsed}");
    indicatif::ProgressBar::no_length().with_style(style.unwrap_or_else(|_| indicatif::ProgressStyle::default_bar()))
}

fn report(topic: &str, outcome: &Outcome, took: Duration, output: Output) {
    let Outcome { published, failed, error } = outcome;
    let seconds = took.as_secs_f64();
    match output {
        Output::Json => {
            let line = serde_json::json!({
                "topic": topic, "published": published, "failed": failed, "seconds": seconds, "error": error,
            });
            println!("{line}");
        }
        Output::Text => println!("published {} to {topic} in {seconds:.2} s", records(*published)),
    }
    if *failed > 0 {
        let (records, reason) = (records(*failed), error.as_deref().unwrap_or("see above"));
        wscluster_runtime::exit::report(format_args!("not published: {records}: {reason}"));
    }
}

fn records(number: u64) -> String {
    format!("{number} record{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use wscluster_api::spec::Topic;
    use wscluster_kafka::embedded::Embedded;
    use wscluster_runtime::args::parsed;

    use super::*;

    #[test]
    fn counts_all_lines_from_a_bad_one_as_failed_and_names_the_fault() {
        let broker = Embedded::start(&[Topic::named("trades", "{key}")]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("lines");
        std::fs::write(&file, "a:1\nb:2\nbad\nc:3\nd:4\n").unwrap();
        let line = ["publish", "--brokers", broker.bootstrap(), "trades", "--key-delimiter", ":", "--records"];
        let args = parsed(line.into_iter().chain([file.to_str().unwrap()])).unwrap();
        let Outcome { published, failed, error } = publish(args).unwrap();
        assert_eq!((published, failed), (2, 3));
        let error = error.unwrap();
        assert_eq!(error, "line 3 has no \":\" between key and value; nothing from there on was published");
    }

    #[test]
    fn refuses_arguments_that_it_would_ignore() {
        let refusal = |more: &[&str]| {
            let line = [&["publish", "--brokers", "127.0.0.1:1", "trades"], more].concat();
            let error = publish(parsed(line).unwrap()).unwrap_err();
            assert!(error.is_usage(), "{error}");
            error.to_string()
        };
        assert_eq!(refusal(&["--key-delimiter", ":", "BTC:1", "2"]), "value 2 has no \":\" between key and value");
        let error = refusal(&["--repeat", "3"]);
        assert!(error.starts_with("--repeat 3 ") && error.contains("as arguments"), "{error}");
    }
}
