//! Runs the operator, and ends it in the order in which nothing is left undone.
//!
//! SIGTERM or SIGINT: reconciles under way are finished, the lease is given up, the process ends. A second one ends it at once. A part
//! that ends by itself ends the process with an error: Kubernetes starts it anew.

mod args;
mod parts;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

pub use self::args::Args;
use self::parts::Parts;

/// Why the operator cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The runtime.
    #[error("failed to start the runtime: {0}")]
    Runtime(#[source] std::io::Error),
    /// The API server's address or the credentials for it.
    #[error("failed to find a cluster: {0}; set KUBECONFIG, or run in a pod with a service account")]
    Config(#[source] Box<kube::config::InferConfigError>),
    /// A client.
    #[error("failed to make a client for the API server: {0}")]
    Client(#[source] Box<kube::Error>),
    /// The admin port.
    #[error(transparent)]
    Admin(#[from] crate::admin::AdminError),
    /// Signals.
    #[error("failed to listen for signals: {0}")]
    Signal(#[source] std::io::Error),
    /// A part that must not end has ended.
    #[error("{0} ended by itself, which it never should")]
    Ended(&'static str),
}

/// Runs until a signal says to end.
pub fn run(args: Args) -> Result<(), RunError> {
    crate::telemetry::init(&args.log);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(RunError::Runtime)?;
    let result = runtime.block_on(until_signalled(args));
    // Whatever hangs now has had its time.
    runtime.shutdown_background();
    result
}

async fn until_signalled(args: Args) -> Result<(), RunError> {
    let mut signals = Signals::listen()?;
    let config = kube::Config::infer().await.map_err(|error| RunError::Config(Box::new(error)))?;
    let mut parts = Parts::start(args, config).await?;
    tokio::select! {
        signal = signals.next() => info!(signal, "ending"),
        part = parts.ended() => return Err(RunError::Ended(part)),
    }
    tokio::select! {
        () = parts.end() => info!("ended"),
        signal = signals.next() => warn!(signal, "ending at once"),
    }
    Ok(())
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> Result<Self, RunError> {
        let listen = |kind| signal(kind).map_err(RunError::Signal);
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
