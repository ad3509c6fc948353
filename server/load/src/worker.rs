//! One thread with one event loop. It runs its share of the clients, each as a small task.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{interval, sleep_until};

use super::client::{early, live};
use super::failure::Failure;
use super::ground_truth::ClientLog;
use super::message::Reader;
use super::session::Session;
use super::stats::{Chain, Counts, Messages, Stats, ThreadTime, count};
use super::worker_plan::{Clock, Control, WorkerPlan};

/// How often a worker publishes its snapshot.
const SNAPSHOT: Duration = Duration::from_millis(200);

/// Counters of a worker while it runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Snapshot {
    /// Connections.
    pub(super) counts: Counts,
    /// Messages.
    pub(super) messages: Messages,
    /// Audit.
    pub(super) chain: Chain,
    /// CPU.
    pub(super) time: ThreadTime,
}

/// The result of a worker.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct WorkerOutcome {
    /// Counters and latencies.
    pub(super) stats: Stats,
    /// Log of each client, if the plan requires logs.
    pub(super) logs: Vec<ClientLog>,
    /// CPU time and run time of each thread.
    pub(super) threads: Vec<(ThreadTime, Duration)>,
}

/// A worker failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum WorkerError {
    /// The event loop could not be created.
    #[error("failed to start an event loop: {0}")]
    Runtime(std::io::Error),
    /// A client task panicked.
    #[error("failed to finish: an internal fault ended a client task")]
    Fault,
}

/// A client's log, and why the server ended the connection of a slow client.
type Left = (ClientLog, Option<Failure>);

/// State that the clients of one thread share.
pub(super) struct LoadWorker {
    /// The run.
    pub(super) plan: Arc<WorkerPlan>,
    /// Counters.
    pub(super) stats: RefCell<Stats>,
    /// Parses messages.
    pub(super) reader: RefCell<Reader>,
    /// Phase of the run.
    pub(super) control: watch::Receiver<Control>,
    /// Converts the time of the plan.
    pub(super) clock: Clock,
    logs: RefCell<Vec<ClientLog>>,
    /// Connections in their closing handshake, whose replacements already connect.
    leaving: RefCell<JoinSet<Left>>,
}

impl LoadWorker {
    /// Sleeps until `at`. Returns `false` if the run stopped or ended before.
    pub(super) async fn sleep_until(&self, at: Instant) -> bool {
        let mut control = self.control.clone();
        let over = control.wait_for(|control| control.stop);
        tokio::select! {
            biased;
            _ = over => false,
            () = sleep_until(at.into()) => !self.is_over(),
        }
    }

    fn is_over(&self) -> bool {
        let end = self.control.borrow().hold.map(|hold| self.clock.instant(hold) + self.plan.schedule.hold);
        end.is_some_and(|end| Instant::now() >= end + self.plan.linger)
    }

    /// Closes `session` with a closing handshake, in a task of its own.
    pub(super) fn let_go(&self, session: Session) {
        let mut leaving = self.leaving.borrow_mut();
        while let Some(Ok(left)) = leaving.try_join_next() {
            self.left(left);
        }
        leaving.spawn_local(session.leave());
    }

    /// Records the end of a connection.
    pub(super) fn left(&self, (log, slow_end): Left) {
        self.keep(log);
        if let Some(failure) = slow_end {
            count(&mut self.stats.borrow_mut().slow_ends, failure.to_string());
        }
    }

    /// Stores a client's log for the comparison with the topic.
    pub(super) fn keep(&self, log: ClientLog) {
        if self.plan.logs && !log.sessions.is_empty() {
            self.logs.borrow_mut().push(log);
        }
    }
}

/// Runs worker `slot` of the run on this thread until its clients have ended.
pub(super) fn run(
    plan: &Arc<WorkerPlan>,
    slot: u32,
    control: &watch::Receiver<Control>,
    shown: &Arc<Mutex<Snapshot>>,
) -> Result<WorkerOutcome, WorkerError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(WorkerError::Runtime)?;
    let began = Instant::now();
    let worker = Rc::new(LoadWorker {
        plan: Arc::clone(plan),
        stats: RefCell::default(),
        reader: RefCell::new(Reader::new(&plan.channels)),
        control: control.clone(),
        clock: Clock::start(),
        logs: RefCell::default(),
        leaving: RefCell::default(),
    });
    let show = || {
        let stats = worker.stats.borrow();
        let time = ThreadTime::of_this_thread().unwrap_or_default();
        let snapshot = Snapshot { counts: stats.counts, messages: stats.messages, chain: stats.chain, time };
        if let Ok(mut shown) = shown.lock() {
            *shown = snapshot;
        }
    };
    let finished = LocalSet::new().block_on(&runtime, async {
        let mut ticks = interval(SNAPSHOT);
        let mut clients = std::pin::pin!(clients(&worker, slot));
        loop {
            tokio::select! {
                finished = &mut clients => break finished,
                _ = ticks.tick() => show(),
            }
        }
    });
    show();
    drop(runtime);
    let time = ThreadTime::of_this_thread().unwrap_or_default();
    let worker = Rc::into_inner(worker).ok_or(WorkerError::Fault)?;
    finished.then_some(()).ok_or(WorkerError::Fault)?;
    Ok(WorkerOutcome {
        stats: worker.stats.into_inner(),
        logs: worker.logs.into_inner(),
        threads: vec![(time, began.elapsed())],
    })
}

/// Starts each client of this worker at its instant and waits for all. Returns whether none panicked.
async fn clients(worker: &Rc<LoadWorker>, slot: u32) -> bool {
    let plan = &worker.plan;
    let start = worker.clock.instant(plan.start);
    let in_flight = Arc::new(Semaphore::new(plan.in_flight.max(1) as usize));
    let mut tasks = JoinSet::new();
    for k in (slot..plan.schedule.clients).step_by(plan.slots as usize) {
        let (due, permit) = if let Some(offset) = plan.schedule.arrival(k) {
            (start + offset, None)
        } else {
            let permit = Arc::clone(&in_flight).acquire_owned().await.ok();
            (start.max(Instant::now()), permit)
        };
        if !worker.sleep_until(early(due)).await {
            break;
        }
        tasks.spawn_local(live(Rc::clone(worker), k, due, permit));
    }
    let mut sound = true;
    while let Some(result) = tasks.join_next().await {
        sound &= result.is_ok();
    }
    let mut leaving = worker.leaving.take();
    while let Some(result) = leaving.join_next().await {
        match result {
            Ok(left) => worker.left(left),
            Err(_) => sound = false,
        }
    }
    sound
}

impl WorkerOutcome {
    /// Adds the result of another worker.
    pub(super) fn merge(&mut self, other: Self) {
        self.stats.merge(&other.stats);
        self.logs.extend(other.logs);
        self.threads.extend(other.threads);
    }
}
