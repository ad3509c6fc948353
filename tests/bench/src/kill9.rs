//! `bench-kill9`: shards are killed with SIGKILL under load, one after another. Every client audits its messages and
//! resumes with its positions.

use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;
use tokio::time::{Instant, sleep, sleep_until};

use crate::bail;
use crate::child::signal_pid;
use crate::error::{Doing as _, Result};
use crate::fleet;
use crate::local::{Load, Local, Verdict, folder};
use crate::ours::{Binary, Manifest};
use crate::report::{Report, Target, round};

/// Arguments.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Clients.
    #[arg(long, default_value_t = 3_000)]
    clients: u32,
    /// Records per second over twenty channels; each client subscribes to one of them.
    #[arg(long, default_value_t = 40)]
    publish_rate: u32,
    /// Shards to kill, one every `--every` seconds.
    #[arg(long, default_value_t = 2)]
    kills: usize,
    /// Seconds between two kills.
    #[arg(long, default_value_t = 15)]
    every: u64,
    /// The wscluster binary, when it is not beside this program.
    #[arg(long)]
    wscluster: Option<PathBuf>,
}

const SHARDS: usize = 3;

/// New clients per second.
const RAMP: u32 = 300;

/// The effect of one kill.
struct Kill {
    name: String,
    /// Connections that the shard held.
    held: u64,
    /// Seconds until as many clients as before were connected again.
    healed: f64,
}

/// Runs the bench. Returns whether every goal was met.
pub fn run(args: &Args) -> Result<bool> {
    let report = Report::begin("kill9");
    fleet::block_on(bench(args, report)).doing("run the bench")?
}

async fn bench(args: &Args, mut report: Report) -> Result<bool> {
    if args.kills > SHARDS {
        bail!("--kills is {}, but there are {SHARDS} shards", args.kills);
    }
    let binary = Binary::find(args.wscluster.clone())?;
    report.peer("wscluster", binary.version()?);
    let folder = folder()?;
    let manifest = Manifest { shards: SHARDS, capacity: args.clients, gateways: 2, ..Manifest::default() };
    let local = Local::start(&binary, &manifest, folder.path()).await?;
    let whole = Duration::from_secs(args.every * (args.kills as u64 + 1));
    let numbers =
        [args.clients.to_string(), RAMP.to_string(), format!("{}s", whole.as_secs()), args.publish_rate.to_string()];
    let [clients, ramp, held, rate] = numbers.each_ref().map(String::as_str);
    let options = ["-c", clients, "-r", ramp, "--hold", held, "--publish-rate", rate, "--retry", "50"];
    let load = Load::start(&binary, &local, &options)?;
    let patience = whole + Duration::from_secs(60 + u64::from(args.clients / RAMP));
    let (verdict, kills) = tokio::try_join!(load.verdict(patience), kill(args, &local, &report))?;
    local.stop().await;
    write(&mut report, args, &verdict, &kills);
    report.finish()
}

async fn kill(args: &Args, local: &Local, report: &Report) -> Result<Vec<Kill>> {
    until_connected(args, local).await?;
    let mut kills = vec![];
    let mut due = Instant::now() + Duration::from_secs(args.every / 2);
    for (i, shard) in local.ready.shards.iter().take(args.kills).enumerate() {
        sleep_until(due).await;
        let held = local.connections().await[i];
        report.progress(format_args!("kill -9 {} ({held} connections)", shard.name));
        let began = Instant::now();
        signal_pid(shard.pid, Signal::KILL)?;
        until_connected(args, local).await?;
        kills.push(Kill { name: shard.name.clone(), held, healed: began.elapsed().as_secs_f64() });
        due += Duration::from_secs(args.every);
    }
    Ok(kills)
}

/// Waits until the shards hold all clients. A killed shard does not answer, so its connections do not count.
async fn until_connected(args: &Args, local: &Local) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(60 + u64::from(args.clients / RAMP));
    while local.connections().await.iter().sum::<u64>() < u64::from(args.clients) {
        if Instant::now() > deadline {
            bail!("not all clients are connected: {:?}", local.connections().await);
        }
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

fn write(report: &mut Report, args: &Args, verdict: &Verdict, kills: &[Kill]) {
    let rows = kills.iter().map(|kill| vec![kill.name.clone(), kill.held.to_string(), round(kill.healed)]);
    report.table(
        &format!(
            "{} clients, {} records/s over twenty channels, {SHARDS} shards, 2 gateways.",
            args.clients, args.publish_rate
        ),
        &["killed", "connections it held", "seconds until all were connected again"],
        rows.collect(),
    );
    let audit = &verdict.audit;
    let row = vec![
        verdict.dropped.to_string(),
        verdict.reconnected.to_string(),
        format!("{} / {}", round(verdict.latency("reconnect", "p50")), round(verdict.latency("reconnect", "p99"))),
        format!("{} ({})", verdict.failed_attempts, verdict.reasons()),
        audit.expected.to_string(),
        audit.lost.to_string(),
        audit.duplicated.to_string(),
        format!("{} / {}", audit.recovered, audit.unrecovered),
    ];
    let columns = [
        "tunnels dropped",
        "clients returned",
        "from lost tunnel to next 101, ms, p50 / p99",
        "failed handshakes (and drops)",
        "deliveries due",
        "lost",
        "duplicate",
        "channels recovered / not",
    ];
    report.table("What the clients saw:", &columns, vec![row]);
    let held: u64 = kills.iter().map(|kill| kill.held).sum();
    report.goal(
        "tunnels dropped ÷ tunnels of the killed shards",
        Target::Exactly(1.0),
        verdict.dropped as f64 / held as f64,
    );
    report.goal("clients that did not return", Target::Exactly(0.0), verdict.failed as f64);
    report.goal("failed handshakes", Target::Exactly(0.0), verdict.failed_attempts as f64);
    report.goal("lost deliveries", Target::Exactly(0.0), (audit.lost + audit.declared_lost) as f64);
    report.goal("duplicate deliveries", Target::Exactly(0.0), audit.duplicated as f64);
    report.goal("channels not recovered", Target::Exactly(0.0), audit.unrecovered as f64);
    report.goal("deliveries compared with the topic", Target::AtLeast(1.0), audit.expected as f64);
    report.data("verdict", verdict);
    report.note("Clients wait for a random time of up to 100 ms before they reconnect (full jitter). `wscluster local` restarts the killed shard.");
    if verdict.generator.bottleneck {
        report.note(format!("The tester was a bottleneck: {}", verdict.generator.reasons.join("; ")));
    }
}
