//! `bench-ancestor`: why half of the handshakes failed. The same clients, rate, fan-out and CPU for a stand-in of the
//! replaced system with its CPU guard, for the stand-in without the guard, and for our service.

pub mod guard;
pub mod standin;
pub mod trial;

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;
use trial::{Trial, run_trial};

use crate::broker::{Broker, Publisher};
use crate::child::Child;
use crate::error::{Doing as _, Result};
use crate::fleet::Door;
use crate::ours::{self, Binary, Manifest, TOPIC};
use crate::report::{Report, Target, round};
use crate::{bail, cpu, fleet};

/// Arguments. Scaled from the ancestor's last test (12,000 clients at 100/s, samples every 15 s) so that three runs
/// take less than five minutes: half the clients at the same rate, and samples twice as often, so as many samples per
/// ramp.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Clients.
    #[arg(long, default_value_t = 6_000)]
    clients: usize,
    /// New clients a second.
    #[arg(long, default_value_t = 100.0)]
    ramp: f64,
    /// Seconds to hold them.
    #[arg(long, default_value_t = 15)]
    hold: u64,
    /// Milliseconds between two samples of the guard.
    #[arg(long, default_value_t = 7_500)]
    sample_ms: u64,
    /// Messages a second for each client, before the stand-in triples them.
    #[arg(long, default_value_t = 7.0)]
    messages: f64,
    /// Bytes of a message.
    #[arg(long, default_value_t = 128)]
    len: usize,
    /// Leave ours out.
    #[arg(long)]
    only_stand_in: bool,
    /// The wscluster binary, when it is not beside this program.
    #[arg(long)]
    wscluster: Option<PathBuf>,
}

const SHARDS: usize = 3;

/// Channels; each client has one, so a record goes to a twentieth of them.
const CHANNELS: usize = 20;

fn hellos() -> Vec<String> {
    (0..CHANNELS).map(|i| ours::subscribe(&ours::key(i))).collect()
}

impl Args {
    fn capacity(&self) -> usize {
        // The ancestor had 50 % more slots than clients: capacity was never the reason.
        self.clients / 2
    }

    fn records_per_second(&self) -> f64 {
        self.messages * CHANNELS as f64
    }
}

/// Runs the bench. Returns whether every goal was met.
pub fn run(args: &Args) -> Result<bool> {
    crate::machine::two_cpus()?;
    let report = Report::begin("ancestor");
    cpu::pin_to(crate::CLIENT_CPU)?;
    fleet::block_on(bench(args, report)).doing("run the bench")?
}

async fn bench(args: &Args, mut report: Report) -> Result<bool> {
    let binary = if args.only_stand_in { None } else { Some(Binary::find(args.wscluster.clone())?) };
    report.peer("stand-in of the ancestor", "in this tree: tests/bench/src/ancestor/standin.rs");
    let mut trials = vec![];
    for guard in [true, false] {
        let name = format!("stand-in, guard {}", if guard { "on" } else { "off" });
        report.progress(&name);
        trials.push(stand_in(args, name, guard).await?);
    }
    if let Some(binary) = binary {
        report.peer("wscluster", binary.version()?);
        report.progress("wscluster");
        trials.push(wscluster(args, &binary).await?);
    }
    write(&mut report, args, &trials);
    report.finish()
}

async fn stand_in(args: &Args, name: String, guard: bool) -> Result<Trial> {
    let this = std::env::current_exe().doing("find this program")?.display().to_string();
    let numbers = [
        ("--shards", SHARDS.to_string()),
        ("--capacity", args.capacity().to_string()),
        ("--guard", guard.to_string()),
        ("--sample-ms", args.sample_ms.to_string()),
        ("--per-second", args.records_per_second().to_string()),
        ("--channels", CHANNELS.to_string()),
        ("--len", args.len.to_string()),
    ];
    let options: Vec<_> = numbers.iter().flat_map(|(option, value)| [*option, value]).collect();
    let all: Vec<_> = std::iter::once("stand-in").chain(options).collect();
    let mut child = Child::start("stand-in", Some(crate::SUBJECT_CPU), &this, &all)?;
    let hello: standin::Hello = child.line(Duration::from_secs(5)).await?;
    let door = Door { hellos: hellos(), ..Door::at(hello.addr) };
    let mut trial = run_trial(args, name, door, &[child.pid()], std::future::pending()).await?;
    let state: standin::State = child.ask(&json!("state"), Duration::from_secs(10)).await?;
    if state.refused != trial.refused() {
        bail!("the stand-in refused {} upgrades, but the clients saw {:?}", state.refused, trial.failures);
    }
    trial.connections = state.connections;
    trial.samples = state.samples;
    trial.dropped = state.dropped;
    child.stop().await;
    Ok(trial)
}

async fn wscluster(args: &Args, binary: &Binary) -> Result<Trial> {
    let folder = tempfile::TempDir::with_prefix("wscluster-bench-").doing("create a folder")?;
    let broker = Broker::start()?;
    let manifest = Manifest { shards: SHARDS, capacity: args.capacity() as u32, ..Manifest::default() };
    let (mut shards, mut addresses) = (vec![], vec![]);
    for ordinal in 0..SHARDS {
        let (child, address) =
            binary.shard(folder.path(), &manifest, ordinal, &broker.address(), crate::SUBJECT_CPU).await?;
        shards.push(child);
        addresses.push(address);
    }
    let (gateway, addr) = binary.gateway(folder.path(), &manifest, &addresses, crate::SUBJECT_CPU).await?;
    let publisher = Publisher::connect(&broker.address(), TOPIC, Duration::ZERO)?;
    let keys: Vec<_> = (0..CHANNELS).map(ours::key).collect();
    let publishing = publisher.publish(&keys, args.len, usize::MAX, args.records_per_second(), 1);
    let pids: Vec<_> = shards.iter().chain([&gateway]).map(Child::pid).collect();
    let door = Door { hellos: hellos(), ..Door::at(addr) };
    let mut trial = run_trial(args, "wscluster".to_owned(), door, &pids, publishing).await?;
    for address in &addresses {
        trial.connections.push(ours::connections(address.admin).await? as usize);
    }
    gateway.stop().await;
    Ok(trial)
}

fn write(report: &mut Report, args: &Args, trials: &[Trial]) {
    let rows = trials.iter().map(|trial| {
        vec![
            trial.name.clone(),
            args.clients.to_string(),
            trial.opened.to_string(),
            trial.failed().to_string(),
            format!("{:.1} %", trial.failed_percent()),
            trial.reasons(),
            trial.connections.iter().map(ToString::to_string).collect::<Vec<_>>().join("/"),
            round(trial.seconds.iter().map(|second| second.cpu_percent).fold(0.0, f64::max)),
            round(trial.last_rate()),
        ]
    });
    let title = format!(
        "{} clients at {}/s to {SHARDS} shards of {} slots, held {} s; {} messages of {} B per second for each client; all \
         server processes together on one CPU.",
        args.clients,
        args.ramp,
        args.capacity(),
        args.hold,
        args.messages,
        args.len
    );
    let columns = [
        "",
        "handshakes",
        "101",
        "failed",
        "failed, %",
        "why",
        "connections of the shards",
        "highest CPU %, 1 s",
        "messages/s per client, last 5 s",
    ];
    report.table(&title, &columns, rows.collect());
    timeline(report, args, trials);
    for trial in trials {
        report.data(&trial.name, trial);
    }
    for (trial, target) in trials.iter().zip([Target::AtLeast(20.0), Target::Exactly(0.0), Target::Exactly(0.0)]) {
        report.goal(format!("{}: failed handshakes, %", trial.name), target, trial.failed_percent());
    }
    report.note(
        "The stand-in needs less CPU than the original: no garbage collector, messages encoded once, no Kafka client.",
    );
    report.note(
        "While the guard permits messages, the stand-in's clients receive each message three times. Ours receive it once.",
    );
}

/// Handshakes and refusals of each sampling period, which show the on-off oscillation.
fn timeline(report: &mut Report, args: &Args, trials: &[Trial]) {
    let period = Duration::from_millis(args.sample_ms).as_secs_f64();
    let mut columns = vec!["seconds".to_owned()];
    columns.extend(trials.iter().map(|trial| format!("{}: CPU %, 101, failed", trial.name)));
    let end = trials.iter().filter_map(|trial| trial.seconds.last()).map(|second| second.at).fold(0.0, f64::max);
    let rows = (0..(end / period).ceil() as usize).map(|i| {
        let (from, to) = (i as f64 * period, (i + 1) as f64 * period);
        let cells = trials.iter().map(|trial| {
            let (cpu, opened, failed) = trial.between(from, to);
            format!("{}, {opened}, {failed}", round(cpu))
        });
        std::iter::once(format!("{from:.1}–{to:.1}")).chain(cells).collect::<Vec<_>>()
    });
    let columns: Vec<_> = columns.iter().map(String::as_str).collect();
    report.table("By sampling period of the guard:", &columns, rows.collect());
}
