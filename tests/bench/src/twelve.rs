//! `bench-12k`: the test that the ancestor failed, with all processes of a deployment: 12,000 clients at 100/s, held
//! for a minute; the same as fast as the tester can; and one more client than there are slots.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::sleep;

use crate::error::{Doing as _, Result};
use crate::fleet;
use crate::local::{CHANNELS, Load, Local, Verdict, folder, imbalance_percent};
use crate::ours::{Binary, Manifest};
use crate::report::{Report, Target, round};

/// Arguments.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Clients of the first two runs.
    #[arg(long, default_value_t = 12_000)]
    clients: u32,
    /// New clients per second in the first run.
    #[arg(long, default_value_t = 100)]
    ramp: u32,
    /// Seconds of hold in the first run.
    #[arg(long, default_value_t = 60)]
    hold: u64,
    /// Slots of each of the three shards.
    #[arg(long, default_value_t = 6_000)]
    capacity: u32,
    /// The wscluster binary, when it is not beside this program.
    #[arg(long)]
    wscluster: Option<PathBuf>,
}

const SHARDS: usize = 3;

/// The result of one run.
struct Outcome {
    name: &'static str,
    verdict: Verdict,
    /// Connections of the shards at their maximum.
    connections: Vec<u64>,
}

/// Runs the bench. Returns whether every goal was met.
pub fn run(args: &Args) -> Result<bool> {
    let report = Report::begin("12k");
    fleet::block_on(bench(args, report)).doing("run the bench")?
}

async fn bench(args: &Args, mut report: Report) -> Result<bool> {
    let binary = Binary::find(args.wscluster.clone())?;
    report.peer("wscluster", binary.version()?);
    let (clients, ramp, hold) = (args.clients.to_string(), args.ramp.to_string(), format!("{}s", args.hold));
    let slots = args.capacity * SHARDS as u32;
    let beyond = (slots + 1).to_string();
    let runs = [
        ("ramp", 2, vec!["-c", &clients, "-r", &ramp, "--hold", &hold]),
        ("storm", 2, vec!["-c", &clients, "-r", "max", "--hold", "5s"]),
        // Three gateways: with two, the tunnels would need more files per process than the limit allows.
        ("one too many", 3, vec!["-c", &beyond, "-r", "1000", "--hold", "5s", "--timeout", "20s"]),
    ];
    let mut outcomes = vec![];
    for (name, gateways, options) in runs {
        report.progress(format_args!("{name}: {}", options.join(" ")));
        outcomes.push(one(args, &binary, name, gateways, &options).await?);
    }
    write(&mut report, args, &outcomes);
    report.finish()
}

async fn one(args: &Args, binary: &Binary, name: &'static str, gateways: usize, options: &[&str]) -> Result<Outcome> {
    let folder = folder()?;
    let manifest = Manifest { shards: SHARDS, capacity: args.capacity, gateways, ..Manifest::default() };
    let local = Local::start(binary, &manifest, folder.path()).await?;
    // Every ten seconds, each client sends a heartbeat and receives a message.
    let rate = (CHANNELS as f64 / 10.0).to_string();
    let all: Vec<_> = options.iter().copied().chain(["--send-interval", "10s", "--publish-rate", &rate]).collect();
    let load = Load::start(binary, &local, &all)?;
    let patience = Duration::from_secs(120 + args.hold + u64::from(args.clients / args.ramp.max(1)));
    let mut most = vec![0; SHARDS];
    let watch = async {
        loop {
            sleep(Duration::from_millis(500)).await;
            let now = local.connections().await;
            if now.iter().sum::<u64>() >= most.iter().sum() {
                most = now;
            }
        }
    };
    let verdict = tokio::select! {
        verdict = load.verdict(patience) => verdict?,
        () = watch => unreachable!("it watches for ever"),
    };
    local.stop().await;
    Ok(Outcome { name, verdict, connections: most })
}

fn write(report: &mut Report, args: &Args, outcomes: &[Outcome]) {
    let rows = outcomes.iter().map(|Outcome { name, verdict, connections }| {
        vec![
            (*name).to_owned(),
            verdict.planned.to_string(),
            verdict.connected.to_string(),
            verdict.failed.to_string(),
            verdict.reasons(),
            round(verdict.ramp_seconds),
            format!("{} / {}", round(verdict.latency("upgrade", "p50")), round(verdict.latency("upgrade", "p99"))),
            connections.iter().map(ToString::to_string).collect::<Vec<_>>().join("/"),
            format!("{:.2}", imbalance_percent(connections)),
            format!("{} / {} / {}", verdict.audit.expected, verdict.audit.lost, verdict.audit.duplicated),
        ]
    });
    let title = format!(
        "{SHARDS} shards of {} slots, 2 gateway processes (3 for the last run), all processes and the tester share the \
         machine's CPUs. Each client is sent a message and sends a heartbeat every 10 s; the first run is held {} s.",
        args.capacity, args.hold
    );
    let columns = [
        "run",
        "clients",
        "connected",
        "failed",
        "why",
        "ramp, s",
        "planned start to 101, ms, p50 / p99",
        "shards, at most",
        "imbalance, %",
        "deliveries due / lost / duplicate",
    ];
    report.table(&title, &columns, rows.collect());
    for outcome in outcomes {
        let (name, verdict) = (outcome.name, &outcome.verdict);
        report.data(name, verdict);
        if verdict.generator.bottleneck {
            report.note(format!("{name}: the tester was a bottleneck: {}", verdict.generator.reasons.join("; ")));
        }
        let wrong = verdict.audit.lost + verdict.audit.declared_lost + verdict.audit.duplicated;
        report.goal(format!("{name}: lost or duplicate deliveries"), Target::Exactly(0.0), wrong as f64);
    }
    if let [ramp, storm, beyond] = outcomes {
        report.goal("ramp: failed", Target::Exactly(0.0), (ramp.verdict.failed + ramp.verdict.failed_attempts) as f64);
        report.goal("ramp: imbalance, %", Target::AtMost(1.0), imbalance_percent(&ramp.connections));
        let failed = storm.verdict.failed + storm.verdict.failed_attempts;
        report.goal("storm: failed", Target::Exactly(0.0), failed as f64);
        let slots = f64::from(args.capacity * SHARDS as u32);
        report.goal("one too many: connected", Target::Exactly(slots), beyond.verdict.connected as f64);
        report.goal(
            "one too many: most connections held",
            Target::Exactly(slots),
            beyond.connections.iter().sum::<u64>() as f64,
        );
        let honest =
            beyond.verdict.failures.get("http_503_no_capacity").or(beyond.verdict.failures.get("http_503_timeout"));
        report.goal("one too many: refused with 503", Target::Exactly(1.0), honest.copied().unwrap_or(0) as f64);
        report.goal("one too many: failed attempts", Target::Exactly(1.0), beyond.verdict.failed_attempts as f64);
    }
}
