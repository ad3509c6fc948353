//! `wscluster local`: the manifest that Kubernetes takes, as processes of this machine.
//!
//! One process a shard and a gateway, as in Kubernetes, all children of this one and of its own executable; an embedded broker
//! where the manifest names none. [`run`](run::run) sets a run up and [`drive`] drives it; [`supervise`] keeps one child
//! running; [`board`] holds what is known of them; [`screen`] is all output.

pub mod backoff;
pub mod board;
pub mod child;
pub mod demo;
pub mod drive;
pub mod event;
pub mod front;
pub mod plan;
pub mod ports;
pub mod ready;
pub mod run;
pub mod sample;
pub mod screen;
pub mod stop;
pub mod supervise;
pub mod traffic;
pub mod watch;

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum as _;
use wscluster_api::units::Span;

use self::event::Event;
use self::run::{Ended, Job};
use self::screen::{Output, Screen};
use crate::telemetry::LogArgs;

/// Exit code when the command line or the manifest is wrong; that of clap too.
const USAGE: u8 = 2;
/// Exit code after a second Ctrl-C: 128 + SIGINT, as shells count.
const INTERRUPTED: u8 = 130;

const EXAMPLES: &str = "\
Examples:
  wscluster local -f manifests/quickstart.yaml --demo
      Runs the service with trades that move at once; open the browser address it prints.
  wscluster local -f cluster.yaml --port 0 --output json
      Free ports; the first line of standard output has all addresses.
  wscluster local -f cluster.yaml --brokers broker-1:9092,broker-2:9092
      Reads another Kafka cluster than the manifest names.

Exit codes: 0 ended on a signal, 1 did not start or had to kill a process, 2 wrong command line or manifest,
130 ended at once by a second signal.";

/// Arguments.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The WsCluster manifest.
    #[arg(short, long, value_name = "FILE")]
    pub file: PathBuf,
    /// Port that clients connect to; 0 for any free one [default: spec.gateway.service.port]
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,
    /// Port of `/health`, `/metrics` and the page for browsers; 0 for any free one [default: one above --port]
    #[arg(long, value_name = "PORT")]
    pub admin_port: Option<u16>,
    /// Address to listen on; 0.0.0.0 lets other machines in. Shards and embedded broker stay on 127.0.0.1.
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    pub host: IpAddr,
    /// Kafka bootstrap addresses instead of spec.source.kafka.brokers
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',', env = "WSCLUSTER_BROKERS")]
    pub brokers: Vec<String>,
    /// Publish random trades to the embedded broker, so that something moves
    #[arg(long)]
    pub demo: bool,
    /// What standard output is for
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
    /// After Ctrl-C, time to move connections away and end everything
    #[arg(long, value_name = "TIME", default_value_t = Span::secs(5))]
    pub grace: Span,
}

/// Runs the part.
pub fn run(args: Args, log: &LogArgs) -> ExitCode {
    let mut screen = Screen::new(args.output, log.log_format);
    if args.file.as_os_str() == "-" {
        let error =
            "--file: - is not allowed here; give a path: every process reads the manifest again when it restarts";
        return failed(&mut screen, args.output, error, ExitCode::from(USAGE));
    }
    let cluster = match wscluster_api::manifest::read(&args.file) {
        Ok(cluster) => cluster,
        Err(error) => return failed(&mut screen, args.output, &error.to_string(), ExitCode::from(USAGE)),
    };
    if cluster.spec.autoscale.is_some() {
        screen.note("wscluster local: spec.autoscale needs Kubernetes; spec.shards stays as it is");
    }
    let port = args.port.unwrap_or(cluster.spec.gateway.service.port);
    let above = if port == 0 { 0 } else { port.checked_add(1).unwrap_or(0) };
    let format = log.log_format.to_possible_value().expect("no value is skipped");
    let job = Job {
        cluster,
        file: args.file,
        host: args.host,
        port,
        admin_port: args.admin_port.unwrap_or(above),
        brokers: args.brokers,
        demo: args.demo,
        grace: args.grace.0,
        log: vec!["--log".into(), (&log.log).into(), "--log-format".into(), format.get_name().into()],
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = match runtime {
        Ok(runtime) => runtime.block_on(run::run(job, &mut screen)),
        Err(error) => Err(error.into()),
    };
    screen.close();
    match ended {
        Ok(Ended::Well) => ExitCode::SUCCESS,
        Ok(Ended::Killed) => ExitCode::FAILURE,
        Ok(Ended::AtOnce) => ExitCode::from(INTERRUPTED),
        Err(error) => failed(&mut screen, args.output, &error.to_string(), ExitCode::FAILURE),
    }
}

fn failed(screen: &mut Screen, output: Output, error: &str, code: ExitCode) -> ExitCode {
    screen.close();
    if output == Output::Json {
        screen.event(&Event::Failed { error: error.to_owned() });
    }
    screen.note(&format!("wscluster local: {error}"));
    code
}
