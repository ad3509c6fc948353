//! The workers of a run: threads of this process, or of member processes, which have file descriptors of their own. A
//! member receives its plan and control messages as JSON lines on standard input, and writes snapshots and its outcome
//! to standard output. It stops at the end of standard input, so it never outlives this process.

use std::io::{BufRead as _, Write as _};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use super::worker::{self, Snapshot, WorkerError, WorkerOutcome};
use super::worker_plan::{Control, WorkerPlan};

/// The workers of a run failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum FleetError {
    /// A worker failed.
    #[error(transparent)]
    Worker(#[from] WorkerError),
    /// A thread could not be started.
    #[error("failed to start a thread: {0}")]
    Thread(std::io::Error),
    /// A member process could not be started.
    #[error("failed to start a member process: {0}")]
    Spawn(std::io::Error),
    /// A member process failed.
    #[error("failed to read from a member process: {0}")]
    Member(String),
    /// This process is a member and cannot read its plan.
    #[error("failed to read the plan: {0}")]
    Order(String),
}

/// A line on the standard output of a member process.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Snapshot(Box<Snapshot>),
    Outcome(Box<WorkerOutcome>),
}

/// Running workers.
pub(super) struct Fleet {
    control: watch::Sender<Control>,
    shown: Vec<Arc<Mutex<Snapshot>>>,
    tasks: JoinSet<Result<WorkerOutcome, FleetError>>,
}

impl Fleet {
    /// Starts `plan.threads` workers in each of `processes` processes. With one process, the workers run in this
    /// process.
    pub(super) fn start(plan: &WorkerPlan, processes: u32) -> Result<Self, FleetError> {
        let control = watch::Sender::new(Control::default());
        let mut fleet = Self { control, shown: Vec::new(), tasks: JoinSet::new() };
        if processes <= 1 {
            let plan = Arc::new(plan.clone());
            for slot in plan.slot..plan.slot + plan.threads {
                fleet.start_thread(&plan, slot)?;
            }
        } else {
            for process in 0..processes {
                fleet.start_process(&WorkerPlan { slot: process * plan.threads, ..plan.clone() })?;
            }
        }
        Ok(fleet)
    }

    fn start_thread(&mut self, plan: &Arc<WorkerPlan>, slot: u32) -> Result<(), FleetError> {
        let shown = Arc::<Mutex<Snapshot>>::default();
        let (done, outcome) = oneshot::channel();
        let (plan, control, show) = (Arc::clone(plan), self.control.subscribe(), Arc::clone(&shown));
        std::thread::Builder::new()
            .name(format!("load-{slot}"))
            .spawn(move || {
                // The receiver is gone if the run was aborted.
                let _ = done.send(worker::run(&plan, slot, &control, &show));
            })
            .map_err(FleetError::Thread)?;
        self.shown.push(shown);
        self.tasks.spawn(async { Ok(outcome.await.unwrap_or(Err(WorkerError::Fault))?) });
        Ok(())
    }

    fn start_process(&mut self, plan: &WorkerPlan) -> Result<(), FleetError> {
        let program = std::env::current_exe().map_err(FleetError::Spawn)?;
        let mut command = Command::new(program);
        command.args(["load", "--member"]).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().map_err(FleetError::Spawn)?;
        let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(FleetError::Member("it has no pipes".to_owned()));
        };
        let shown = Arc::<Mutex<Snapshot>>::default();
        self.shown.push(Arc::clone(&shown));
        let first = line(plan);
        let mut control = self.control.subscribe();
        self.tasks.spawn(async move {
            let broken = |error: std::io::Error| FleetError::Member(error.to_string());
            stdin.write_all(first.as_bytes()).await.map_err(broken)?;
            let mut lines = BufReader::new(stdout).lines();
            loop {
                tokio::select! {
                    Ok(()) = control.changed() => {
                        let line = line(&*control.borrow_and_update());
                        stdin.write_all(line.as_bytes()).await.map_err(broken)?;
                    }
                    text = lines.next_line() => match text.map_err(broken)? {
                        None => {
                            let status = child.wait().await.map_err(broken)?;
                            return Err(FleetError::Member(format!("it ended with {status} before its outcome")));
                        }
                        Some(text) => match serde_json::from_str(&text) {
                            Err(error) => return Err(FleetError::Member(error.to_string())),
                            Ok(Line::Outcome(outcome)) => {
                                drop(stdin);
                                child.wait().await.map_err(broken)?;
                                return Ok(*outcome);
                            }
                            Ok(Line::Snapshot(snapshot)) => if let Ok(mut shown) = shown.lock() {
                                *shown = *snapshot;
                            },
                        }
                    }
                }
            }
        });
        Ok(())
    }

    /// Sends `control` to all workers.
    pub(super) fn control(&self, control: Control) {
        self.control.send_replace(control);
    }

    /// The sum of all workers' snapshots.
    pub(super) fn snapshot(&self) -> Snapshot {
        let mut sum = Snapshot::default();
        for shown in self.shown.iter().filter_map(|shown| shown.lock().ok()) {
            sum.counts.add(&shown.counts);
            sum.messages.add(&shown.messages);
            sum.chain.add(&shown.chain);
            sum.time.busy += shown.time.busy;
            sum.time.waiting += shown.time.waiting;
        }
        sum
    }

    /// The outcome of the next worker or process that ends; `None` after the last one.
    pub(super) async fn next_done(&mut self) -> Option<Result<WorkerOutcome, FleetError>> {
        let done = self.tasks.join_next().await?;
        Some(done.unwrap_or(Err(FleetError::Worker(WorkerError::Fault))))
    }
}

fn line(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("all map keys are text") + "\n"
}

/// Runs as a member process of another process's run.
pub(super) fn be_member() -> Result<(), FleetError> {
    let mut first = String::new();
    std::io::stdin().lock().read_line(&mut first).map_err(|e| FleetError::Order(e.to_string()))?;
    let plan: WorkerPlan = serde_json::from_str(&first)
        .map_err(|e| FleetError::Order(format!("{e}; --member is for processes started by a load run")))?;
    wscluster_runtime::sockets::raise_open_files();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(WorkerError::Runtime)?;
    runtime.block_on(async {
        // Ctrl-C signals the whole process group, but the parent decides when members stop.
        let _interrupts = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt());
        let mut fleet = Fleet::start(&plan, 1)?;
        let control = fleet.control.clone();
        std::thread::spawn(move || {
            for text in std::io::stdin().lock().lines() {
                let Some(received) = text.ok().and_then(|text| serde_json::from_str(&text).ok()) else { break };
                control.send_replace(received);
            }
            control.send_modify(|control| control.stop = true);
        });
        let mut sum = WorkerOutcome::default();
        let mut ticks = tokio::time::interval(Duration::from_millis(200));
        loop {
            let write = |message: &Line| std::io::stdout().lock().write_all(line(message).as_bytes());
            tokio::select! {
                _ = ticks.tick() => {
                    let _ = write(&Line::Snapshot(Box::new(fleet.snapshot())));
                }
                done = fleet.next_done() => {
                    let Some(outcome) = done else {
                        let _ = write(&Line::Outcome(Box::new(sum)));
                        return Ok(());
                    };
                    sum.merge(outcome?);
                }
            }
        }
    })
}
