//! `bench-slow`: clients that read 1 KiB per second and are sent forty times as much, next to clients that read
//! everything, under each policy of `delivery.slowClient`. Measures the effect on the other clients and the memory of
//! the shard.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use tokio::time::interval;

use crate::error::{Doing as _, Result};
use crate::fleet;
use crate::local::{Load, Local, Verdict, folder};
use crate::ours::{Binary, Manifest, channel, counter, key};
use crate::report::{Report, Target, median, round, spread};

/// Arguments.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Clients that read everything.
    #[arg(long, default_value_t = 500)]
    clients: u32,
    /// Slow clients, in every other run.
    #[arg(long, default_value_t = 50)]
    slow: u32,
    /// Records of 1 KiB per second, on one channel.
    #[arg(long, default_value_t = 40)]
    publish_rate: u32,
    /// Seconds that all clients stay.
    #[arg(long, default_value_t = 15)]
    hold: u64,
    /// Rounds of six runs.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// The wscluster binary, when it is not beside this program.
    #[arg(long)]
    wscluster: Option<PathBuf>,
}

/// A small queue that is full within seconds.
const MAX_QUEUE_KIB: u32 = 64;

/// Manifest values, with the label values of `wscluster_shard_slow_clients_total`.
const POLICIES: [(&str, &str); 3] =
    [("disconnect", "disconnect"), ("dropOldest", "drop_oldest"), ("conflate", "conflate")];

/// One run.
#[derive(Debug, Serialize)]
struct Run {
    policy: usize,
    slow: u32,
    verdict: Verdict,
    /// Most bytes that waited in the shard for full sockets.
    queue_peak: u64,
    /// Samples that were not answered in time.
    missed: u64,
    /// How often each policy was applied, in the order of `POLICIES`.
    applied: [u64; 3],
    /// Messages dropped.
    dropped: u64,
}

/// Runs the bench. Returns whether every goal was met.
pub fn run(args: &Args) -> Result<bool> {
    let report = Report::begin("slow");
    fleet::block_on(bench(args, report)).doing("run the bench")?
}

async fn bench(args: &Args, mut report: Report) -> Result<bool> {
    let binary = Binary::find(args.wscluster.clone())?;
    report.peer("wscluster", binary.version()?);
    let mut runs = vec![];
    for round in 0..args.rounds {
        for step in 0..POLICIES.len() {
            let policy = (round + step) % POLICIES.len();
            // The order of the two changes as well.
            let mut both = [0, args.slow];
            both.rotate_left(round % 2);
            for slow in both {
                report.progress(format_args!("round {round}: {}, {slow} slow clients", POLICIES[policy].0));
                runs.push(one(args, &binary, policy, slow).await?);
            }
        }
    }
    write(&mut report, args, &runs);
    report.finish()
}

async fn one(args: &Args, binary: &Binary, policy: usize, slow: u32) -> Result<Run> {
    let folder = folder()?;
    let manifest = Manifest { slow_client: POLICIES[policy].0, max_queue_kib: MAX_QUEUE_KIB, ..Manifest::default() };
    let local = Local::start(binary, &manifest, folder.path()).await?;
    let admin = local.ready.shards[0].admin;
    let numbers =
        [(args.clients + slow).to_string(), slow.to_string(), format!("{}s", args.hold), args.publish_rate.to_string()];
    let [clients, slow_clients, hold, rate] = numbers.each_ref().map(String::as_str);
    let mut options = vec!["-c", clients, "-r", "200", "--hold", hold, "--publish-rate", rate, "--payload", "1Ki"];
    options.extend(["--slow", slow_clients]);
    let load = Load::on(binary, &local, &channel(&key(0)), &options)?;
    let mut verdict = std::pin::pin!(load.verdict(Duration::from_secs(args.hold + 60)));
    let (mut queue_peak, mut missed) = (0, 0);
    let mut ticks = interval(Duration::from_millis(100));
    let verdict = loop {
        tokio::select! {
            verdict = &mut verdict => break verdict?,
            _ = ticks.tick() => match counter(admin, "wscluster_shard_client_queue_blocked_bytes").await {
                Ok(bytes) => queue_peak = queue_peak.max(bytes),
                Err(_) => missed += 1,
            },
        }
    };
    let mut applied = [0; 3];
    for (count, (_, label)) in applied.iter_mut().zip(POLICIES) {
        // A policy that was never applied is not among the metrics.
        let name = format!("wscluster_shard_slow_clients_total{{policy=\"{label}\"}}");
        *count = counter(admin, &name).await.unwrap_or(0);
    }
    let dropped = counter(admin, "wscluster_shard_dropped_messages_total").await?;
    local.stop().await;
    Ok(Run { policy, slow, verdict, queue_peak, missed, applied, dropped })
}

fn write(report: &mut Report, args: &Args, runs: &[Run]) {
    let mut rows = vec![];
    for (policy, (name, _)) in POLICIES.iter().enumerate() {
        let those = |slow: bool| runs.iter().filter(move |run| run.policy == policy && (run.slow > 0) == slow);
        let p99 = |slow| those(slow).map(|run| run.verdict.latency("delivery", "p99")).collect::<Vec<_>>();
        let (without, with) = (p99(false), p99(true));
        let ratio = median(&with) / median(&without);
        let each = |value: fn(&Run) -> u64| spread(&those(true).map(|run| value(run) as f64).collect::<Vec<_>>());
        let waiting = those(true).map(|run| run.queue_peak as f64 / f64::from(args.slow) / 1_024.0);
        let waiting = waiting.fold(0.0, f64::max);
        rows.push(vec![
            (*name).to_owned(),
            spread(&without),
            spread(&with),
            round(ratio),
            round(waiting),
            [each(|run| run.applied[0]), each(|run| run.applied[1]), each(|run| run.applied[2])].join(" / "),
            each(|run| run.dropped),
            each(|run| run.verdict.slow.ended),
        ]);
        report.goal(
            format!("{name}: p99 of the other clients, with slow clients ÷ without"),
            Target::AtMost(1.2),
            ratio,
        );
        report.goal(
            format!("{name}: KiB waiting per slow client, peak"),
            Target::AtMost(f64::from(MAX_QUEUE_KIB)),
            waiting,
        );
        let acted = those(true).map(|run| run.applied[policy]).min().unwrap_or(0);
        report.goal(format!("{name}: times the policy was applied per run"), Target::AtLeast(1.0), acted as f64);
    }
    let sum = |value: fn(&Verdict) -> u64| runs.iter().map(|run| value(&run.verdict)).sum::<u64>() as f64;
    report.goal(
        "lost deliveries of the other clients",
        Target::Exactly(0.0),
        sum(|v| v.audit.lost + v.audit.declared_lost),
    );
    report.goal("duplicate deliveries of the other clients", Target::Exactly(0.0), sum(|v| v.audit.duplicated));
    report.goal("lost or failed connections of the other clients", Target::Exactly(0.0), sum(|v| v.dropped + v.failed));
    let rounds = match args.rounds {
        1 => "One round".to_owned(),
        rounds => format!("{rounds} rounds, each in another order"),
    };
    report.table(
        &format!(
            "One shard, one gateway; {} clients on one channel, {} records/s of 1 KiB; with and without {} clients that read 1 KiB/s. \
             `maxQueueBytes` {MAX_QUEUE_KIB} KiB. {rounds}.",
            args.clients, args.publish_rate, args.slow
        ),
        &[
            "`slowClient`",
            "publish to receipt at the other clients, p99, ms, without",
            "with",
            "ratio",
            "KiB waiting per slow client, peak",
            "times disconnected / dropped from / conflated",
            "messages dropped",
            "slow clients closed",
        ],
        rows,
    );
    report.data("runs", runs);
    report.note(
        "KiB waiting is the shard's gauge of bytes that wait for full sockets, divided by the number of slow \
         clients. It is sampled every 100 ms. It does not include the queues of the other clients or the buffers of \
         the kernel and the gateway.",
    );
    let missed: u64 = runs.iter().map(|run| run.missed).sum();
    if missed > 0 {
        report.note(format!("{missed} samples of that gauge were not answered within 2 s."));
    }
    let tired = runs.iter().filter(|run| run.verdict.generator.bottleneck).count();
    if tired > 0 {
        report.note(format!("The tester was a bottleneck in {tired} of {} runs (it shares the machine).", runs.len()));
    }
}
