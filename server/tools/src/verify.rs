//! `wscluster verify`: checks that a deployment runs the declared shards and delivers messages.
//!
//! It checks from outside only: the health answer, each shard on its own port, the gateway as a client, and Kafka as a
//! producer. `checks` runs the checks in order. Each prints one line with numbers and, if it fails, a remedy.

mod balance;
mod checks;
mod client;
mod delivery;
mod fields;
mod full;
mod members;
mod refusal;
mod report;
mod target;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use wscluster_api::units::Span;
use wscluster_runtime::args::Output;
use wscluster_runtime::exit::{FAILED, USAGE, fail};

use self::report::Report;
use self::target::Target;
pub(crate) use self::target::admin_address;

const EXAMPLES: &str = "\
Examples:
  # a local run against its manifest
  wscluster local -f cluster.yaml --output json > run.json &
  wscluster verify --local run.json -f cluster.yaml
  # any deployment whose shards can be reached from here
  wscluster verify -f cluster.yaml --admin http://gateway:8081 --url ws://gateway:8080/ws
  # also take every slot, and check how the next client is refused
  wscluster verify --local run.json -f small.yaml --full

Exit codes: 0 nothing failed, 1 a check failed, 2 wrong command line or manifest.";

/// Arguments of `wscluster verify`.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// WsCluster manifest with the expected shards, capacity and topics; `-` is standard input.
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Output of `wscluster local --output json`. Its first line has all addresses; verify waits for it.
    #[arg(long, value_name = "FILE")]
    pub local: Option<PathBuf>,
    /// Admin address of a gateway or of `wscluster local`.
    #[arg(long, value_name = "URL")]
    pub admin: Option<String>,
    /// WebSocket address that clients connect to.
    #[arg(long, alias = "gateway", value_name = "URL")]
    pub url: Option<String>,
    /// Kafka bootstrap addresses to publish to, separated by commas [default: those of --local or of the manifest].
    #[arg(long, short, alias = "kafka", value_name = "HOST:PORT", value_delimiter = ',')]
    pub brokers: Vec<String>,
    /// Topic to publish one record to [default: the manifest's first whose channel needs no header].
    #[arg(long)]
    pub topic: Option<String>,
    /// Channel template of that topic [default: the manifest's].
    #[arg(long, value_name = "TEMPLATE")]
    pub channel: Option<String>,
    /// Expected number of shards [default: spec.shards].
    #[arg(long, value_name = "N")]
    pub shards: Option<u32>,
    /// Expected capacity of each shard [default: spec.capacity].
    #[arg(long, value_name = "N")]
    pub capacity: Option<u32>,
    /// `Origin` header of every upgrade [default: the first of spec.gateway.allowedOrigins].
    #[arg(long)]
    pub origin: Option<String>,
    /// Allowed imbalance of the shards, in percent of the fullest.
    #[arg(long, value_name = "PERCENT", default_value_t = 10.0)]
    pub max_imbalance: f64,
    /// Take every free slot and check that the next client is refused correctly. Real clients are refused meanwhile.
    #[arg(long)]
    pub full: bool,
    /// Most free slots that --full may take.
    #[arg(long, value_name = "N", default_value_t = 2_000)]
    pub full_limit: u32,
    /// Time that an upgrade may wait in the gateway's queue (spec.gateway.queue.timeout).
    #[arg(long, value_name = "DURATION", default_value_t = Span::secs(30))]
    pub queue_timeout: Span,
    /// Time for each step of each check.
    #[arg(long, value_name = "DURATION", default_value_t = Span::secs(10))]
    pub timeout: Span,
    /// Format of standard output.
    #[arg(long, short, value_name = "FORMAT", value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// Runs `wscluster verify`.
pub fn run(args: &Args) -> ExitCode {
    let target = match Target::new(args) {
        Ok(target) => target,
        Err(error) => return fail(USAGE, error),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(FAILED, format_args!("failed to start: {error}")),
    };
    // --full opens many sockets.
    wscluster_runtime::sockets::raise_open_files();
    let started = Instant::now();
    let mut findings = Vec::new();
    runtime.block_on(checks::run(args, &target, &mut |finding| {
        if args.output == Output::Text {
            print(&finding.to_string());
        }
        findings.push(finding);
    }));
    let report = Report::new(target.admin, findings, started.elapsed());
    match args.output {
        Output::Text => print(&report.summary()),
        Output::Json => print(&serde_json::to_string(&report).expect("it has text keys only")),
    }
    if report.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    // If standard output is closed, the exit code still reports the result.
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}
