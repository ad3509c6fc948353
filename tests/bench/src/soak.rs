//! `soak`: churn, storms, slow readers and hostile clients together against `wscluster local`. In the end everything
//! that clients used must have been given back, and no honest client may have been refused or cut.

mod footprint;
mod hostile;

use std::path::PathBuf;
use std::time::Duration;

use footprint::{Footprint, Subject};
use hostile::Hostile;
use tokio::time::{Instant, sleep};

use crate::error::{Doing as _, Result};
use crate::fleet;
use crate::local::{CHANNELS, Load, Local, Verdict, folder};
use crate::ours::{Binary, Manifest, channel, counter, key};
use crate::report::{Report, Target};

/// Arguments.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Minutes that the clients stay.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    minutes: u32,
    /// Honest clients; a fiftieth of them reads slowly. A tenth as many hostile ones come in addition.
    #[arg(long, default_value_t = 3_000, value_parser = clap::value_parser!(u32).range(100..))]
    connections: u32,
    /// The wscluster binary, when it is not beside this program.
    #[arg(long)]
    wscluster: Option<PathBuf>,
}

const SHARDS: usize = 3;

/// Storms in a run: each cuts all honest connections at once, and they come back at once.
const STORMS: u32 = 5;

/// Records per second of 1 KiB, over all channels.
const PUBLISH_RATE: u32 = 20;

/// Time until the kernel has forgotten closed connections (`TIME_WAIT`, 60 s) and the allocator has given memory back
/// (10 s).
const QUIET: Duration = Duration::from_secs(100);

/// Descriptors and threads that a process may have more than before: pooled connections between the processes.
const SPARE: u64 = 8;

/// Memory that a process may have more than before, in percent and MiB: the window of records fills, and jemalloc keeps
/// some pages.
const SPARE_MEMORY: (f64, f64) = (25.0, 16.0);

/// Gauges that are 0 without clients: one for each kind of task that serves a connection, and for what waits for it.
const GATEWAY_GAUGES: [&str; 3] =
    ["wscluster_gateway_tunnels", "wscluster_gateway_queue_waiting", "wscluster_gateway_handshakes_in_progress"];
const SHARD_GAUGES: [&str; 3] =
    ["wscluster_shard_slots_in_use", "wscluster_shard_subscriptions", "wscluster_shard_client_queue_bytes"];

/// Runs it. Returns whether every goal was met.
pub fn run(args: &Args) -> Result<bool> {
    let report = Report::begin("soak");
    fleet::block_on(soak(args, report)).doing("run the soak")?
}

async fn soak(args: &Args, mut report: Report) -> Result<bool> {
    let binary = Binary::find(args.wscluster.clone())?;
    report.peer("wscluster", binary.version()?);
    let folder = folder()?;
    let manifest =
        Manifest { shards: SHARDS, capacity: args.connections, gateways: 2, max_queue_kib: 64, ..Manifest::default() };
    let local = Local::start(&binary, &manifest, folder.path()).await?;
    let subject = Subject::of(&local);
    let fresh = subject.footprint()?;

    // The first clients make processes start threads and keep memory for good.
    report.progress("warm-up");
    let short = options(args, Duration::from_secs(10), 0);
    load(&binary, &local, &short)?.verdict(patience(args, Duration::from_secs(10))).await?;
    quiet(&local).await;
    let before = subject.footprint()?.with_sockets_of(fresh);

    let hold = Duration::from_secs(u64::from(args.minutes) * 60);
    report.progress(format_args!(
        "{} honest clients, {} hostile ones at a time",
        args.connections,
        args.connections / 10
    ));
    let channels = (0..CHANNELS).map(|i| channel(&key(i))).collect();
    let hostile = Hostile::start(local.ready.gateway, channels, args.connections as usize / 10);
    let verdict = load(&binary, &local, &options(args, hold, STORMS))?.verdict(patience(args, hold)).await?;
    let sessions = hostile.stop();

    report.progress("all clients have left");
    let after = recovered(&local, &subject, &before).await?;
    let in_use = in_use(&local).await?;
    local.stop().await;
    write(&mut report, args, &verdict, (&before, &after), in_use);
    sessions.write(&mut report);
    report.finish()
}

fn load(binary: &Binary, local: &Local, options: &[String]) -> Result<Load> {
    Load::start(binary, local, &options.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Options of the tester. It never tries again, so that no refusal is overlooked.
fn options(args: &Args, hold: Duration, storms: u32) -> Vec<String> {
    let Args { connections, .. } = args;
    let mut options: Vec<String> = [
        ("--connections", connections.to_string()),
        ("--rate", (connections / 10).to_string()),
        ("--hold", format!("{}s", hold.as_secs())),
        ("--churn", (connections / 100).to_string()),
        ("--slow", (connections / 50).to_string()),
        ("--slow-rate", "128".to_owned()),
        ("--payload", "1Ki".to_owned()),
        ("--publish-rate", PUBLISH_RATE.to_string()),
    ]
    .into_iter()
    .flat_map(|(name, value)| [name.to_owned(), value])
    .collect();
    for storm in 1..=storms {
        let at = hold.as_secs() * u64::from(storm) / u64::from(storms + 1);
        options.extend(["--storm-at".to_owned(), format!("{at}s")]);
    }
    options
}

/// Time limit for a tester that holds its clients for `hold`.
fn patience(args: &Args, hold: Duration) -> Duration {
    hold + Duration::from_secs(120 + u64::from(args.connections / 50))
}

/// Waits until nothing of the clients is left: their connections, then the pages that the allocator gives back later.
async fn quiet(local: &Local) {
    let deadline = Instant::now() + QUIET;
    while Instant::now() < deadline && local.connections().await.iter().sum::<u64>() > 0 {
        sleep(Duration::from_millis(200)).await;
    }
    sleep(Duration::from_secs(15)).await;
}

/// The footprint, as soon as it is within the limits, at the latest after [`QUIET`].
async fn recovered(local: &Local, subject: &Subject, before: &Footprint) -> Result<Footprint> {
    let deadline = Instant::now() + QUIET;
    loop {
        let after = subject.footprint()?;
        if Instant::now() > deadline || (is_within(before, &after) && in_use(local).await.is_ok_and(|left| left == 0)) {
            return Ok(after);
        }
        sleep(Duration::from_secs(1)).await;
    }
}

fn is_within(before: &Footprint, after: &Footprint) -> bool {
    after.more_fds(before).max(after.more_threads(before)).max(after.more_sockets(before)) <= SPARE
        && after.more_memory(before, SPARE_MEMORY.0) <= SPARE_MEMORY.1
}

/// The sum of all gauges that are 0 without clients.
async fn in_use(local: &Local) -> Result<u64> {
    let mut sum = 0;
    for gateway in &local.ready.gateways {
        for name in GATEWAY_GAUGES {
            sum += counter(gateway.admin, name).await?;
        }
    }
    for shard in &local.ready.shards {
        for name in SHARD_GAUGES {
            sum += counter(shard.admin, name).await?;
        }
    }
    Ok(sum)
}

fn write(report: &mut Report, args: &Args, verdict: &Verdict, (before, after): (&Footprint, &Footprint), in_use: u64) {
    report.table(
        &format!(
            "{} honest clients for {} minutes on {SHARDS} shards behind 2 gateways, {STORMS} storms, {} clients replaced per \
             second; {PUBLISH_RATE} records/s of 1 KiB. Before and after, without clients:",
            args.connections,
            args.minutes,
            args.connections / 100
        ),
        &["process", "descriptors", "threads", "memory, MiB"],
        after.processes_from(before),
    );
    report.table(
        "TCP sockets of the clients' ports and the shards' ports:",
        &["state", "before", "after"],
        after.sockets_from(before),
    );
    let audit = &verdict.audit;
    report.note(format!("{} deliveries expected; failed and lost connections: {}", audit.expected, verdict.reasons()));
    report.note(format!("{} of {} slow clients were disconnected", verdict.slow.ended, verdict.slow.opened));
    let exactly =
        |report: &mut Report, what: &str, reached: u64| report.goal(what, Target::Exactly(0.0), reached as f64);
    exactly(report, "honest clients refused", verdict.failed_attempts);
    exactly(report, "honest clients cut", verdict.dropped);
    exactly(report, "honest clients not connected", verdict.failed);
    exactly(report, "deliveries lost", audit.lost + audit.declared_lost);
    exactly(report, "deliveries twice or in another order", audit.duplicated + audit.reordered);
    exactly(report, "processes that ended", after.ended(before));
    exactly(report, "tunnels, handshakes, slots, subscriptions and queued bytes left", in_use);
    let spare = Target::AtMost(SPARE as f64);
    report.goal("descriptors more than before, of a process", spare, after.more_fds(before) as f64);
    report.goal("threads more than before, of a process", spare, after.more_threads(before) as f64);
    report.goal("sockets more than before, in a state", spare, after.more_sockets(before) as f64);
    let (percent, mib) = SPARE_MEMORY;
    report.goal(
        format!("MiB above {percent} % more than before, of a process"),
        Target::AtMost(mib),
        after.more_memory(before, percent),
    );
}
