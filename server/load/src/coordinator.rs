//! Coordinates a run: starts the workers, the reader and the publisher of the topic, starts and ends the hold, ends
//! early on Ctrl-C, and builds the report.

use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::interval;
use wscluster_runtime::args::Output;

use super::fleet::{Fleet, FleetError};
use super::ground_truth::{Findings, GroundTruth};
use super::progress::Progress;
use super::report::{AuditReport, BUSY_PERCENT, GeneratorReport, Report};
use super::stats::ThreadTime;
use super::topic::{Follower, Publisher, Topic, TopicError};
use super::worker::{Snapshot, WorkerOutcome};
use super::worker_plan::{Control, WorkerPlan, unix_now};

/// A checked run.
#[derive(Clone, Debug)]
pub(super) struct Run {
    /// Plan of the workers; `start` is set here.
    pub(super) plan: WorkerPlan,
    /// Number of processes.
    pub(super) processes: u32,
    /// The topic that feeds the channels.
    pub(super) topic: Option<Topic>,
    /// Records published per second; 0 for none.
    pub(super) publish_rate: f64,
    /// Publish only during the hold.
    pub(super) publish_in_hold: bool,
    /// A client need not receive records published less than this before it left.
    pub(super) tail: Duration,
    /// Form of the progress; `None` for no progress.
    pub(super) progress: Option<Output>,
}

/// A run failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum RunError {
    /// The workers failed.
    #[error(transparent)]
    Fleet(#[from] FleetError),
    /// The topic cannot be used.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// Signal handlers could not be installed.
    #[error("failed to listen for signals: {0}")]
    Signals(std::io::Error),
}

/// Time to start the threads, and again for each member process.
const HEAD_START: Duration = Duration::from_millis(100);

/// Performs `run`. `on_hold` is called when all clients have connected or failed, and again at the end of the hold.
pub(super) async fn coordinate(run: &Run, mut on_hold: impl FnMut(Mark)) -> Result<Report, RunError> {
    let mut signals = Signals::listen().map_err(RunError::Signals)?;
    let follower = run.topic.as_ref().map(Topic::follow).transpose()?;
    let publishing = run.topic.as_ref().filter(|_| run.publish_rate > 0.0);
    let publisher = publishing.map(|topic| topic.publish(run.publish_rate, run.plan.payload)).transpose()?;
    let head_start = HEAD_START * (1 + run.processes);
    let plan = WorkerPlan { start: unix_now() + head_start.as_nanos() as u64, ..run.plan.clone() };
    let mut fleet = Fleet::start(&plan, run.processes)?;
    let started = Instant::now() + head_start;
    publisher.iter().filter(|_| !run.publish_in_hold).for_each(Publisher::begin);

    let mut control = Control::default();
    let mut progress = Progress::start(plan.schedule.clients, run.progress);
    let mut load = Load::new(run);
    let mut ticks = interval(Duration::from_millis(200));
    let mut sum = WorkerOutcome::default();
    let (mut held, mut hold_over) = (None, false);
    loop {
        tokio::select! {
            done = fleet.next_done() => match done {
                Some(outcome) => sum.merge(outcome?),
                None => break,
            },
            () = signals.next() => {
                if control.stop {
                    // The second signal ends the process at once, without a result.
                    wscluster_runtime::logs::flush();
                    std::process::exit(3);
                }
                control.stop = true;
                fleet.control(control);
            }
            _ = ticks.tick() => {
                let snapshot = fleet.snapshot();
                load.watch(&snapshot);
                if held.is_none() && snapshot.counts.resolved >= u64::from(plan.schedule.clients) {
                    held = Some(Instant::now());
                    control.hold = Some(unix_now());
                    fleet.control(control);
                    publisher.iter().filter(|_| run.publish_in_hold).for_each(Publisher::begin);
                    on_hold(Mark::Begin);
                }
                if !hold_over && (control.stop || held.is_some_and(|held| held.elapsed() >= plan.schedule.hold)) {
                    hold_over = true;
                    publisher.iter().for_each(Publisher::stop);
                    on_hold(Mark::End);
                }
                let phase = match (control.stop, held, hold_over) {
                    (true, ..) => "stopping",
                    (_, None, _) => "connecting",
                    (_, _, false) => "holding",
                    (_, _, true) => "leaving",
                };
                progress.show(&snapshot, phase, publisher.as_ref().map(Publisher::counts));
            }
        }
    }
    progress.finish();
    let ended = Instant::now();
    let publisher = publisher.map(Publisher::finish).transpose()?;
    // Most of the result does not need the topic, so a failure here does not discard the run.
    let (truth, not_compared) = match follower.map(Follower::finish).transpose() {
        Ok(truth) => (truth, None),
        Err(error) => (None, Some(error.to_string())),
    };
    let compared = truth.map(|truth| compare(&truth, &sum, run.tail));
    let audit = AuditReport { not_compared, ..AuditReport::new(&sum.stats, compared) };
    let late = sum.stats.latencies.late.summary();
    let report = Report {
        targets: plan.targets.iter().map(|target| target.endpoint.to_string()).collect(),
        seconds: ended.saturating_duration_since(started).as_secs_f64(),
        ramp_seconds: held.unwrap_or(ended).saturating_duration_since(started).as_secs_f64(),
        interrupted: control.stop,
        planned: u64::from(plan.schedule.clients),
        audit,
        publisher,
        generator: GeneratorReport::judge(run.processes, &sum.threads, late, load.saturated.as_secs()),
        ..Report::default()
    };
    Ok(report.count(sum.stats))
}

/// Marks in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// All clients have connected or failed.
    Begin,
    /// The hold is over; clients still wait for the last records.
    End,
}

fn compare(truth: &GroundTruth, sum: &WorkerOutcome, tail: Duration) -> (Findings, u64) {
    let mut all = Findings::default();
    for log in &sum.logs {
        let found = truth.compare(log, tail);
        all.expected += found.expected;
        all.lost += found.lost;
        all.declared_lost += found.declared_lost;
        all.mismatched += found.mismatched;
    }
    (all, truth.len())
}

/// How busy this tester is, second by second.
struct Load {
    workers: u32,
    last: (Instant, ThreadTime),
    saturated: Duration,
}

impl Load {
    fn new(run: &Run) -> Self {
        let workers = run.plan.threads * run.processes.max(1);
        Self { workers, last: (Instant::now(), ThreadTime::default()), saturated: Duration::ZERO }
    }

    fn watch(&mut self, snapshot: &Snapshot) {
        let window = self.last.0.elapsed();
        if window < Duration::from_secs(1) {
            return;
        }
        let busy = snapshot.time.busy.saturating_sub(self.last.1.busy);
        if 100.0 * busy.as_secs_f64() >= BUSY_PERCENT * window.as_secs_f64() * f64::from(self.workers) {
            self.saturated += window;
        }
        self.last = (Instant::now(), snapshot.time);
    }
}

/// SIGINT and SIGTERM.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
