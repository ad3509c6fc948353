//! `wscluster gateway`: the order of starting, and the end.

use std::net::TcpListener;
use std::process::ExitCode;
use std::sync::{Arc, atomic::Ordering::Relaxed};
use std::time::Instant;

use wscluster_admin::drain::drain_routes;
use wscluster_api::manifest::{self, ManifestError};
use wscluster_routing::member;
use wscluster_runtime::critical_task::critical;
use wscluster_runtime::drain::Drains;
use wscluster_runtime::exit::{FAILED, USAGE, fail};
use wscluster_runtime::fds::{Budget, explain};
use wscluster_runtime::shutdown::{StopReason, drain_to_the_end, wait_for_stop};
use wscluster_runtime::sockets::{ListenError, Share};
use wscluster_runtime::{process, socket_activation, sockets};

use super::args::Args;
use super::discovery::{self, Discovery, DiscoveryError};
use super::gateway::Gateway;
use super::settings::Settings;
use super::stage::Stage;
use super::{master, members, metrics, poll, ports, status, tunnel, worker};

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
    #[error("--source-address {0}: {1}; it must be an address of this machine")]
    SourceAddress(std::net::IpAddr, #[source] std::io::Error),
    #[error("failed to start: {0}")]
    Start(#[from] std::io::Error),
    #[error("failed: a worker or another critical task has ended, see the log")]
    CriticalTask,
    #[error(transparent)]
    Names(#[from] member::MembersError),
    #[error(transparent)]
    Members(#[from] members::MembersError),
}

/// Runs a gateway until it has drained, or has failed.
#[expect(clippy::needless_pass_by_value, reason = "every subcommand owns its arguments")]
pub fn run(args: Args) -> ExitCode {
    match serve(&args) {
        Ok(code) => code,
        Err(error) => {
            let is_usage = matches!(
                error,
                GatewayError::Manifest(_)
                    | GatewayError::Names(_)
                    | GatewayError::Members(_)
                    | GatewayError::SourceAddress(..)
            );
            fail(if is_usage { USAGE } else { FAILED }, explain(&error))
        }
    }
}

fn serve(args: &Args) -> Result<ExitCode, GatewayError> {
    let mut settings = Settings::new(&manifest::read(&args.file)?.spec, args.drain_lag.0, args.log_handshakes);
    settings.source_addresses.clone_from(&args.source_address);
    for source in &args.source_address {
        ports::check(*source).map_err(|error| GatewayError::SourceAddress(*source, error))?;
    }
    member::check_names(&args.shards)?;
    let listeners = listeners(args, &settings)?;
    let bound = listeners[0].local_addr()?;
    if args.master {
        return Ok(master::run(listeners, args.exit_with_parent)?);
    }
    let listed = args.members.as_deref().map(members::read).transpose()?;
    let shards = listed.as_ref().map_or(&args.shards, |listed| &listed.members).clone();
    let gateway = Gateway::new(settings, Budget::of_this_process());

    let registry = metrics::registry(&gateway);
    let part = Arc::new(status::GatewayStatus::new(Arc::clone(&gateway)));
    let (drains, draining) = Drains::new(Arc::clone(&gateway), gateway.settings.drain.clone());
    let more = drain_routes(drains.clone());
    let admin = wscluster_admin::start(args.admin, part, Arc::new(registry), more, &args.access)?;

    // An event loop has three descriptors, and each may be replaced while the old one is open.
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
        return Err(GatewayError::CriticalTask);
    }
    for worker in workers {
        // A panic was reported when it happened.
        let _ = worker.join();
    }
    Ok(ExitCode::SUCCESS)
}

/// A listener for each worker: inherited ones, or new ones.
fn listeners(args: &Args, settings: &Settings) -> Result<Vec<TcpListener>, GatewayError> {
    let inherited = socket_activation::inherited(settings.pong_timeout)?;
    if !inherited.is_empty() {
        return Ok(inherited);
    }
    let is_shared = sockets::is_shared(args.listen);
    let listen = |addr| sockets::listen_for_clients(addr, Share::ReusePort, settings.pong_timeout);
    let first = listen(args.listen)?;
    if is_shared {
        tracing::info!(ws = %args.listen, "another gateway listens on this port too; the kernel divides the clients");
    }
    // For port 0 the kernel has chosen a port; the other workers share it.
    let bound = first.local_addr()?;
    let more = (1..workers(args, settings)).map(|_| listen(bound));
    Ok(std::iter::once(Ok(first)).chain(more).collect::<Result<_, _>>()?)
}

fn workers(args: &Args, settings: &Settings) -> u32 {
    args.workers.or(settings.workers).unwrap_or_else(process::default_workers).max(1)
}

/// Serves until there is a reason to stop, then until the drain is over. A failure ends the gateway without a drain,
/// because the failed task may be the one that moves the tunnels away.
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn gives_a_client_up_no_earlier_than_its_pong_timeout() {
        let command = ["gateway", "-f", "-", "--members", "none", "--listen", "127.0.0.1:0", "--workers", "2"];
        let args = Cli::parse_from(command).args;
        let settings = Settings { pong_timeout: Duration::from_mins(10), ..crate::tests::settings() };
        for listener in listeners(&args, &settings).unwrap() {
            let timeout = socket2::SockRef::from(&listener).tcp_user_timeout().unwrap();
            assert_eq!(timeout, Some(Duration::from_mins(10)));
        }
    }
}
