//! `bench-fanout`: deliveries per CPU-second of one shard worker, compared with a bare loop of `send` calls on the same
//! number of sockets with frames of the same size. Both take turns in the same run and on the same CPU.

pub mod subject;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use subject::{Bare, Cost, Load, Shard};
use tokio::time::sleep;

use crate::error::{Doing as _, Result};
use crate::ours::Binary;
use crate::report::{Report, Target, median, round, spread};
use crate::{cpu, fleet};

/// Arguments.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Rounds; every figure is the median over them.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Subscribers of the one channel.
    #[arg(long, value_delimiter = ',', default_values_t = [2_000, 5_000])]
    subscribers: Vec<usize>,
    /// Bytes of a record's value.
    #[arg(long, value_delimiter = ',', default_values_t = [128, 256])]
    len: Vec<usize>,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// Connections whose resident memory is compared.
    #[arg(long, num_args = 2, default_values_t = [2_000, 8_000])]
    idle: Vec<usize>,
    /// The wscluster binary, when it is not beside this program.
    #[arg(long)]
    wscluster: Option<PathBuf>,
}

/// Deliveries per second of the steady case: half of what one CPU can send, so that nothing queues.
const STEADY: f64 = 50_000.0;

/// Records that are due at the same instant in the burst case.
const BURST: usize = 10;

/// Subscribers, records per second and delay of the coalescing case: ten records fall into each delay.
const COALESCE: (usize, f64, u32) = (200, 2_000.0, 5);

/// The result of one round with one number of subscribers and one size.
#[derive(Debug, Serialize)]
struct Sample {
    steady: Cost,
    bare_steady: Cost,
    saturated: Cost,
    bare_saturated: Cost,
    burst: Cost,
}

type Cases = BTreeMap<(usize, usize), Vec<Sample>>;

/// Runs the bench. Returns whether every goal was met.
pub fn run(args: &Args) -> Result<bool> {
    crate::machine::two_cpus()?;
    let report = Report::begin("fanout");
    cpu::pin_to(crate::CLIENT_CPU)?;
    fleet::block_on(bench(args, report)).doing("run the bench")?
}

async fn bench(args: &Args, mut report: Report) -> Result<bool> {
    let binary = Binary::find(args.wscluster.clone())?;
    report.peer("wscluster shard", binary.version()?);
    report.peer("bare loop", "send(2) on each socket in turn, one thread, the same frame size");

    report.progress("memory of idle subscribed connections");
    let (idle_kib, rss_mib) = idle_memory(args, &binary).await?;
    let mut cases = Cases::new();
    let mut frames = BTreeMap::new();
    {
        let mut shard = Shard::start(&binary, 0, Duration::from_millis(2), 5).await?;
        let mut bare = Bare::start().await?;
        for &subscribers in &args.subscribers {
            shard.grow(subscribers).await?;
            bare.grow(subscribers).await?;
            for &len in &args.len {
                frames.insert(len, shard.frame_len(len).await?);
                for turn in 0..args.rounds {
                    let sample = measure(args, &mut shard, &mut bare, (subscribers, len, frames[&len])).await?;
                    report.progress(format_args!(
                        "{subscribers} × {len} B, round {}: steady {} (bare {}), saturated {} (bare {}), ten due {}",
                        turn + 1,
                        kilo(&sample.steady),
                        kilo(&sample.bare_steady),
                        kilo(&sample.saturated),
                        kilo(&sample.bare_saturated),
                        kilo(&sample.burst)
                    ));
                    cases.entry((subscribers, len)).or_default().push(sample);
                }
            }
        }
    }
    report.progress("coalescing");
    let mut delays = vec![];
    for delay in [0, COALESCE.2] {
        delays.push((delay, coalesce(args, &binary, delay).await?));
    }
    write(&mut report, args, &cases, &frames, &delays);
    report.table(
        &format!(
            "Memory: RSS difference from {} to {} idle connections with one subscription each.",
            args.idle[0], args.idle[1]
        ),
        &["KiB per idle subscribed connection", "MiB resident with all connections"],
        vec![vec![round(idle_kib), round(rss_mib)]],
    );
    report.goal("KiB per idle subscribed connection", Target::AtMost(2.0), idle_kib);
    report.goal("stretch: KiB per idle subscribed connection", Target::AtMost(1.0), idle_kib);
    report.finish()
}

async fn idle_memory(args: &Args, binary: &Binary) -> Result<(f64, f64)> {
    let mut shard = Shard::start(binary, 0, Duration::ZERO, 100).await?;
    let mut resident = [0; 2];
    for (bytes, &n) in resident.iter_mut().zip(&args.idle) {
        shard.grow(n).await?;
        sleep(Duration::from_secs(1)).await;
        *bytes = cpu::rss_bytes(shard.child.pid())?;
    }
    let added = resident[1].saturating_sub(resident[0]) as f64;
    Ok((added / 1_024.0 / (args.idle[1] - args.idle[0]) as f64, resident[1] as f64 / f64::from(1 << 20)))
}

async fn measure(
    args: &Args,
    shard: &mut Shard,
    bare: &mut Bare,
    (subscribers, len, frame): (usize, usize, usize),
) -> Result<Sample> {
    let per_second = (STEADY / subscribers as f64).min(25.0);
    let records = (per_second * args.seconds) as usize;
    let one = Load { records, per_second, burst: 1, len };
    // Three times what one CPU can send; for the bare loop, no pause at all.
    let all = Load { records: records * 2, per_second: per_second * 6.0, burst: 1, len };
    // Twice the deliveries per second of the steady case, ten at a time.
    let ten = Load { records: records * 2 / BURST * BURST, per_second: per_second * 2.0, burst: BURST, len };
    Ok(Sample {
        steady: shard.run(one).await?,
        bare_steady: bare.run(one, frame).await?,
        saturated: shard.run(all).await?,
        bare_saturated: bare.run(Load { per_second: f64::INFINITY, ..all }, frame).await?,
        burst: shard.run(ten).await?,
    })
}

async fn coalesce(args: &Args, binary: &Binary, delay: u32) -> Result<Vec<Cost>> {
    let (subscribers, per_second, _) = COALESCE;
    let mut shard = Shard::start(binary, delay, Duration::ZERO, 1).await?;
    shard.grow(subscribers).await?;
    let load = Load { records: (per_second * args.seconds) as usize, per_second, burst: 1, len: args.len[0] };
    let mut costs = vec![];
    for _ in 0..args.rounds {
        costs.push(shard.run(load).await?);
    }
    Ok(costs)
}

fn kilo(cost: &Cost) -> String {
    format!("{:.0}k", cost.per_cpu_second() / 1e3)
}

fn figures(samples: &[Sample], pick: fn(&Sample) -> f64) -> Vec<f64> {
    samples.iter().map(pick).collect()
}

fn write(
    report: &mut Report,
    args: &Args,
    cases: &Cases,
    frames: &BTreeMap<usize, usize>,
    delays: &[(u32, Vec<Cost>)],
) {
    let mut rows = vec![];
    let (mut steady, mut saturated, mut ten, mut together) = (vec![], vec![], vec![], 1.0_f64);
    for (&(subscribers, len), samples) in cases {
        let of = |pick| figures(samples, pick);
        // Ratios are taken within a round, where the state of the machine is the same.
        steady.push(median(&of(|s| s.steady.per_cpu_second() / s.bare_steady.per_cpu_second())));
        saturated.push(median(&of(|s| s.saturated.per_cpu_second() / s.bare_saturated.per_cpu_second())));
        ten.push(median(&of(|s| s.burst.per_cpu_second() / s.steady.per_cpu_second())));
        let cases: [fn(&Sample) -> f64; 5] = [
            |s| s.bare_steady.per_cpu_second() / 1e3,
            |s| s.steady.per_cpu_second() / 1e3,
            |s| s.bare_saturated.per_cpu_second() / 1e3,
            |s| s.saturated.per_cpu_second() / 1e3,
            |s| s.burst.per_cpu_second() / 1e3,
        ];
        let mut row = vec![subscribers.to_string(), format!("{len} ({})", frames[&len])];
        row.extend(cases.map(|pick| spread(&of(pick))));
        row.push(round(median(&of(|s| s.steady.per_worker_second() / 1e3))));
        let per_write: [fn(&Sample) -> f64; 3] =
            [|s| s.steady.per_write, |s| s.saturated.per_write, |s| s.burst.per_write];
        row.push(per_write.map(|pick| round(median(&of(pick)))).join(" / "));
        together = together.max(median(&of(|s| s.steady.per_write)));
        rows.push(row);
    }
    let title = format!(
        "Thousands of deliveries per CPU-second, median (lowest–highest) of {} rounds. Steady is one record due at a \
         time, {STEADY} deliveries/s ({} records/s at the fewest subscribers); saturated is three times what a CPU can \
         send, without a pause for the bare loop.",
        args.rounds,
        args.subscribers.iter().min().map_or(0.0, |&n| (STEADY / n as f64).min(25.0))
    );
    let columns = [
        "subscribers",
        "value (frame), B",
        "bare, steady",
        "shard, steady",
        "bare, saturated",
        "shard, saturated",
        "shard, ten at once",
        "shard, steady, without Kafka client",
        "messages per write: steady / saturated / ten at once",
    ];
    report.table(&title, &columns, rows);
    let (subscribers, per_second, _) = COALESCE;
    let rows = delays.iter().map(|(delay, costs)| {
        let of = |pick: fn(&Cost) -> f64| costs.iter().map(pick).collect::<Vec<_>>();
        vec![
            format!("{delay} ms"),
            spread(&of(|c| c.per_cpu_second() / 1e3)),
            round(median(&of(|c| c.per_worker_second() / 1e3))),
            round(median(&of(|c| c.per_write))),
            round(median(&of(|c| 100.0 * c.cpu / c.seconds))),
        ]
    });
    let title = format!("`delivery.coalesce`: {subscribers} subscribers, {per_second} records/s, evenly spaced.");
    let columns =
        ["delay", "thousands of deliveries per CPU-second", "without Kafka client", "messages per write", "CPU %"];
    report.table(&title, &columns, rows.collect());
    let lowest = |ratios: &[f64]| ratios.iter().copied().fold(f64::INFINITY, f64::min);
    report.goal("messages per write, steady", Target::AtMost(1.1), together);
    report.goal("steady ÷ bare loop (worst case)", Target::AtLeast(0.95), lowest(&steady));
    report.goal("saturated ÷ bare loop (worst case)", Target::AtLeast(0.95), lowest(&saturated));
    report.goal("ten at once ÷ steady (worst case)", Target::AtLeast(6.0), lowest(&ten));
    let own = cases.iter().find(|((_, len), _)| *len == args.len[0]);
    if let (Some((_, samples)), Some((_, costs))) = (own, delays.last()) {
        let coalesced = median(&costs.iter().map(Cost::per_cpu_second).collect::<Vec<_>>());
        let ratio = coalesced / median(&figures(samples, |s| s.steady.per_cpu_second()));
        report.goal("steady with `delivery.coalesce` ÷ steady", Target::AtLeast(6.0), ratio);
    }
    report
        .data("cases", cases.iter().map(|(case, samples)| (format!("{case:?}"), samples)).collect::<BTreeMap<_, _>>());
    report.data("coalesce", delays);
    report.note("The shard's figures include its Kafka client (real protocol, embedded broker in the tester's process) and its admin server.");
    report.note("The embedded broker answers a waiting fetch only after fetch.wait.max.ms, whereas a real broker answers at once. The wait is therefore 5 ms here (1 ms for coalescing) instead of 100 ms, so that records arrive one by one.");
    report.note("The subject has CPU 0 to itself; clients, producer and broker share CPU 1.");
    report.note("The value is the record as published. The frame is what a client receives, including the envelope and the frame header. The bare loop sends frames of the same size.");
}
