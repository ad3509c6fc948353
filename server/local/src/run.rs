//! One run from its first port to its last process: what it needs in the right order, and that no child is left whatever way
//! it ends.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;
use wscluster_admin::AdminError;
use wscluster_api::WsCluster;
use wscluster_kafka::SourceError;
use wscluster_kafka::embedded::{Embedded, EmbeddedError};
use wscluster_runtime::sockets::ListenError;

use super::admin::{self, PageLink};
use super::demo::{Demo, DemoError};
use super::edit_rules::Given;
use super::event_loop::Drive;
use super::fleet::{Fleet, FleetError};
use super::health_poller::{Shared, ticker, with};
use super::manifest_watcher;
use super::program::Setting;
use super::ready_message::{About, Ready};
use super::reconciler::Course;
use super::reserved_ports::Reserved;
use super::sample::{Sample, sample};
use super::screen::Screen;
use super::shutdown::Signals;
use super::state::Board;

/// What to run.
#[derive(Debug)]
pub struct Job {
    /// The manifest.
    pub cluster: WsCluster,
    /// The text that it was read from.
    pub text: String,
    /// Its file.
    pub file: PathBuf,
    /// What the command line decides, whatever the manifest says.
    pub given: Given,
    /// Address of gateways and admin.
    pub host: IpAddr,
    /// Port of the gateways; 0 picks a free one.
    pub port: u16,
    /// Admin port; 0 picks a free one.
    pub admin_port: u16,
    /// Brokers instead of the manifest's.
    pub brokers: Vec<String>,
    /// Publish trades.
    pub demo: bool,
    /// Time for connections to move and processes to end.
    pub grace: Duration,
    /// Logging arguments of the children.
    pub log: Vec<OsString>,
}

/// Why a run cannot start.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A port.
    #[error(transparent)]
    Port(#[from] ListenError),
    /// The first children.
    #[error(transparent)]
    Fleet(#[from] FleetError),
    /// The admin port.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The embedded broker.
    #[error(transparent)]
    Broker(#[from] EmbeddedError),
    /// librdkafka refuses the manifest's properties.
    #[error(transparent)]
    Kafka(#[from] SourceError),
    /// The demo.
    #[error(transparent)]
    Demo(#[from] DemoError),
    /// The demo has nowhere to publish to.
    #[error(
        "failed to start the demo: spec.source.kafka.topics has no topic with a name and a channel without {{header:…}}; \
         add one such as {{ name: trades, channel: \"{{key}}.trade\" }}"
    )]
    NoDemoTopic,
    /// The demo would write into somebody's topics.
    #[error(
        "failed to start the demo: it publishes to the embedded broker only, but brokers are named ({0}); leave --demo away, \
         or leave spec.source.kafka.brokers and --brokers away"
    )]
    DemoOnRealBrokers(String),
    /// This process.
    #[error("failed to prepare this process: {0}")]
    Process(#[from] std::io::Error),
    /// A child ended before it listened.
    #[error("failed to start {name}: {how}{}", log.iter().fold(String::new(), |text, line| text + "\n    " + line))]
    Child {
        /// Its name.
        name: Arc<str>,
        /// How.
        how: String,
        /// Its last lines.
        log: Vec<String>,
    },
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Everything ended by itself.
    Well,
    /// Something had to be killed.
    Killed,
    /// A second signal cut it short.
    AtOnce,
}

/// Runs until a signal.
pub async fn run(job: Job, screen: &mut Screen) -> Result<Ended, RunError> {
    let mut signals = Signals::new()?;
    let kafka = &job.cluster.spec.source.kafka;
    let named = if job.brokers.is_empty() { &kafka.brokers } else { &job.brokers };
    let sample = sample(&kafka.topics);
    match (job.demo, named.is_empty(), &sample) {
        (true, false, _) => return Err(RunError::DemoOnRealBrokers(named.join(","))),
        (true, true, None) => return Err(RunError::NoDemoTopic),
        _ => {}
    }
    wscluster_kafka::check(kafka)?;
    let front = Reserved::take(SocketAddr::new(job.host, job.port))?;
    let broker = if named.is_empty() { Some(Embedded::start(&kafka.topics)?) } else { None };
    let bootstrap = broker.as_ref().map_or_else(|| named.join(","), |broker| broker.bootstrap().to_owned());
    let setting = Setting {
        executable: std::env::current_exe().unwrap_or_else(|_| "/proc/self/exe".into()),
        brokers: (broker.is_some() || !job.brokers.is_empty()).then(|| bootstrap.clone()),
        log: job.log.clone(),
    };
    let board: Shared = Arc::new(Mutex::new(Board::new(job.cluster.spec.capacity)));
    let gateway = reachable(front.addr());
    let page = PageLink {
        ws: format!("ws://{gateway}/ws"),
        channels: sample.as_ref().map_or_else(Vec::new, |sample| sample.channels.clone()),
    };
    let (admin, restarts) = admin::start(SocketAddr::new(job.host, job.admin_port), Arc::clone(&board), &page)?;
    let addresses = Addresses { gateway, admin: reachable(admin), kafka: bootstrap };

    let (reports, receiver) = mpsc::channel(1_024);
    let name = job.cluster.metadata.name.as_deref().unwrap_or("wscluster").to_owned();
    let mut fleet = Fleet::new(name, setting, front, Arc::clone(&board), restarts.clone(), reports)?;
    let embedded = broker.is_some();
    let course = Course::new(job.cluster.clone(), job.given, broker, Arc::clone(&board));
    course.begin(&mut fleet)?;
    let edits = manifest_watcher::follow(job.file.clone(), job.text.clone())?;
    let ticks = ticker(Arc::clone(&board));
    let mut drive = Drive { screen, board, fleet, course, edits, reports: receiver, restarts, ticks, is_ready: false };
    match serve(&mut drive, &job, addresses, embedded, sample, &mut signals).await {
        Ok(reason) => Ok(drive.stop(job.grace, &mut signals, reason).await),
        Err(error) => {
            drive.end(Duration::from_secs(1), &mut signals).await;
            Err(error)
        }
    }
}

/// From the first start to the signal that ends the run.
async fn serve(
    drive: &mut Drive<'_>,
    job: &Job,
    at: Addresses,
    embedded: bool,
    sample: Option<Sample>,
    signals: &mut Signals,
) -> Result<&'static str, RunError> {
    if let Some(reason) = drive.starting(signals).await? {
        return Ok(reason);
    }
    let _demo = match &sample {
        Some(Sample { topic, .. }) if job.demo => Some(Demo::start(&at.kafka, topic)?),
        _ => None,
    };
    let cluster = drive.course.cluster();
    let about = About {
        name: cluster.metadata.name.clone().unwrap_or_default(),
        capacity: cluster.spec.capacity,
        embedded,
        demo: job.demo,
        sample,
    };
    let ready = with(&drive.board, |board| Ready::new(board, at.gateway, at.admin, at.kafka, about));
    drive.serving(&ready, signals).await
}

struct Addresses {
    gateway: String,
    admin: String,
    kafka: String,
}

/// An address that a client of this machine can use.
fn reachable(addr: SocketAddr) -> String {
    let ip = match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, addr.port()).to_string()
}
