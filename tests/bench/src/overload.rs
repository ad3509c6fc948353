//! `bench-overload`: offers a shard several times the records that it can fan out. Measures what the shard reports,
//! which clients it refuses, and whether every record arrives in the end.
//!
//! The shard gets only a part of a CPU, so that neither the tester nor the broker is the bottleneck.

mod samples;

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use self::samples::Sample;
use crate::bail;
use crate::error::{Doing as _, Result};
use crate::fleet;
use crate::local::{Load, Local, Verdict, folder};
use crate::ours::{Binary, Manifest, TOPIC, channel, counter, key};
use crate::report::{Report, Target, round};
use crate::throttle::Throttle;

/// Arguments.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Clients, all on one channel.
    #[arg(long, default_value_t = 2_000)]
    clients: u32,
    /// Records of 128 bytes offered per second.
    #[arg(long, default_value_t = 600)]
    publish_rate: u32,
    /// Seconds of overload.
    #[arg(long, default_value_t = 20)]
    seconds: u32,
    /// Percentage of time in which the shard may run.
    #[arg(long, default_value_t = 4)]
    cpu_percent: u32,
    /// Clients that connect during the overload, 20 per second.
    #[arg(long, default_value_t = 300)]
    late: u32,
    /// Time limit for catching up, in seconds.
    #[arg(long, default_value_t = 240)]
    patience: u64,
    /// The wscluster binary, when it is not beside this program.
    #[arg(long)]
    wscluster: Option<PathBuf>,
}

/// The embedded broker keeps 5 MiB. A record has 128 bytes plus the overhead of the protocol.
const MAX_RECORDS: u32 = 25_000;

/// The result.
struct Outcome {
    samples: Vec<Sample>,
    /// Seconds from the first published record to the last one.
    published: f64,
    /// Records that the shard had read by then.
    taken: u64,
    /// Seconds from the end of publishing until the lag was 0 and no message waited for a client.
    caught_up: f64,
    drained: f64,
    late: Verdict,
}

/// Runs the bench. Returns whether every goal was met.
pub fn run(args: &Args) -> Result<bool> {
    let report = Report::begin("overload");
    fleet::block_on(bench(args, report)).doing("run the bench")?
}

async fn bench(args: &Args, mut report: Report) -> Result<bool> {
    let records = args.publish_rate * args.seconds;
    if records > MAX_RECORDS {
        bail!(
            "{records} records are more than the embedded broker keeps: give --publish-rate × --seconds of at most {MAX_RECORDS}"
        );
    }
    let binary = Binary::find(args.wscluster.clone())?;
    report.peer("wscluster", binary.version()?);
    let folder = folder()?;
    let local = Local::start(&binary, &Manifest::default(), folder.path()).await?;
    let clients = args.clients.to_string();
    // The bench stops the tester when everything is delivered.
    let options = ["-c", &clients, "-r", "500", "--hold", "1h", "--timeout", "20s", "--progress", "json"];
    let load = Load::on(&binary, &local, &channel(&key(0)), &options)?;
    until_subscribed(&local, args.clients).await?;
    let outcome = overload(args, &binary, &local, &report, records).await?;
    // Written messages may still be in the gateway, in the kernel, or waiting for the tester's CPU.
    let delivered = samples::until_delivered(&load.log(), u64::from(records) * u64::from(args.clients)).await?;
    report.progress(format_args!("{delivered} deliveries"));
    let verdict = load.leave(Duration::from_mins(2)).await?;
    local.stop().await;
    write(&mut report, args, records, &outcome, &verdict);
    report.finish()
}

async fn until_subscribed(local: &Local, clients: u32) -> Result<()> {
    let deadline = Instant::now() + Duration::from_mins(1);
    while counter(local.ready.shards[0].admin, "wscluster_shard_subscriptions").await? < u64::from(clients) {
        if Instant::now() > deadline {
            bail!("not all clients are subscribed after a minute");
        }
        sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

async fn overload(args: &Args, binary: &Binary, local: &Local, report: &Report, records: u32) -> Result<Outcome> {
    let shard = &local.ready.shards[0];
    let _throttle = Throttle::start(shard.pid, args.cpu_percent);
    let before = counter(shard.admin, "wscluster_shard_records_total").await?;
    let (repeat, rate, value) = (records.to_string(), args.publish_rate.to_string(), "x".repeat(128));
    let (key, seconds) = (key(0), u64::from(args.seconds));
    let mut command = vec!["publish", TOPIC, &value, "--repeat", &repeat, "--rate", &rate, "--key", &key];
    command.extend(["--brokers", &local.ready.kafka, "--output", "json"]);
    let began = Instant::now();
    let mut process = binary.start("publish", None, &command)?;
    let publishing = async {
        process.rest(Duration::from_secs(seconds + 60)).await?;
        let published = began.elapsed().as_secs_f64();
        report.progress("all records are published");
        Ok((published, counter(shard.admin, "wscluster_shard_records_total").await? - before))
    };
    let coming = async {
        // Well into the overload.
        sleep(Duration::from_secs(seconds / 4)).await;
        let (url, late) = (format!("ws://{}/ws", local.ready.gateway), args.late.to_string());
        let options = ["--url", url.as_str(), "-c", &late, "-r", "20", "--hold", "1s", "--quiet"];
        let hold = Duration::from_secs(60 + u64::from(args.late / 20));
        Load::named(binary, "load-late", &options)?.verdict(hold).await
    };
    let (over, watch) = tokio::sync::watch::channel(false);
    let acting = async {
        let done = tokio::try_join!(publishing, coming);
        let _ = over.send(true);
        done
    };
    let patience = Duration::from_secs(args.patience);
    let (((published, taken), late), samples) =
        tokio::try_join!(acting, samples::until_drained(shard.admin, began, watch, patience))?;
    let last = |busy: fn(&Sample) -> bool| {
        let after = samples.iter().rev().find(|sample| busy(sample)).map_or(0.0, |sample| sample.at);
        (after - published).max(0.0)
    };
    let (caught_up, drained) = (last(|s| s.lag > 0), last(|s| s.lag > 0 || s.waiting > 0));
    Ok(Outcome { samples, published, taken, caught_up, drained, late })
}

fn write(report: &mut Report, args: &Args, records: u32, outcome: &Outcome, verdict: &Verdict) {
    let Outcome { samples, published, taken, late, .. } = outcome;
    let first = |is: fn(&Sample) -> bool| samples.iter().find(|sample| is(sample)).map_or(f64::NAN, |sample| sample.at);
    let peak = samples.iter().map(|sample| sample.lag).max().unwrap_or(0);
    let degraded = samples.iter().filter(|sample| sample.is_late()).count();
    let audit = &verdict.audit;
    report.table(
        &format!(
            "One shard that may run {} % of the time; {} clients on one channel; {records} records of 128 bytes in {} s.",
            args.cpu_percent,
            args.clients,
            round(*published)
        ),
        &[
            "records/s offered",
            "taken",
            "lag in /health, peak",
            "s until /health shows lag",
            "s until `degraded`",
            "s from the last record to lag 0",
            "s from the last record to empty queues",
        ],
        vec![vec![
            round(f64::from(records) / published),
            round(*taken as f64 / published),
            peak.to_string(),
            round(first(|sample| sample.lag > 0)),
            round(first(Sample::is_late)),
            round(outcome.caught_up),
            round(outcome.drained),
        ]],
    );
    report.table(
        &format!(
            "{} clients that connected meanwhile, 20 per second, and the deliveries to all other clients:",
            args.late
        ),
        &[
            "handshakes failed",
            "planned start to 101, ms, p50 / p99",
            "clients lost",
            "deliveries due",
            "lost",
            "duplicate",
        ],
        vec![vec![
            format!("{} ({})", late.failed_attempts, late.reasons()),
            format!("{} / {}", round(late.latency("upgrade", "p50")), round(late.latency("upgrade", "p99"))),
            format!("{} ({})", verdict.dropped, verdict.reasons()),
            audit.expected.to_string(),
            (audit.lost + audit.declared_lost).to_string(),
            audit.duplicated.to_string(),
        ]],
    );
    let offered = f64::from(records) / *taken as f64;
    report.goal("records offered ÷ records taken", Target::AtLeast(2.0), offered);
    report.goal("samples of /health with `degraded` and a reason", Target::AtLeast(1.0), degraded as f64);
    report.goal("failed handshakes", Target::Exactly(0.0), late.failed_attempts as f64);
    report.goal("clients lost", Target::Exactly(0.0), (verdict.dropped + verdict.failed + late.dropped) as f64);
    let due = f64::from(records) * f64::from(args.clients);
    report.goal("deliveries due per record and client", Target::Exactly(1.0), audit.expected as f64 / due);
    report.goal("lost deliveries", Target::Exactly(0.0), (audit.lost + audit.declared_lost) as f64);
    report.goal("duplicate deliveries", Target::Exactly(0.0), audit.duplicated as f64);
    report.data("samples", samples);
    report.data("verdict", verdict);
    report.data("late", late);
    report.note("The shard is stopped and continued every 100 ms, so handshakes have to wait for it too.");
    if verdict.generator.bottleneck {
        report.note(format!("The tester was a bottleneck: {}", verdict.generator.reasons.join("; ")));
    }
}
