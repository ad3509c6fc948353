//! `bench-changes`: every planned change and every failure that `wscluster local` handles, each under load in a run of
//! its own, with clients that keep their positions and reconnect. The table has the form of the one for a real cluster
//! (`tests/e2e`).

mod cause;
mod slots;
mod stage;
mod table;
mod ten_edits;

use std::path::PathBuf;
use std::time::Duration;

use cause::Cause;
use serde::Serialize;
use slots::Slots;
use stage::Stage;
use tokio::time::{Instant, sleep};

use crate::bail;
use crate::error::{Doing as _, Result};
use crate::fleet;
use crate::local::{Load, Verdict};
use crate::ours::Binary;
use crate::progress;
use crate::report::Report;

/// Arguments.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Clients; two shards hold 320.
    #[arg(long, default_value_t = 300)]
    clients: u32,
    /// Records per second over twenty channels; each client subscribes to one of them.
    #[arg(long, default_value_t = 50)]
    publish_rate: u32,
    /// Seed of the ten edits.
    #[arg(long, default_value_t = 6)]
    seed: u64,
    /// Causes, in this order.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Cause::ALL)]
    causes: Vec<Cause>,
    /// The wscluster binary, when it is not beside this program.
    #[arg(long)]
    wscluster: Option<PathBuf>,
}

/// Time limit for all clients to connect or reconnect.
const BACK: Duration = Duration::from_mins(1);

/// The effect of one cause.
#[derive(Debug, Serialize)]
struct Row {
    cause: String,
    is_planned: bool,
    /// Connections that may be closed per second.
    rate: u64,
    /// Most connections lost within one second.
    peak: f64,
    /// Most connections lost per second, over any three seconds.
    peak_of_three: f64,
    slots: Slots,
    /// Seconds until the change was over.
    took: f64,
    /// Verdict on the clients that were connected before and after it.
    verdict: Verdict,
    /// Verdict on the clients that left during it.
    crowd: Option<Verdict>,
}

/// Runs the bench. Returns whether every goal was met.
pub fn run(args: &Args) -> Result<bool> {
    let report = Report::begin("changes");
    fleet::block_on(bench(args, report)).doing("run the bench")?
}

async fn bench(args: &Args, mut report: Report) -> Result<bool> {
    let binary = Binary::find(args.wscluster.clone())?;
    report.peer("wscluster", binary.version()?);
    let mut rows = vec![];
    for &cause in &args.causes {
        report.progress(cause.text());
        rows.push(one(args, &binary, cause).await?);
    }
    table::write(&mut report, args, &rows);
    report.finish()
}

async fn one(args: &Args, binary: &Binary, cause: Cause) -> Result<Row> {
    let mut stage = Stage::start(binary, cause.manifest()).await?;
    let (mut slots, front) = (Slots::default(), stage.front());
    let change = async {
        let crowd = match cause.crowd() {
            Some(clients) => Some(audience(&stage, "changes-crowd", clients, cause.ramp(), 0).await?),
            None => None,
        };
        let name = format!("changes-{}", cause.name());
        let load = audience(&stage, &name, args.clients, cause.ramp(), args.publish_rate).await?;
        let began = Instant::now();
        let crowd = cause.happen(args, &mut stage, crowd).await?;
        let took = began.elapsed().as_secs_f64();
        until_live(&load, args.clients).await?;
        Ok((load, took, crowd))
    };
    let (load, took, crowd) = tokio::select! {
        done = change => done?,
        () = slots.watch(front) => unreachable!("it watches for ever"),
    };
    let seen = progress::all(&load.log())?;
    let verdict = load.leave(BACK).await?;
    let row = Row {
        cause: cause.text(),
        is_planned: cause.is_planned(),
        rate: stage.rate(),
        peak: progress::peak(&seen, 1),
        peak_of_three: progress::peak(&seen, 3),
        slots,
        took,
        verdict,
        crowd,
    };
    stage.end().await;
    Ok(row)
}

/// Starts clients that stay until they are stopped. Returns when all are connected.
async fn audience(stage: &Stage, name: &str, clients: u32, ramp: u32, publish_rate: u32) -> Result<Load> {
    let numbers = [clients, ramp, publish_rate].map(|n| n.to_string());
    let [count, ramp, rate] = numbers.each_ref().map(String::as_str);
    let options = ["-c", count, "-r", ramp, "--hold", "10m", "--publish-rate", rate, "--progress", "json"];
    let load = stage.audience(name, &options)?;
    until_live(&load, clients).await?;
    Ok(load)
}

/// Waits until that many clients are connected, each for at least a second.
async fn until_live(load: &Load, clients: u32) -> Result<()> {
    let deadline = Instant::now() + BACK;
    // The tester reports once a second, so the number must hold for longer than that.
    let mut since = None;
    loop {
        if progress::last(&load.log())?.settled < u64::from(clients) {
            since = None;
        } else if since.get_or_insert_with(Instant::now).elapsed() > Duration::from_millis(1_500) {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("not all clients are connected after {BACK:?}; see {}", load.log().display());
        }
        sleep(Duration::from_millis(100)).await;
    }
}
