//! The gateway: routes each upgrade to a shard with a free slot, then relays bytes and knows nothing more of them.
//!
//! It keeps no state that matters: any number of gateways may run side by side, start and end. The shard alone grants
//! slots; what a gateway believes about shards ([`table`]) only decides whom it asks first. `docs/handshake.md` draws
//! the way of a client through [`handshake`]; [`tunnel`] is the hot path.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::{Arc, atomic::Ordering::Relaxed};
use std::time::{Duration, Instant};

use prometheus_client::registry::Registry;
use wscluster_api::WsClusterSpec;
use wscluster_api::manifest::{self, ManifestError};

use crate::fds::{Budget, Permit};
use crate::net::{ListenError, Share};
use crate::process::Stop;
use crate::{admin, net, process};

use self::state::{Gateway, Settings, Stage};
use self::table::Member;

pub mod client;
pub mod dial;
pub mod forward;
pub mod gauges;
pub mod handshake;
pub mod metrics;
pub mod outcome;
pub mod pick;
pub mod poll;
pub mod queue;
pub mod record;
pub mod registry;
pub mod shard;
pub mod socket;
pub mod state;
pub mod status;
pub mod table;
pub mod tunnel;
pub mod worker;

#[cfg(test)]
mod tests;

/// Arguments.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  wscluster gateway -f cluster.yaml --listen 0.0.0.0:8080 --admin 127.0.0.1:9090 \\
      --shard prices-0=127.0.0.1:8100,127.0.0.1:9100 --shard prices-1=127.0.0.1:8101,127.0.0.1:9101

The first line on standard output says where it listens. SIGTERM drains, a second one ends at once.")]
pub struct Args {
    /// The WsCluster manifest.
    #[arg(short = 'f', long = "file", env = "WSCLUSTER_FILE", value_name = "FILE")]
    file: PathBuf,
    /// Where clients connect. Several gateways may share the port.
    #[arg(long, env = "WSCLUSTER_LISTEN", default_value = "0.0.0.0:8080", value_name = "HOST:PORT")]
    listen: SocketAddr,
    /// Where /health, /readyz, /livez and /metrics are.
    #[arg(long, env = "WSCLUSTER_ADMIN", default_value = "0.0.0.0:9090", value_name = "HOST:PORT")]
    admin: SocketAddr,
    /// A shard: its name, WebSocket address and admin address. Once per shard.
    #[arg(long = "shard", required = true, value_name = "NAME=WS_ADDR,ADMIN_ADDR")]
    shards: Vec<Member>,
    /// Event loops, one thread each. Default: the manifest's template.gateway.workers, else one per CPU.
    #[arg(long, env = "WSCLUSTER_WORKERS", value_parser = clap::value_parser!(u32).range(1..=256))]
    workers: Option<u32>,
    /// Log every handshake with its phase times, not only failed ones.
    #[arg(long, env = "WSCLUSTER_LOG_HANDSHAKES")]
    log_handshakes: bool,
    /// Seconds between turning not ready and closing the listener at SIGTERM: the time a load balancer needs to notice.
    #[arg(long, env = "WSCLUSTER_DRAIN_LAG", default_value = "0s", value_name = "DURATION")]
    drain_lag: wscluster_api::units::Span,
    /// End when standard input closes.
    #[arg(long)]
    exit_with_parent: bool,
}

impl FromStr for Member {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = || format!("{text:?} is not a shard; write NAME=HOST:PORT,HOST:PORT (WebSocket, then admin)");
        let (name, addresses) = text.split_once('=').ok_or_else(wanted)?;
        let (ws, admin) = addresses.split_once(',').ok_or_else(wanted)?;
        let address = |text: &str| text.trim().parse().map_err(|_| wanted());
        match name.trim() {
            "" => Err(wanted()),
            name => Ok(Self { name: name.to_owned(), ws: address(ws)?, admin: address(admin)? }),
        }
    }
}

/// Why a gateway cannot run.
#[derive(Debug, thiserror::Error)]
enum GatewayError {
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    Admin(#[from] admin::AdminError),
    #[error("failed to start: {0}")]
    Start(#[from] std::io::Error),
    #[error("failed: a worker has ended, see the log")]
    Worker,
    #[error("--shard names {0:?} twice; each shard has its own name")]
    Twice(String),
}

/// Runs the part.
#[expect(clippy::needless_pass_by_value, reason = "every part is run with the arguments it owns")]
pub fn run(args: Args) -> ExitCode {
    match serve(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(args: &Args) -> Result<(), GatewayError> {
    let spec = manifest::read(&args.file)?.spec;
    for (at, shard) in args.shards.iter().enumerate() {
        if args.shards[..at].iter().any(|other| other.name == shard.name) {
            return Err(GatewayError::Twice(shard.name.clone()));
        }
    }
    let gateway = Gateway::new(Settings::new(&spec, args.log_handshakes), Budget::of_this_process());
    gateway.table.set(&args.shards);

    let first = net::listen(args.listen, Share::ReusePort)?;
    // With port 0 the kernel has chosen one, and the other workers share it.
    let bound = first.local_addr()?;
    let mut listeners = vec![first];
    for _ in 1..workers(args, &spec) {
        listeners.push(net::listen(bound, Share::ReusePort)?);
    }
    let mut registry = Registry::with_prefix("wscluster_gateway");
    gateway.metrics.register(&mut registry);
    registry.register_collector(Box::new(gauges::Gauges(Arc::clone(&gateway))));
    let part = Arc::new(status::AdminPart::new(Arc::clone(&gateway)));
    let admin = admin::start(args.admin, part, Arc::new(registry), axum::Router::new())?;

    poll::start(Arc::clone(&gateway))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // A worker's event loop has three descriptors, a polled shard has one, and each may be replaced while it is open.
    gateway.fds.settle(2 * (3 * listeners.len() + args.shards.len()));
    warn_if_short(&gateway, spec.capacity, args.shards.len());
    let workers = listeners
        .into_iter()
        .enumerate()
        .map(|(index, listener)| worker::start(Arc::clone(&gateway), listener, index))
        .collect::<Result<Vec<_>, _>>()?;
    let announce = || process::announce_listening(bound, admin);
    tracing::info!(ws = %bound, %admin, workers = workers.len(), shards = args.shards.len(),
        open_files_limit = gateway.fds.limit(), "gateway listens");

    runtime.block_on(until_drained(&gateway, args, spec.drain.deadline.0, announce))?;
    gateway.enter(Stage::Closing);
    if gateway.has_failed() {
        return Err(GatewayError::Worker);
    }
    for worker in workers {
        // A worker that panicked has told so already.
        let _ = worker.join();
    }
    Ok(())
}

/// Where it is alone, or the others have ended, a gateway carries all that its shards hold.
fn warn_if_short(gateway: &Gateway, capacity: u32, shards: usize) {
    let tunnels = u64::try_from(gateway.fds.room() / Permit::TUNNEL).unwrap_or(0);
    let capacity = u64::from(capacity) * shards as u64;
    if tunnels < capacity {
        tracing::warn!(
            open_files_limit = gateway.fds.limit(),
            tunnels,
            capacity,
            "fewer tunnels may be open than the shards hold, and each takes two files: raise the limit (ulimit -n, \
             LimitNOFILE), or run more gateways"
        );
    }
}

fn workers(args: &Args, spec: &WsClusterSpec) -> u32 {
    let per_cpu = || std::thread::available_parallelism().map_or(1, |cpus| cpus.get() as u32);
    args.workers.or(spec.template.gateway.workers).unwrap_or_else(per_cpu).max(1)
}

/// Serves until told to stop, then until everything has ended, `deadline` is over, or told so again.
async fn until_drained(
    gateway: &Gateway,
    args: &Args,
    deadline: Duration,
    announce: impl FnOnce(),
) -> std::io::Result<()> {
    let announced = async {
        announce();
        std::future::pending::<std::convert::Infallible>().await
    };
    let reason = tokio::select! {
        // In this order: who reads the announcement may send a signal at once, and it must find its handler.
        biased;
        reason = process::stop_requested(args.exit_with_parent) => reason?,
        () = gateway.reached(Stage::Closing) => return Ok(()),
        never = announced => match never {},
    };
    let began = Instant::now();
    // A parent that is gone restarts nobody: clients should look elsewhere now.
    let (lag, deadline) = match reason {
        Stop::Signal => (args.drain_lag.0, deadline),
        Stop::Orphaned => (Duration::ZERO, Duration::ZERO),
    };
    gateway.enter(Stage::NotReady);
    tracing::info!(?reason, tunnels = gateway.tunnels.load(Relaxed), "draining");
    let drained = async {
        tokio::time::sleep(lag).await;
        gateway.enter(Stage::Draining);
        let mut look = tokio::time::interval(Duration::from_millis(50));
        while !gateway.is_idle() && began.elapsed() < deadline {
            look.tick().await;
        }
    };
    tokio::select! {
        () = drained => {}
        again = process::stop_requested(false) => drop(again?),
    }
    tracing::info!(tunnels = gateway.tunnels.load(Relaxed), took_ms = began.elapsed().as_millis() as u64, "closing");
    Ok(())
}
