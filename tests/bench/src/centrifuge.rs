//! `bench-centrifuge`: compares one shard with a server on Centrifugo's engine. Topic, broker, records and clients are
//! the same; only the subscription messages differ. The two take turns, each in a fresh process.

mod subject;

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use subject::{KEY, Kind, Subject};
use tokio::time::sleep;

use crate::bail;
use crate::broker::Publisher;
use crate::cpu::Cpu;
use crate::error::{Doing as _, Result};
use crate::fleet::Fleet;
use crate::kafka::Kafka;
use crate::ours::{Binary, TOPIC};
use crate::report::{Report, Target, median, round, spread};
use crate::{cpu, fleet};

/// Arguments.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Rounds; every figure is the median over them.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Subscribers of the one channel.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 10_000])]
    subscribers: Vec<usize>,
    /// Deliveries per second: far below the capacity of either, so that nothing queues.
    #[arg(long, default_value_t = 20_000.0)]
    deliveries: f64,
    /// Bytes of a record's value.
    #[arg(long, default_value_t = 128)]
    len: usize,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// A full Centrifugo server (version 6) instead of the small one on its engine in tests/bench/peers/centrifuge.
    #[arg(long, env = "CENTRIFUGO", value_name = "PATH")]
    centrifugo: Option<PathBuf>,
    /// The wscluster binary, if it is not next to this program.
    #[arg(long)]
    wscluster: Option<PathBuf>,
}

/// The result of one subject in one round.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Sample {
    p50_ms: f64,
    p99_ms: f64,
    /// CPU of the process per delivery, including its Kafka client, in microseconds.
    cpu_us: f64,
    rss_mib: f64,
}

/// Samples with one number of subscribers, ours and the peer's, by round.
#[derive(Debug, Serialize)]
struct Case {
    subscribers: usize,
    rounds: Vec<[Sample; 2]>,
}

/// Runs the bench. Returns whether every goal was met.
pub fn run(args: &Args) -> Result<bool> {
    crate::machine::two_cpus()?;
    let report = Report::begin("centrifuge");
    cpu::pin_to(crate::CLIENT_CPU)?;
    fleet::block_on(bench(args, report)).doing("run the bench")?
}

async fn bench(args: &Args, mut report: Report) -> Result<bool> {
    let (binary, kafka) = (Binary::find(args.wscluster.clone())?, Kafka::find()?);
    let peer = match &args.centrifugo {
        Some(path) => Kind::Centrifugo(path.clone()),
        None => Kind::engine()?,
    };
    report.peer("wscluster shard", binary.version()?);
    report.peer("peer", peer.version()?);
    report.peer("Apache Kafka", "4.3.1, one broker, one partition");
    kafka.create_topic(TOPIC, 1, &[]).await?;
    let kinds = [Kind::Shard(binary), peer];
    let mut cases = vec![];
    for &subscribers in &args.subscribers {
        let mut rounds = vec![];
        for turn in 0..args.rounds {
            let mut samples = [Sample::default(); 2];
            // The first one changes from round to round, so that a machine that slows down affects both.
            for i in [turn % 2, (turn + 1) % 2] {
                samples[i] = measure(args, &kafka, &kinds[i], subscribers).await?;
                let Sample { p50_ms, p99_ms, cpu_us, .. } = samples[i];
                report.progress(format_args!(
                    "{subscribers} subscribers, round {}, {}: p50 {p50_ms:.2} ms, p99 {p99_ms:.2} ms, {cpu_us:.2} µs of CPU a delivery",
                    turn + 1,
                    kinds[i].name()
                ));
            }
            rounds.push(samples);
        }
        cases.push(Case { subscribers, rounds });
    }
    write(&mut report, args, &cases, kinds[1].name());
    report.finish()
}

async fn measure(args: &Args, kafka: &Kafka, kind: &Kind, subscribers: usize) -> Result<Sample> {
    let subject = Subject::start(kind, kafka).await?;
    let mut fleet = Fleet::new(subject.door());
    fleet.add(subscribers, 2_000.0).await?;
    // One acknowledgement or more: a server may answer both commands in one message.
    let answers = subscribers as u64;
    if !fleet.received(answers, Duration::from_secs(20)).await {
        bail!("{} subscriptions were acknowledged of {answers}", fleet.counts().messages.get());
    }
    let publisher = Publisher::connect(&kafka.brokers, TOPIC, Duration::ZERO)?;
    let counts = fleet.counts();
    let per_second = args.deliveries / subscribers as f64;
    // After this, connections, buffers and the heap of the garbage collector have their usual size.
    let warm = ((per_second * 2.0) as usize).max(5);
    publisher.publish_stamped(KEY, args.len, warm, per_second).await?;
    until_counted(&fleet, warm * subscribers).await?;
    counts.latencies.borrow_mut().clear();
    let records = (per_second * args.seconds) as usize;
    let before = Cpu::of(subject.pid())?;
    publisher.publish_stamped(KEY, args.len, records, per_second).await?;
    until_counted(&fleet, records * subscribers).await?;
    let used = Cpu::of(subject.pid())?.since(&before).total();
    let mut ages = counts.latencies.take();
    if ages.len() != records * subscribers || counts.lost() > 0 {
        bail!("{} of {} records came; lost: {:?}", ages.len(), records * subscribers, counts.lost.borrow());
    }
    ages.sort_unstable();
    let at = |share: f64| f64::from(ages[((ages.len() - 1) as f64 * share) as usize]) / 1e3;
    let rss_mib = cpu::rss_bytes(subject.pid())? as f64 / f64::from(1 << 20);
    let cpu_us = used.as_secs_f64() * 1e6 / ages.len() as f64;
    let sample = Sample { p50_ms: at(0.5), p99_ms: at(0.99), cpu_us, rss_mib };
    drop(fleet);
    subject.stop().await;
    Ok(sample)
}

/// Waits until `records` stamps were read since they were last cleared.
async fn until_counted(fleet: &Fleet, records: usize) -> Result<()> {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    let counts = fleet.counts();
    while counts.latencies.borrow().len() < records {
        if tokio::time::Instant::now() > deadline {
            bail!("{} of {records} records came; lost: {:?}", counts.latencies.borrow().len(), counts.lost.borrow());
        }
        sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}

fn write(report: &mut Report, args: &Args, cases: &[Case], peer: &str) {
    type Pick = fn(&Sample) -> f64;
    let picks: [(&str, Pick); 4] = [
        ("publish to receipt, p50, ms", |s| s.p50_ms),
        ("publish to receipt, p99, ms", |s| s.p99_ms),
        ("CPU per delivery, µs", |s| s.cpu_us),
        ("resident, MiB", |s| s.rss_mib),
    ];
    let mut rows = vec![];
    for case in cases {
        for (what, pick) in picks {
            let of = |i: usize| case.rounds.iter().map(|round| pick(&round[i])).collect::<Vec<_>>();
            // Ratios are taken within a round, where the state of the machine is the same.
            let ratio = median(&case.rounds.iter().map(|[ours, theirs]| pick(ours) / pick(theirs)).collect::<Vec<_>>());
            rows.push(vec![
                case.subscribers.to_string(),
                what.to_owned(),
                spread(&of(0)),
                spread(&of(1)),
                round(ratio),
            ]);
            if what.contains("p99") || what.contains("CPU") {
                let goal = format!("{what}, × the peer's, {} subscribers", case.subscribers);
                report.goal(goal, Target::AtMost(0.5), ratio);
            }
        }
    }
    let title = format!(
        "One channel, {} deliveries/s, records of {} B, median (lowest–highest) of {} rounds of {} s.",
        args.deliveries, args.len, args.rounds, args.seconds
    );
    report.table(&title, &["subscribers", "", "shard", peer, "ratio"], rows);
    report.data("cases", cases);
    report.note("The subject has CPU 0; clients, publisher and broker share CPU 1. The latency includes Kafka and the time that the clients need to read: with n subscribers, the last one is read n system calls after the first.");
    report.note("The peer keeps neither history nor positions, which is its cheapest mode. The shard keeps both.");
}
