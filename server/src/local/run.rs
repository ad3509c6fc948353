//! One run from its first port to its last process. Decides what the reports of the supervisors mean; whatever way it ends, no
//! child is left.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch as orders};
use tokio::task::JoinSet;
use wscluster_api::WsCluster;

use super::demo::{Demo, DemoError};
use super::event::{Event, millis};
use super::front::{self, PageLink, Restarts};
use super::plan::{Setting, plan};
use super::ports::PortError;
use super::ready::{About, Ready};
use super::sample::{Sample, sample};
use super::screen::Screen;
use super::stop::{self, Signals};
use super::supervise::{Order, Report, keep};
use super::traffic::{Counters, Rates};
use super::watch::{self, Shared, with};
use super::{
    board::Board,
    broker::{Broker, BrokerError},
};
use crate::admin::AdminError;
use crate::health::Status;

/// What to run.
#[derive(Debug)]
pub struct Job {
    /// The manifest.
    pub cluster: WsCluster,
    /// Its file.
    pub file: PathBuf,
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
    Port(#[from] PortError),
    /// The admin port.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The embedded broker.
    #[error(transparent)]
    Broker(#[from] BrokerError),
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

/// Time between two rounds of health questions.
const ROUND: Duration = Duration::from_millis(250);
/// Time after which a start that takes long is explained, and again.
const EXPLAIN: Duration = Duration::from_secs(10);

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
    let front = SocketAddr::new(job.host, job.port);
    let setting = |brokers| Setting {
        executable: std::env::current_exe().unwrap_or_else(|_| "/proc/self/exe".into()),
        manifest: &job.file,
        front,
        brokers,
        log: job.log.clone(),
    };
    let broker = if named.is_empty() { Some(Broker::start(kafka)?) } else { None };
    let bootstrap = broker.as_ref().map_or_else(|| named.join(","), |broker| broker.bootstrap().to_owned());
    let overridden = (broker.is_some() || !job.brokers.is_empty()).then(|| bootstrap.clone());
    let plan = plan(&job.cluster, &setting(overridden))?;
    let board: Shared = Arc::new(Mutex::new(Board::new(&plan.children, job.cluster.spec.capacity)));
    let gateway = reachable(plan.front.addr());
    let page = PageLink {
        ws: format!("ws://{gateway}/ws"),
        channels: sample.as_ref().map_or_else(Vec::new, |sample| sample.channels.clone()),
    };
    let (admin, restarts) = front::start(SocketAddr::new(job.host, job.admin_port), Arc::clone(&board), &page)?;

    let (orders, _) = orders::channel(Order::Run);
    let (reports, receiver) = mpsc::channel(1_024);
    let mut run = Run { screen, board, orders, reports: receiver, restarts, children: JoinSet::new() };
    for child in &plan.children {
        let (program, reports, order) = (child.program.clone(), reports.clone(), run.orders.subscribe());
        run.children.spawn(async move {
            let name = program.name.clone();
            (name, keep(program, reports, order).await)
        });
    }
    drop(reports);
    let ticks = ticker(Arc::clone(&run.board));
    let about = About {
        name: job.cluster.metadata.name.clone().unwrap_or_default(),
        capacity: job.cluster.spec.capacity,
        embedded: broker.is_some(),
        demo: job.demo,
        sample,
    };
    let addresses = Addresses { gateway, admin: reachable(admin), kafka: bootstrap };
    let outcome = run.serve(&job, ticks, &mut signals, about, addresses).await;
    match outcome {
        Ok(reason) => Ok(run.stop(&job, &mut signals, reason).await),
        Err(error) => {
            run.end(Duration::from_secs(1), &mut signals).await;
            Err(error)
        }
    }
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

/// Asks for health all the time and for rates about once a second.
fn ticker(board: Shared) -> mpsc::Receiver<Option<Rates>> {
    let (ticks, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut counters: Option<(Instant, Counters)> = None;
        loop {
            watch::round(&board).await;
            let due = counters.as_ref().is_none_or(|(at, _)| at.elapsed() >= Duration::from_secs(1));
            let mut rates = None;
            if due {
                let now = watch::counters(&board).await;
                rates = Some(counters.map_or_else(Rates::default, |(_, before)| now.since(&before)));
                counters = Some((Instant::now(), now));
            }
            if ticks.send(rates).await.is_err() {
                return;
            }
            tokio::time::sleep(ROUND).await;
        }
    });
    receiver
}

struct Run<'a> {
    screen: &'a mut Screen,
    board: Shared,
    orders: orders::Sender<Order>,
    reports: mpsc::Receiver<Report>,
    restarts: Restarts,
    children: JoinSet<(Arc<str>, bool)>,
}

impl Run<'_> {
    /// From the first start to the signal that ends the run.
    async fn serve(
        &mut self,
        job: &Job,
        mut ticks: mpsc::Receiver<Option<Rates>>,
        signals: &mut Signals,
        about: About,
        at: Addresses,
    ) -> Result<&'static str, RunError> {
        let mut pending = Some((about, at));
        let mut demo = None;
        let mut status = Status::Healthy;
        let mut explained = Instant::now();
        loop {
            tokio::select! {
                Some(report) = self.reports.recv() => self.note(report, pending.is_none())?,
                reason = signals.next() => return Ok(reason),
                Some(rates) = ticks.recv() => {
                    let (now, reasons) = with(&self.board, |board| (board.status(), board.reasons()));
                    if pending.is_none() {
                        if now != status {
                            status = now;
                            self.screen.event(&Event::Status { status, reasons });
                        }
                        if let Some(rates) = rates {
                            let board = Arc::clone(&self.board);
                            with(&board, |board| self.screen.state(board, rates));
                        }
                    } else if now == Status::Healthy && let Some((about, at)) = pending.take() {
                        if let (true, Some(Sample { topic, .. })) = (job.demo, &about.sample) {
                            demo = Some(Demo::start(&at.kafka, topic)?);
                        }
                        let ready = with(&self.board, |board| {
                            Ready::new(board, at.gateway, at.admin, at.kafka, about)
                        });
                        self.screen.ready(&ready);
                    } else if explained.elapsed() >= EXPLAIN {
                        explained = Instant::now();
                        self.screen.note(&format!("wscluster local: not ready yet: {}", reasons.join("; ")));
                    }
                    let _ = &demo;
                }
            }
        }
    }

    /// Takes note of a report; an error when the run cannot start for it.
    fn note(&mut self, report: Report, ready: bool) -> Result<(), RunError> {
        let event = match report {
            Report::Log { name, line, dropped } => {
                self.screen.log(&name, &line, dropped);
                return Ok(());
            }
            Report::NeverListened { name, how, log } => return Err(RunError::Child { name, how, log }),
            Report::Event(event) => event,
        };
        match &event {
            Event::Started(at) => with(&self.board, |board| board.listens(at)),
            Event::Restarted(at) => {
                with(&self.board, |board| board.listens(at));
                self.restarts.get_or_create(&[("child", at.name.to_string())]).inc();
            }
            Event::Exited { name, .. } => with(&self.board, |board| board.ended(name)),
            _ => {}
        }
        match event {
            Event::Started(_) => {}
            // Programs get the ready line first: what happens before it is for people.
            event if !ready => self.screen.note(&format!("wscluster local: {event}")),
            event => self.screen.event(&event),
        }
        Ok(())
    }

    /// Moves connections away, then ends everything, within the grace period.
    async fn stop(&mut self, job: &Job, signals: &mut Signals, reason: &'static str) -> Ended {
        let end = Instant::now() + job.grace;
        let connections = with(&self.board, |board| board.connections());
        self.screen.event(&Event::Stopping { reason, connections, grace_ms: millis(job.grace) });
        let board = Arc::clone(&self.board);
        let drained = self.until(stop::drain(&board, &job.cluster.spec.drain, job.grace), signals).await;
        let Some(left) = drained else {
            return self.end_at_once(connections).await;
        };
        let (killed, at_once) = self.end(end.saturating_duration_since(Instant::now()), signals).await;
        self.screen.event(&Event::Stopped { left, killed: killed.clone() });
        match (at_once, killed.is_empty()) {
            (true, _) => Ended::AtOnce,
            (false, true) => Ended::Well,
            (false, false) => Ended::Killed,
        }
    }

    async fn end_at_once(&mut self, left: u64) -> Ended {
        let mut killed = Vec::new();
        self.orders.send_replace(Order::Kill);
        while let Some(Ok((name, was_killed))) = self.children.join_next().await {
            killed.extend(was_killed.then_some(name));
        }
        self.screen.event(&Event::Stopped { left, killed });
        Ended::AtOnce
    }

    /// Tells all children to end, kills what has not `within` that time or at a signal; says which, and whether by a signal.
    async fn end(&mut self, within: Duration, signals: &mut Signals) -> (Vec<Arc<str>>, bool) {
        self.orders.send_replace(Order::End);
        let mut killed = Vec::new();
        let mut at_once = false;
        // Never less than a moment: a child needs some time to end even when moving its connections took all of it.
        let deadline = tokio::time::sleep(within.max(Duration::from_millis(500)));
        tokio::pin!(deadline);
        loop {
            tokio::select! {
                child = self.children.join_next() => match child {
                    Some(Ok((name, was_killed))) => killed.extend(was_killed.then_some(name)),
                    Some(Err(_)) => {}
                    None => return (killed, at_once),
                },
                Some(report) = self.reports.recv() => self.note_late(report),
                () = &mut deadline, if *self.orders.borrow() != Order::Kill => {
                    self.orders.send_replace(Order::Kill);
                }
                _ = signals.next() => {
                    at_once = true;
                    self.orders.send_replace(Order::Kill);
                }
            }
        }
    }

    /// Runs `work` to its end while reports are taken; none when a signal comes first.
    async fn until<T>(&mut self, work: impl Future<Output = T>, signals: &mut Signals) -> Option<T> {
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return Some(done),
                Some(report) = self.reports.recv() => self.note_late(report),
                _ = signals.next() => return None,
            }
        }
    }

    fn note_late(&mut self, report: Report) {
        // While the run ends, a child that did not start is no news.
        let _ = self.note(report, true);
    }
}
