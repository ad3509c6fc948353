//! One run of `wscluster local`: takes the ports, starts broker, admin server and children, and hands over to the
//! event loop. However a run ends, it leaves no child behind.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;
use wscluster_admin::client::AdminClient;
use wscluster_admin::{AdminError, AdminHosts};
use wscluster_api::WsCluster;
use wscluster_kafka::SourceError;
use wscluster_kafka::embedded::{Embedded, EmbeddedError};
use wscluster_runtime::sockets::ListenError;

use super::admin;
use super::demo::{Demo, DemoError};
use super::edit_rules::Overrides;
use super::event::StopSignal;
use super::event_loop::EventLoop;
use super::fleet::{Fleet, FleetError};
use super::health_poller;
use super::manifest_watcher;
use super::page::PageLink;
use super::program::ProgramBuilder;
use super::ready_message::{ReadyDetails, ReadyMessage};
use super::reconciler::Reconciler;
use super::reserved_ports::ReservedPort;
use super::run_folder::RunFolder;
use super::sample::{Sample, sample};
use super::screen::Screen;
use super::shutdown::Signals;
use super::state::{RunState, SharedState, with};

/// What to run, from the command line and the manifest.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) cluster: WsCluster,
    pub(crate) manifest: ManifestSource,
    pub(crate) overrides: Overrides,
    /// Address of the gateways and of the admin server.
    pub(crate) host: IpAddr,
    /// Port of the gateways; 0 picks a free one.
    pub(crate) port: u16,
    /// Port of the admin server; 0 picks a free one.
    pub(crate) admin_port: u16,
    /// Other names of the admin server.
    pub(crate) hosts: AdminHosts,
    /// Brokers instead of those of the manifest.
    pub(crate) brokers: Vec<String>,
    /// Whether to publish random trades.
    pub(crate) demo: bool,
    /// Time for connections to move away and processes to end.
    pub(crate) grace: Duration,
    /// Logging arguments of the children.
    pub(crate) log: Vec<OsString>,
}

/// Where the manifest was read from.
#[derive(Debug)]
pub(crate) enum ManifestSource {
    /// A file, which is followed for edits; with the text that was read from it.
    File { path: PathBuf, text: String },
    /// The quickstart manifest in this executable.
    BuiltIn,
}

/// Why a run could not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error(transparent)]
    Port(#[from] ListenError),
    #[error(transparent)]
    Fleet(#[from] FleetError),
    #[error(transparent)]
    Admin(#[from] AdminError),
    #[error(transparent)]
    Broker(#[from] EmbeddedError),
    /// librdkafka rejects a property of the manifest.
    #[error(transparent)]
    Kafka(#[from] SourceError),
    #[error(transparent)]
    Demo(#[from] DemoError),
    #[error(
        "failed to start the demo: spec.source.kafka.topics has no topic with a name and a channel without {{header:…}}; \
         add one such as {{ name: trades, channel: \"{{key}}.trade\" }}"
    )]
    NoDemoTopic,
    #[error(
        "failed to start the demo: it publishes to the embedded broker only, but brokers are named ({0}); remove --demo, \
         or remove spec.source.kafka.brokers and --brokers"
    )]
    DemoOnRealBrokers(String),
    #[error("failed to prepare this process: {0}")]
    Process(#[from] std::io::Error),
    /// A child ended before it listened.
    #[error("failed to start {name}: {how}{}", log.iter().fold(String::new(), |text, line| text + "\n    " + line))]
    Child {
        name: Arc<str>,
        how: String,
        /// Its last log lines.
        log: Vec<String>,
    },
}

/// Time limit of an order to a child.
const CALL_TIMEOUT: Duration = Duration::from_secs(1);

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RunEnd {
    /// Every process ended by itself.
    Clean,
    /// A process had to be killed.
    Killed,
    /// A second signal ended it at once.
    Interrupted,
}

/// Runs until a signal, or returns why the run could not start.
pub(crate) async fn run(job: Job, screen: &mut Screen) -> Result<RunEnd, RunError> {
    let mut signals = Signals::new()?;
    let kafka = &job.cluster.spec.source.kafka;
    let brokers = if job.brokers.is_empty() { &kafka.brokers } else { &job.brokers };
    let sample = sample(&kafka.topics);
    match (job.demo, brokers.is_empty(), &sample) {
        (true, false, _) => return Err(RunError::DemoOnRealBrokers(brokers.join(","))),
        (true, true, None) => return Err(RunError::NoDemoTopic),
        _ => {}
    }
    wscluster_kafka::check(kafka)?;
    let gateway_port = ReservedPort::take(SocketAddr::new(job.host, job.port))?;
    let broker = if brokers.is_empty() { Some(Embedded::start(&kafka.topics)?) } else { None };
    let bootstrap = broker.as_ref().map_or_else(|| brokers.join(","), |broker| broker.bootstrap().to_owned());
    let folder = RunFolder::new().map_err(FleetError::from)?;
    let programs = ProgramBuilder {
        executable: std::env::current_exe().unwrap_or_else(|_| "/proc/self/exe".into()),
        brokers: (broker.is_some() || !job.brokers.is_empty()).then(|| bootstrap.clone()),
        log: job.log.clone(),
        token_file: folder.token_file(),
    };
    let state: SharedState = Arc::new(Mutex::new(RunState::new(job.cluster.spec.capacity)));
    let gateway = reachable(gateway_port.addr());
    let page = PageLink {
        ws: format!("ws://{gateway}/ws"),
        channels: sample.as_ref().map_or_else(Vec::new, |sample| sample.channels.clone()),
    };
    let at = SocketAddr::new(job.host, job.admin_port);
    let (admin, restarts) = admin::start(at, Arc::clone(&state), page, job.hosts.clone())?;

    let (reports, receiver) = mpsc::channel(1_024);
    let name = job.cluster.metadata.name.as_deref().unwrap_or("wscluster").to_owned();
    let (control, token_file) = (AdminClient::new(CALL_TIMEOUT).token(folder.token()), folder.token_file());
    let mut fleet = Fleet::new(name, programs, folder, gateway_port, Arc::clone(&state), restarts.clone(), reports)?;
    let embedded = broker.is_some();
    let reconciler = Reconciler::new(job.cluster.clone(), job.overrides, broker, Arc::clone(&state), control.clone());
    reconciler.start_all(&mut fleet)?;
    let addresses = RunAddresses { gateway, admin: reachable(admin), kafka: bootstrap, token_file };
    let edits = match &job.manifest {
        ManifestSource::File { path, text } => manifest_watcher::follow(path.clone(), text.clone())?,
        ManifestSource::BuiltIn => mpsc::channel(1).1,
    };
    let ticks = health_poller::start(Arc::clone(&state));
    let mut event_loop = EventLoop {
        screen,
        state,
        fleet,
        reconciler,
        edits,
        reports: receiver,
        restarts,
        ticks,
        control,
        is_ready: false,
    };
    match serve(&mut event_loop, &job, addresses, embedded, sample, &mut signals).await {
        Ok(reason) => Ok(event_loop.stop(job.grace, &mut signals, reason).await),
        Err(error) => {
            event_loop.end(Duration::from_secs(1), &mut signals).await;
            Err(error)
        }
    }
}

/// Waits until the run is ready, and serves until the signal that ends it.
async fn serve(
    event_loop: &mut EventLoop<'_>,
    job: &Job,
    at: RunAddresses,
    embedded: bool,
    sample: Option<Sample>,
    signals: &mut Signals,
) -> Result<StopSignal, RunError> {
    if let Some(reason) = event_loop.starting(signals).await? {
        return Ok(reason);
    }
    let _demo = match &sample {
        Some(Sample { topic, .. }) if job.demo => Some(Demo::start(&at.kafka, topic)?),
        _ => None,
    };
    let cluster = event_loop.reconciler.cluster();
    let details = ReadyDetails {
        name: cluster.metadata.name.clone().unwrap_or_default(),
        capacity: cluster.spec.capacity,
        embedded,
        demo: job.demo,
        sample,
        token_file: at.token_file,
    };
    let ready = with(&event_loop.state, |state| ReadyMessage::new(state, at.gateway, at.admin, at.kafka, details));
    event_loop.serving(&ready, signals).await
}

struct RunAddresses {
    gateway: String,
    admin: String,
    kafka: String,
    token_file: PathBuf,
}

/// An address that clients on this machine can connect to.
fn reachable(addr: SocketAddr) -> String {
    let ip = match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, addr.port()).to_string()
}
