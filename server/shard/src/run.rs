//! `wscluster shard`: the command line, the start and the end of the process.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::builder::NonEmptyStringValueParser;
use prometheus_client::registry::Registry;
use wscluster_admin::Access;
use wscluster_admin::drain::{drain_routes, evict_route};
use wscluster_api::manifest::ManifestError;
use wscluster_kafka::Options;
use wscluster_runtime::exit::{FAILED, USAGE, fail};
use wscluster_runtime::fds::explain;
use wscluster_runtime::process::{announce_listening, default_workers};
use wscluster_runtime::shutdown::{DrainEnd, StopReason, drain_to_the_end, wait_for_stop};

use super::admin::Admin;
use super::server::Server;
use super::settings::{LINGER, Settings};
use super::source;
use super::source::NoSource;

const EXAMPLES: &str = "\
Examples:
  wscluster shard -f cluster.yaml --name prices-0
  # any free port, one event loop, other brokers than the manifest's
  wscluster shard -f cluster.yaml --listen 127.0.0.1:0 --brokers 127.0.0.1:9092 --workers 1
  # state, and a drain
  curl -s localhost:9090/health | jq .state
  curl localhost:9090/drain --json '{\"evictRate\": 100, \"deadline\": \"2m\"}'

SIGTERM drains the shard; a second one ends it at once.
Exit codes: 0 drained, 1 did not start, failed, or ended at once, 2 wrong command line or manifest.";

/// Arguments of `wscluster shard`.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// WsCluster manifest; `-` is standard input.
    #[arg(short = 'f', long = "file", env = "WSCLUSTER_FILE", value_name = "FILE")]
    file: PathBuf,
    /// Name of this shard in `/health`, in logs and in `hello` messages.
    #[arg(long, env = "WSCLUSTER_NAME", default_value = "shard-0")]
    name: String,
    /// Address that clients connect to; port 0 picks a free one.
    #[arg(long, env = "WSCLUSTER_LISTEN", default_value = "0.0.0.0:8080", value_name = "HOST:PORT")]
    listen: SocketAddr,
    /// Address of /health, /livez, /readyz, /metrics, /drain and /evict.
    #[arg(long, env = "WSCLUSTER_ADMIN", default_value = "0.0.0.0:9090", value_name = "HOST:PORT")]
    admin: SocketAddr,
    #[command(flatten)]
    access: Access,
    /// Kafka bootstrap addresses, instead of those in the manifest; separated by commas.
    #[arg(long, short, env = "WSCLUSTER_BROKERS", value_delimiter = ',', value_name = "HOST:PORT",
        value_parser = NonEmptyStringValueParser::new())]
    brokers: Vec<String>,
    /// Event loops, one thread each [default: spec.template.shard.workers, or one per CPU].
    #[arg(long, env = "WSCLUSTER_WORKERS", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    workers: Option<u32>,
    /// Also serve /echo, for conformance tests and benchmarks.
    #[arg(long)]
    echo: bool,
    /// Log every handshake, not only failed ones.
    #[arg(long)]
    log_handshakes: bool,
    /// Value that differs with every start [default: random].
    #[arg(long, env = "WSCLUSTER_INCARNATION", value_name = "TEXT")]
    incarnation: Option<String>,
    /// Revision of the manifest that this shard runs, as /health reports it.
    #[arg(long, env = "WSCLUSTER_REVISION", default_value = "", value_name = "TEXT")]
    revision: String,
    /// End when standard input closes, as it does when the parent process ends.
    #[arg(long)]
    exit_with_parent: bool,
}

/// Runs a shard until a signal has drained it.
pub fn run(args: Args) -> ExitCode {
    match start(args) {
        Ok(code) => code,
        Err(error) => {
            let is_usage = error.is::<ManifestError>() || error.downcast_ref().is_some_and(NoSource::is_usage);
            fail(if is_usage { USAGE } else { FAILED }, explain(&*error))
        }
    }
}

fn start(args: Args) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let mut settings = Settings::new(&args.name, &wscluster_api::manifest::read(&args.file)?.spec);
    settings.echo = args.echo;
    settings.log_handshakes = args.log_handshakes;
    settings.revision = args.revision;
    if let Some(incarnation) = args.incarnation {
        settings.incarnation = incarnation;
    }
    let workers = args.workers.or(settings.workers).unwrap_or_else(default_workers).max(1);
    let files = wscluster_runtime::sockets::raise_open_files();
    if files < u64::from(settings.capacity) + 64 {
        tracing::warn!(
            open_files_limit = files,
            capacity = settings.capacity,
            "fewer files may be open than connections held: raise the limit (ulimit -n, LimitNOFILE) or lower capacity"
        );
    }

    // This thread runs the drain and the signals; workers and admin server have their own threads.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut registry = Registry::default();
        let kafka = settings.source.clone();
        let mut server = Server::start(settings, args.listen, workers as usize, &mut registry)?;
        let options = Options {
            brokers: args.brokers,
            client: format!("wscluster-{}", args.name),
            // A larger value exceeds the queue of every client.
            max_value_bytes: server.shared.settings.max_queue(),
            broken: server.shared.broken(),
            ..Options::default()
        };
        let feeds = std::mem::take(&mut server.feeds);
        let source = source::start(&kafka, &options, args.echo, feeds, &mut registry, &server.shared.backfill)?;
        let part = Admin::new(Arc::clone(&server.shared), source);
        let more = drain_routes(server.drains.clone()).merge(evict_route(server.drains.clone()));
        let admin = wscluster_admin::start(args.admin, Arc::new(part), Arc::new(registry), more, &args.access)?;
        // Reserves descriptors of event loops that are still starting, and of connections to brokers.
        server.shared.slots.fds().settle(3 * workers as usize + 8);
        let announce = || {
            announce_listening(server.addr, admin);
            tracing::info!(shard = args.name, ws = %server.addr, %admin, workers, "listening");
        };
        Ok(end(&server, args.exit_with_parent, announce).await?)
    })
}

/// Serves until a reason to stop, then until the drain is over. A shard that lost a worker, or a thread that reads
/// Kafka, drains too, and then fails: only a new process brings the thread back.
async fn end(server: &Server, watch_parent: bool, announce: impl FnOnce()) -> std::io::Result<ExitCode> {
    let slots = &server.shared.slots;
    let reason = wait_for_stop(watch_parent, server.shared.broke(), announce).await?;
    match drain_to_the_end(&server.drains, reason, LINGER, || slots.used() == 0).await? {
        DrainEnd::Over => {
            tracing::info!(left = slots.used(), "drained");
            Ok(if reason == StopReason::Failure { ExitCode::FAILURE } else { ExitCode::SUCCESS })
        }
        DrainEnd::Interrupted => {
            tracing::warn!(cut = slots.used(), "second signal: ending at once");
            Ok(ExitCode::FAILURE)
        }
    }
}
