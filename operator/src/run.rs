//! Runs the operator until a signal, and then stops it gracefully.
//!
//! On SIGTERM or SIGINT, running reconciles are completed, then the lease is released, and the process ends. A second
//! signal ends it at once. If a task ends unexpectedly, the process ends with an error, and Kubernetes restarts it.

mod args;
mod tasks;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

pub use self::args::Args;
use self::tasks::Tasks;

/// The operator cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The async runtime cannot be started.
    #[error("failed to start the runtime: {0}")]
    Runtime(#[source] std::io::Error),
    /// There is no address of an API server, or no valid credentials.
    #[error("failed to find a Kubernetes cluster: {0}; set KUBECONFIG, or run in a pod with a service account")]
    Config(#[source] Box<kube::config::InferConfigError>),
    /// The Kubernetes client cannot be created.
    #[error("failed to create a client for the API server: {0}")]
    Client(#[source] Box<kube::Error>),
    /// The admin port cannot be opened.
    #[error(transparent)]
    Admin(#[from] crate::admin::AdminError),
    /// Signals cannot be received.
    #[error("failed to listen for signals: {0}")]
    Signal(#[source] std::io::Error),
    /// A task has ended that never should.
    #[error("{0} ended unexpectedly")]
    Ended(&'static str),
}

/// Runs until a signal.
pub fn run(args: Args) -> Result<(), RunError> {
    crate::telemetry::init(&args.log);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(RunError::Runtime)?;
    let result = runtime.block_on(until_signalled(args));
    // Do not wait for tasks that hang.
    runtime.shutdown_background();
    result
}

async fn until_signalled(args: Args) -> Result<(), RunError> {
    let mut signals = Signals::listen()?;
    let config = kube::Config::infer().await.map_err(|error| RunError::Config(Box::new(error)))?;
    let mut tasks = Tasks::start(args, config).await?;
    tokio::select! {
        signal = signals.next() => info!(signal, "stopping"),
        task = tasks.ended() => return Err(RunError::Ended(task)),
    }
    tokio::select! {
        () = tasks.end() => info!("stopped"),
        signal = signals.next() => warn!(signal, "stopping at once"),
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
