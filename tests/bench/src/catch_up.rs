//! `bench-catch-up`: a shard that starts with a million records in the log before its window. It seeks by time, so it
//! must be ready as soon as a shard whose topic contains only the window. Also measures how fast it reads a full
//! window.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::broker::Publisher;
use crate::cpu::{self, Cpu};
use crate::error::{Doing as _, Result};
use crate::kafka::Kafka;
use crate::local::folder;
use crate::ours::{self, Binary, Manifest, key};
use crate::report::{Report, Target, median, round, spread};
use crate::{bail, fleet};

/// Arguments.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Rounds; every figure is the median over them.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Records in the log before the window begins.
    #[arg(long, default_value_t = 1_000_000)]
    behind: usize,
    /// Records in the window.
    #[arg(long, default_value_t = 50_000)]
    window: usize,
    /// Bytes of a record's value.
    #[arg(long, default_value_t = 128)]
    len: usize,
    /// The wscluster binary, when it is not beside this program.
    #[arg(long)]
    wscluster: Option<PathBuf>,
}

/// A topic with a long log, and a topic that contains only the window.
const LONG: &str = "long";
const SHORT: &str = "short";

/// The window in the manifest. Records inside it are at most half as old, so that they stay inside during the bench.
const WINDOW: Duration = Duration::from_mins(30);

/// One start of a shard.
#[derive(Clone, Copy, Debug, Serialize)]
struct Start {
    /// Seconds from the start of the process to `ready`.
    ready: f64,
    /// CPU seconds of the process until then.
    cpu: f64,
    /// Records read.
    records: u64,
}

/// Runs the bench. Returns whether every goal was met.
pub fn run(args: &Args) -> Result<bool> {
    crate::machine::two_cpus()?;
    let report = Report::begin("catch-up");
    cpu::pin_to(crate::CLIENT_CPU)?;
    fleet::block_on(bench(args, report)).doing("run the bench")?
}

async fn bench(args: &Args, mut report: Report) -> Result<bool> {
    let (binary, kafka) = (Binary::find(args.wscluster.clone())?, Kafka::find()?);
    report.peer("wscluster shard", binary.version()?);
    report.peer("Apache Kafka", "4.3.1, one broker, one partition");
    let keys: Vec<String> = (0..50).map(key).collect();
    for (topic, behind) in [(LONG, args.behind), (SHORT, 0)] {
        // Kafka finds timestamps by segments and their indexes, so there must be several, as in a log of hours.
        kafka.create_topic(topic, 1, &["segment.bytes=16777216", "retention.ms=-1"]).await?;
        report.progress(format_args!("{topic}: publishing {behind} old records and {} in the window", args.window));
        let publisher = Publisher::connect(&kafka.brokers, topic, Duration::from_millis(20))?;
        publisher.publish_past(&keys, args.len, behind, [WINDOW * 10, WINDOW * 2])?;
        publisher.publish_past(&keys, args.len, args.window, [WINDOW / 2, Duration::ZERO])?;
    }
    let window_s = u32::try_from(WINDOW.as_secs()).unwrap_or(u32::MAX);
    let bounded = Manifest { window_s, history_mib: 1_024, ..Manifest::default() };
    let cases = [
        ("nothing but the window in the log", args.window, Manifest { topic: SHORT, ..bounded }),
        ("old records before the window", args.window, Manifest { topic: LONG, ..bounded }),
        (
            "all of them in the window",
            args.behind + args.window,
            Manifest { topic: LONG, window_s: window_s * 40, ..bounded },
        ),
    ];
    let mut starts = vec![vec![]; cases.len()];
    for turn in 0..args.rounds {
        for (i, (what, expected, manifest)) in cases.iter().enumerate() {
            let start = start(&binary, &kafka, manifest).await?;
            report.progress(format_args!(
                "round {}, {what}: {} records, ready after {:.2} s, {:.2} s of CPU",
                turn + 1,
                start.records,
                start.ready,
                start.cpu
            ));
            if start.records != *expected as u64 {
                bail!("{what}: read {} records instead of {expected}", start.records);
            }
            starts[i].push(start);
        }
    }
    write(&mut report, args, &cases.map(|(what, ..)| what), &starts);
    report.finish()
}

async fn start(binary: &Binary, kafka: &Kafka, manifest: &Manifest) -> Result<Start> {
    let folder = folder()?;
    let began = Instant::now();
    let (child, address) = binary.shard(folder.path(), manifest, 0, &kafka.brokers, crate::SUBJECT_CPU).await?;
    let (ready, cpu) = (began.elapsed().as_secs_f64(), Cpu::of(child.pid())?.total().as_secs_f64());
    let records = ours::counter(address.admin, "wscluster_kafka_records_total").await?;
    child.stop().await;
    Ok(Start { ready, cpu, records })
}

fn write(report: &mut Report, args: &Args, cases: &[&str], starts: &[Vec<Start>]) {
    let of = |i: usize, pick: fn(&Start) -> f64| starts[i].iter().map(pick).collect::<Vec<_>>();
    let rows = cases.iter().enumerate().map(|(i, what)| {
        let records = starts[i].first().map_or(0, |start| start.records);
        vec![(*what).to_owned(), records.to_string(), spread(&of(i, |s| s.ready)), spread(&of(i, |s| s.cpu))]
    });
    let title = format!(
        "One partition, values of {} B, {} records before the window and {} in it; median (lowest–highest) of {} rounds.",
        args.len, args.behind, args.window, args.rounds
    );
    report.table(&title, &["log", "records read", "seconds to ready", "CPU seconds"], rows.collect());
    let ratio = |pick: fn(&Start) -> f64| {
        let pairs = starts[1].iter().zip(&starts[0]);
        median(&pairs.map(|(long, short)| pick(long) / pick(short)).collect::<Vec<_>>())
    };
    report.goal("seconds to ready, with old records ÷ without", Target::AtMost(1.25), ratio(|s| s.ready));
    // Both include the cost of a start without records, so the difference is the cost of the records.
    let more = starts[2].iter().zip(&starts[0]);
    let per_core =
        median(&more.map(|(all, few)| (all.records - few.records) as f64 / (all.cpu - few.cpu)).collect::<Vec<_>>());
    report.note(format!(
        "Consumed: {} records per CPU-second, from Kafka to an encoded message in the window.",
        round(per_core)
    ));
    report.data("records_per_cpu_second", per_core);
    report.data("starts", starts);
    report.note("The shard has CPU 0 and the broker CPU 1. Seconds count from the start of the process. They are rounded up to the next poll of /readyz (every 20 ms).");
}
