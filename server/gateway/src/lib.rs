//! The gateway: routes each upgrade to a shard with a free slot, then relays bytes and knows nothing more of them.
//!
//! It keeps no state that matters: any number of gateways may run side by side, start and end. The shard alone grants
//! slots; what a gateway believes about shards ([`table`]) only decides whom it asks first. `docs/handshake.md` draws
//! the way of a client through [`handshake`]; [`tunnel`] is the hot path.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, atomic::Ordering::Relaxed};
use std::time::Instant;

use prometheus_client::registry::Registry;
use wscluster_admin::drain::drain_routes;
use wscluster_api::manifest::{self, ManifestError};
use wscluster_api::units::Span;
use wscluster_routing::member::{self, Member};
use wscluster_runtime::critical_task::critical;
use wscluster_runtime::drain::Drains;
use wscluster_runtime::exit::{FAILED, USAGE, fail};
use wscluster_runtime::fds::{Budget, explain};
use wscluster_runtime::shutdown::{StopReason, drain_to_the_end, wait_for_stop};
use wscluster_runtime::sockets::{ListenError, Share};
use wscluster_runtime::{process, socket_activation, sockets};

use self::discovery::{Discovery, DiscoveryError, Service};
use self::state::{Gateway, Settings, Stage};

pub mod client;
pub mod dial;
pub mod discovery;
pub mod forward;
pub mod gauges;
pub mod handshake;
pub mod master;
pub mod members;
pub mod metrics;
pub mod outcome;
pub mod poll;
pub mod queue;
pub mod record;
pub mod registry;
pub mod socket;
pub mod state;
pub mod status;
pub mod tunnel;
pub mod worker;

#[cfg(test)]
mod tests;

const EXAMPLES: &str = "\
Examples:
  # shards by address
  wscluster gateway -f cluster.yaml --listen 0.0.0.0:8080 --admin 127.0.0.1:9090 \\
      --shard prices-0=127.0.0.1:8100,127.0.0.1:9100 \\
      --shard prices-1=127.0.0.1:8101,127.0.0.1:9101
  # shards behind a Kubernetes Service
  wscluster gateway -f cluster.yaml --discover default/prices-shards

The first line of standard output has the addresses. SIGTERM drains the gateway; a second one ends
it at once.
Exit codes: 0 ended on a signal, 1 did not start or failed, 2 wrong command line or manifest.";

/// Arguments of `wscluster gateway`.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES,
    group(clap::ArgGroup::new("source").required(true).args(["shards", "members", "discover"])))]
pub struct Args {
    /// WsCluster manifest; `-` is standard input.
    #[arg(short = 'f', long = "file", env = "WSCLUSTER_FILE", value_name = "FILE")]
    file: PathBuf,
    /// Address that clients connect to; several gateways may share the port.
    #[arg(long, env = "WSCLUSTER_LISTEN", default_value = "0.0.0.0:8080", value_name = "HOST:PORT")]
    listen: SocketAddr,
    /// Address of /health, /livez, /readyz, /metrics and /drain.
    #[arg(long, env = "WSCLUSTER_ADMIN", default_value = "0.0.0.0:9090", value_name = "HOST:PORT")]
    admin: SocketAddr,
    /// Name, WebSocket address and admin address of a shard; repeatable.
    #[arg(long = "shard", value_name = "NAME=WS_ADDR,ADMIN_ADDR")]
    shards: Vec<Member>,
    /// File with one `NAME=WS_ADDR,ADMIN_ADDR` per line, instead of --shard; edits apply while the gateway runs.
    #[arg(long, value_name = "FILE")]
    members: Option<PathBuf>,
    /// Kubernetes Service whose endpoints are the shards, by its ports `ws` and `admin`. The API server is that of the
    /// pod's service account, or of KUBECONFIG.
    #[arg(long, env = "WSCLUSTER_DISCOVER", value_name = "NAMESPACE/SERVICE")]
    discover: Option<Service>,
    /// Event loops, one thread each [default: spec.template.gateway.workers, or one per CPU].
    #[arg(long, env = "WSCLUSTER_WORKERS", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    workers: Option<u32>,
    /// Log every handshake with its phase times, not only failed ones.
    #[arg(long, env = "WSCLUSTER_LOG_HANDSHAKES")]
    log_handshakes: bool,
    /// Time between reporting not ready and refusing clients: a load balancer needs it to react.
    #[arg(long, env = "WSCLUSTER_DRAIN_LAG", default_value = "0s", value_name = "DURATION")]
    drain_lag: Span,
    /// Keep the listening sockets in this process and run the gateway in a child, as nginx and HAProxy do. When the
    /// child dies, the next one starts on the same sockets after 0.1 s, or later if it dies again and again. Clients
    /// that connect meanwhile wait instead of being refused.
    #[arg(long)]
    master: bool,
    /// End when standard input closes, as it does when the parent process ends.
    #[arg(long)]
    exit_with_parent: bool,
}

/// Why a gateway cannot run.
#[derive(Debug, thiserror::Error)]
enum GatewayError {
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    Admin(#[from] wscluster_admin::AdminError),
    #[error(transparent)]
    Discovery(#[from] DiscoveryError),
    #[error("failed to start: {0}")]
    Start(#[from] std::io::Error),
    #[error("failed: a worker or another vital part has ended, see the log")]
    Part,
    #[error(transparent)]
    Names(#[from] member::MembersError),
    #[error(transparent)]
    Members(#[from] members::MembersError),
}

/// Runs the part.
#[expect(clippy::needless_pass_by_value, reason = "every part is run with the arguments it owns")]
pub fn run(args: Args) -> ExitCode {
    match serve(&args) {
        Ok(code) => code,
        Err(error) => {
            let is_usage =
                matches!(error, GatewayError::Manifest(_) | GatewayError::Names(_) | GatewayError::Members(_));
            fail(if is_usage { USAGE } else { FAILED }, explain(&error))
        }
    }
}

fn serve(args: &Args) -> Result<ExitCode, GatewayError> {
    let settings = Settings::new(&manifest::read(&args.file)?.spec, args.drain_lag.0, args.log_handshakes);
    member::check_names(&args.shards)?;
    let listeners = listeners(args, &settings)?;
    let bound = listeners[0].local_addr()?;
    if args.master {
        return Ok(master::run(listeners, args.exit_with_parent)?);
    }
    let listed = args.members.as_deref().map(members::read).transpose()?;
    let shards = listed.as_ref().map_or(&args.shards, |listed| &listed.members).clone();
    let gateway = Gateway::new(settings, Budget::of_this_process());

    let mut registry = Registry::with_prefix("wscluster_gateway");
    gateway.metrics.register(&mut registry);
    registry.register_collector(Box::new(gauges::Gauges(Arc::clone(&gateway))));
    let part = Arc::new(status::GatewayStatus::new(Arc::clone(&gateway)));
    let (drains, draining) = Drains::new(Arc::clone(&gateway), gateway.settings.drain.clone());
    let more = drain_routes(drains.clone());
    let admin = wscluster_admin::start(args.admin, part, Arc::new(registry), more)?;

    // A worker's event loop has three descriptors, and each may be replaced while it is open.
    let discovering = if args.discover.is_some() { discovery::DESCRIPTORS } else { 0 };
    gateway.fds.settle(2 * 3 * listeners.len() + discovering);
    gateway.set_members(&shards);
    if let Some(service) = &args.discover {
        let discovery = Arc::new(Discovery::new(service.clone()));
        discovery::start(Arc::clone(&gateway), Arc::clone(gateway.discovery.get_or_init(|| discovery)))?;
    }
    poll::start(Arc::clone(&gateway))?;
    if let (Some(path), Some(listed)) = (&args.members, listed) {
        members::follow(Arc::clone(&gateway), path.clone(), listed)?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let workers = listeners
        .into_iter()
        .enumerate()
        .map(|(index, listener)| worker::start(Arc::clone(&gateway), listener, index))
        .collect::<Result<Vec<_>, _>>()?;
    let announce = || process::announce_listening(bound, admin);
    tracing::info!(ws = %bound, %admin, workers = workers.len(), shards = shards.len(),
        open_files_limit = gateway.fds.limit(), "gateway listens");

    runtime.spawn(critical(gateway.failing(), draining));
    runtime.block_on(until_drained(&gateway, &drains, args.exit_with_parent, announce))?;
    gateway.enter(Stage::Closing);
    if gateway.has_failed() {
        return Err(GatewayError::Part);
    }
    for worker in workers {
        // A worker that panicked has told so already.
        let _ = worker.join();
    }
    Ok(ExitCode::SUCCESS)
}

/// One for each worker: those that this process was started with, or its own.
fn listeners(args: &Args, settings: &Settings) -> Result<Vec<TcpListener>, GatewayError> {
    let inherited = socket_activation::inherited()?;
    if !inherited.is_empty() {
        return Ok(inherited);
    }
    let is_shared = sockets::is_shared(args.listen);
    let first = sockets::listen(args.listen, Share::ReusePort)?;
    if is_shared {
        tracing::info!(ws = %args.listen, "another gateway listens on this port too: each gets a share of the clients");
    }
    // With port 0 the kernel has chosen one, and the other workers share it.
    let bound = first.local_addr()?;
    let more = (1..workers(args, settings)).map(|_| sockets::listen(bound, Share::ReusePort));
    Ok(std::iter::once(Ok(first)).chain(more).collect::<Result<_, _>>()?)
}

fn workers(args: &Args, settings: &Settings) -> u32 {
    args.workers.or(settings.workers).unwrap_or_else(process::default_workers).max(1)
}

/// Serves until a reason to stop, then until the drain is over. A failure ends the gateway without a drain: its tunnels may
/// have lost the worker that would move them away.
async fn until_drained(
    gateway: &Gateway,
    drains: &Drains<Gateway>,
    watch_parent: bool,
    announce: impl FnOnce(),
) -> std::io::Result<()> {
    let reason = wait_for_stop(watch_parent, gateway.reached(Stage::Closing), announce).await?;
    if reason == StopReason::Failure {
        return Ok(());
    }
    let began = Instant::now();
    tracing::info!(?reason, tunnels = gateway.tunnels.load(Relaxed), "ending");
    drain_to_the_end(drains, reason, tunnel::LINGER, || gateway.is_drained()).await?;
    tracing::info!(tunnels = gateway.tunnels.load(Relaxed), took_ms = began.elapsed().as_millis() as u64, "closing");
    Ok(())
}
