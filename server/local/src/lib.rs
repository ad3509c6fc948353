//! `wscluster local`: the manifest that Kubernetes takes, as processes of this machine.
//!
//! One process a shard and a gateway, as in Kubernetes, all children of this one and of its own executable; an embedded broker
//! where the manifest names none. [`run`](run::run) sets a run up and [`event_loop`] drives it; [`reconciler`] says where it goes when the
//! manifest is edited and [`fleet`] carries that out; [`supervise`] keeps one child running; [`state`] holds what is known of them;
//! [`screen`] is all output.

pub mod admin;
pub mod demo;
pub mod edit_rules;
pub mod event;
pub mod event_loop;
pub mod fleet;
pub mod health_poller;
pub mod listen_sockets;
pub mod manifest_watcher;
pub mod observe;
pub mod program;
pub mod ready_message;
pub mod reconciler;
pub mod reserved_ports;
pub mod revision;
pub mod rollout;
pub mod run;
pub mod run_folder;
pub mod sample;
pub mod screen;
pub mod shutdown;
pub mod state;
pub mod supervise;
pub mod traffic;

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ValueEnum as _;
use clap::builder::NonEmptyStringValueParser;
use wscluster_api::WsCluster;
use wscluster_api::manifest::{self, ManifestError};
use wscluster_api::units::Span;
use wscluster_runtime::args::Output;
use wscluster_runtime::exit::{FAILED, USAGE, fail, report};
use wscluster_runtime::fds;
use wscluster_runtime::logs::LogArgs;

use self::edit_rules::Given;
use self::event::Event;
use self::run::{Ended, Job, RunError};
use self::screen::Screen;

/// Exit code after a second Ctrl-C: 128 + SIGINT, as shells count.
const INTERRUPTED: u8 = 130;

const EXAMPLES: &str = "\
Examples:
  # with random trades; open the browser address that it prints
  wscluster local -f cluster.yaml --demo
  # free ports; the first line of standard output has all addresses
  wscluster local -f cluster.yaml --port 0 --output json
  # another Kafka cluster than the manifest names
  wscluster local -f cluster.yaml --brokers broker-1:9092,broker-2:9092

Exit codes: 0 ended on a signal, 1 did not start or had to kill a process, 2 wrong command line or
manifest, 130 ended at once by a second signal.";

/// Arguments of `wscluster local`.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// WsCluster manifest; edits apply while clients stay connected.
    #[arg(short, long, value_name = "FILE")]
    pub file: PathBuf,
    /// Port that clients connect to; 0 picks a free one [default: spec.gateway.service.port].
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,
    /// Port of /health, /metrics and the page for browsers; 0 picks a free one [default: --port plus 1].
    #[arg(long, value_name = "PORT")]
    pub admin_port: Option<u16>,
    /// IP address to listen on; 0.0.0.0 admits other machines. Shards and the embedded broker stay on 127.0.0.1.
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST), value_parser = host)]
    pub host: IpAddr,
    /// Kafka bootstrap addresses, instead of those in the manifest; separated by commas.
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',', env = "WSCLUSTER_BROKERS",
        value_parser = NonEmptyStringValueParser::new())]
    pub brokers: Vec<String>,
    /// Publish random trades to the embedded broker.
    #[arg(long)]
    pub demo: bool,
    /// Format of standard output.
    #[arg(long, short, value_name = "FORMAT", value_enum, default_value_t = Output::Text)]
    pub output: Output,
    /// Time after Ctrl-C to move connections away and end all processes.
    #[arg(long, value_name = "DURATION", default_value_t = Span::secs(5), allow_hyphen_values = true)]
    pub grace: Span,
}

fn host(text: &str) -> Result<IpAddr, String> {
    text.parse()
        .map_err(|_| "write an IP address of this machine, such as 127.0.0.1, or 0.0.0.0 for all of them".into())
}

/// Runs the part.
pub fn run(args: Args, log: &LogArgs) -> ExitCode {
    let mut screen = match Screen::new(args.output, log.log_format) {
        Ok(screen) => screen,
        Err(error) => {
            return fail(FAILED, format_args!("failed to start: {error}"));
        }
    };
    let code = run_on(&mut screen, args, log);
    screen.close();
    screen.flush();
    code
}

fn run_on(screen: &mut Screen, args: Args, log: &LogArgs) -> ExitCode {
    if args.file.as_os_str() == "-" {
        let error = "--file: - is not allowed here; give a path: the manifest is followed while it runs";
        return failed(screen, args.output, error, ExitCode::from(USAGE));
    }
    let (text, cluster) = match read(&args.file) {
        Ok(read) => read,
        Err(error) => return failed(screen, args.output, &error.to_string(), ExitCode::from(USAGE)),
    };
    if cluster.spec.rollout.supervised {
        screen.note("wscluster local: spec.rollout.supervised needs Kubernetes; each step goes on by itself");
    }
    let given = Given { port: args.port.is_some(), brokers: !args.brokers.is_empty() };
    let port = args.port.unwrap_or(cluster.spec.gateway.service.port);
    let above = if port == 0 { 0 } else { port.checked_add(1).unwrap_or(0) };
    let admin_port = args.admin_port.unwrap_or(above);
    if admin_port == port && port != 0 {
        let error = format!(
            "--admin-port {port} is the port of the clients too (--port, or spec.gateway.service.port); choose another one, \
             or 0 for any free one"
        );
        return failed(screen, args.output, &error, ExitCode::from(USAGE));
    }
    let format = log.log_format.to_possible_value().expect("no value is skipped");
    let job = Job {
        cluster,
        text,
        file: args.file,
        given,
        host: args.host,
        port,
        admin_port,
        brokers: args.brokers,
        demo: args.demo,
        grace: args.grace.0,
        log: vec!["--log".into(), (&log.log).into(), "--log-format".into(), format.get_name().into()],
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = match runtime {
        Ok(runtime) => runtime.block_on(run::run(job, screen)),
        Err(error) => Err(error.into()),
    };
    match ended {
        Ok(Ended::Well) => ExitCode::SUCCESS,
        Ok(Ended::Killed) => ExitCode::FAILURE,
        Ok(Ended::AtOnce) => ExitCode::from(INTERRUPTED),
        Err(error) => {
            let is_usage = matches!(error, RunError::NoDemoTopic | RunError::DemoOnRealBrokers(_) | RunError::Kafka(_));
            let code = if is_usage { ExitCode::from(USAGE) } else { ExitCode::FAILURE };
            failed(screen, args.output, &fds::explain(&error), code)
        }
    }
}

/// The text of the manifest, and what it says.
fn read(path: &Path) -> Result<(String, WsCluster), ManifestError> {
    let text = std::fs::read_to_string(path).map_err(|source| ManifestError::Read { path: path.into(), source })?;
    let cluster = manifest::parse(&text, path)?;
    Ok((text, cluster))
}

fn failed(screen: &mut Screen, output: Output, error: &str, code: ExitCode) -> ExitCode {
    screen.close();
    if output == Output::Json {
        screen.event(&Event::Failed { error: error.to_owned() });
    }
    report(error);
    code
}
