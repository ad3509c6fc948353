//! `bench-audit`: many clients of three shards and two gateways, fed by three real Kafka brokers, during one failure
//! after another. The sequence of every client is compared with the topic.
//!
//! It runs in a network namespace of its own (`tests/audit/run`), so that the link to Kafka can really be cut.

mod fault;
mod link;
mod watch;

use std::path::{Path, PathBuf};
use std::time::Duration;

use fault::Fault;
use link::Link;
use rustix::process::Signal;
use serde::Serialize;
use serde_json::json;
use tokio::time::{Instant, sleep_until};
use watch::Watch;

use crate::bail;
use crate::child::signal_pid;
use crate::error::{Doing as _, Result};
use crate::fleet;
use crate::kafka::Kafka;
use crate::local::{Load, Local, Verdict, folder};
use crate::ours::{Binary, write_manifest};
use crate::progress::{self, Seen};
use crate::report::{Report, Target, round};

/// Arguments.
#[derive(clap::Args, Clone, Debug)]
#[command(args_override_self = true)] // what is given after --short wins
pub struct Args {
    /// Clients, each with one channel.
    #[arg(long, default_value_t = 2_000)]
    clients: u32,
    /// Channels.
    #[arg(long, default_value_t = 50)]
    channels: u32,
    /// Records a second, all channels together.
    #[arg(long, default_value_t = 1_000)]
    rate: u32,
    /// Bytes of a record's value.
    #[arg(long, default_value_t = 128)]
    len: u32,
    /// Seconds of load, over which the causes are spread; longer if a recovery takes longer than the share of its
    /// cause.
    #[arg(long, default_value_t = 300)]
    seconds: u64,
    /// Seconds for which a shard is stopped by SIGSTOP.
    #[arg(long, default_value_t = 20)]
    stop: u64,
    /// Seconds for which the link to Kafka is cut.
    #[arg(long, default_value_t = 15)]
    cut: u64,
    /// KiB that may wait for one client. Shards skip larger records and must report that.
    #[arg(long, default_value_t = 1_024)]
    queue: u32,
    /// Seconds of history that shards keep in memory; with 0, every missed record is read back from Kafka.
    #[arg(long, default_value_t = 60)]
    window: u64,
    /// Kinds of causes, in this order.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Fault::ALL)]
    causes: Vec<Fault>,
    /// The wscluster binary, when it is not beside this program.
    #[arg(long)]
    wscluster: Option<PathBuf>,
}

const SHARDS: usize = 3;
const GATEWAYS: usize = 2;
const PARTITIONS: usize = 6;
const TOPIC: &str = "audit";

/// New clients a second.
const RAMP: u32 = 200;

/// Records published less than this before the end are not expected: all clients must have recovered from the last
/// cause.
const TAIL: Duration = Duration::from_secs(5);

/// The effect of one cause on the clients.
#[derive(Debug, Serialize)]
struct Row {
    cause: String,
    /// Seconds into the hold.
    at: f64,
    /// Seconds until every client was connected and every shard was ready and had read every record.
    healed: f64,
    seen: Seen,
}

/// Runs the bench. Returns whether every goal was met.
pub fn run(args: &Args) -> Result<bool> {
    let report = Report::begin("audit");
    fleet::block_on(bench(args, report)).doing("run the bench")?
}

async fn bench(args: &Args, mut report: Report) -> Result<bool> {
    let (binary, kafka) = (Binary::find(args.wscluster.clone())?, Kafka::find()?);
    if kafka.count() < 3 {
        bail!("this bench kills brokers and so needs three: tests/kafka/run --brokers 3");
    }
    let link = Link::to(&kafka.link)?;
    report.peer("wscluster", binary.version()?);
    report.peer("Apache Kafka", "4.3.1, three brokers, replication 3, min.insync.replicas 2, acks=all, idempotent");
    kafka.create_topic(TOPIC, PARTITIONS, &[]).await?;
    let folder = folder()?;
    let local = Local::start_file(&binary, &manifest(args, &kafka, folder.path())?).await?;
    let url = format!("ws://{}/ws", local.ready.gateway);
    let numbers = [args.clients, RAMP, args.rate, args.len].map(|n| n.to_string());
    let [clients, ramp, rate, len] = numbers.each_ref().map(String::as_str);
    // The bench ends the load earlier, when all causes are over and all clients have recovered.
    let longest = args.seconds * 2 + 300;
    let (hold, tail) = (format!("{longest}s"), format!("{}s", TAIL.as_secs()));
    let (channels, topic) = (format!("c{{0..{}}}.t", args.channels - 1), format!("{TOPIC}={{key}}.t"));
    let mut options = vec!["--url", url.as_str(), "-c", clients, "-r", ramp, "--channels", &channels, "--hold", &hold];
    options.extend(["--brokers", &kafka.brokers, "--topic", &topic, "--publish-rate", rate, "--payload", len]);
    options.extend(["--tail", &tail, "--retry", "1000", "--retry-max", "2s", "--progress", "json"]);
    let load = Load::begin(&binary, &options)?;
    let log = load.log();
    let watch = Watch::of(&log, &local);
    let patience = Duration::from_secs(longest + 120 + u64::from(args.clients / RAMP));
    let pid = load.pid();
    let breaking = async {
        let rows = break_all(args, &local, &kafka, &link, &watch, &report).await?;
        signal_pid(pid, Signal::INT)?;
        Ok(rows)
    };
    let (verdict, rows) = tokio::try_join!(load.verdict(patience), breaking)?;
    local.stop().await;
    write(&mut report, args, &verdict, &rows);
    report.finish()
}

fn manifest(args: &Args, kafka: &Kafka, folder: &Path) -> Result<String> {
    let manifest = json!({
        "apiVersion": "wscluster.dev/v1alpha1",
        "kind": "WsCluster",
        "metadata": { "name": "audit" },
        "spec": {
            "shards": SHARDS,
            // Two shards must hold the clients of three.
            "capacity": args.clients,
            "source": { "kafka": {
                "brokers": kafka.link.split(',').collect::<Vec<_>>(),
                "topics": [{ "name": TOPIC, "channel": "{key}.t" }],
                "history": { "window": format!("{}s", args.window), "maxBytes": "64Mi" },
            } },
            // A stopped shard holds back the bytes of its clients and sends them at once afterwards.
            "delivery": { "maxQueueBytes": format!("{}Ki", args.queue) },
            "gateway": { "replicas": GATEWAYS },
            "template": { "shard": { "workers": 1 }, "gateway": { "workers": 1 } },
        },
    });
    write_manifest(folder, &manifest)
}

async fn break_all(
    args: &Args,
    local: &Local,
    kafka: &Kafka,
    link: &Link,
    watch: &Watch<'_>,
    report: &Report,
) -> Result<Vec<Row>> {
    watch.until_well(args.clients, Duration::from_secs(60 + u64::from(args.clients / RAMP))).await?;
    let began = Instant::now();
    // Half a share before the first and after the last cause, so that the effect of each is measured.
    let turn = Duration::from_secs(args.seconds).div_f64(args.causes.len() as f64 + 1.0);
    let mut rows = vec![];
    let mut before = progress::last(watch.log)?;
    for (i, &fault) in args.causes.iter().enumerate() {
        sleep_until(began + turn.mul_f64(i as f64 + 0.5)).await;
        let at = Instant::now();
        let calm = progress::last(watch.log)?;
        rows.extend((i == 0).then(|| Row {
            cause: "nothing".to_owned(),
            at: 0.0,
            healed: 0.0,
            seen: calm.since(&before),
        }));
        before = if i == 0 { calm } else { before };
        report.progress(fault.name());
        fault.happen(args, local, kafka, link).await?;
        watch.until_well(args.clients, Duration::from_mins(1)).await?;
        let healed = at.elapsed().as_secs_f64();
        // Late messages count for this cause.
        sleep_until(began + turn.mul_f64(i as f64 + 1.4)).await;
        let after = progress::last(watch.log)?;
        let cause = fault.text(args);
        rows.push(Row { cause, at: (at - began).as_secs_f64(), healed, seen: after.since(&before) });
        before = after;
    }
    sleep_until(began + Duration::from_secs(args.seconds)).await;
    Ok(rows)
}

fn write(report: &mut Report, args: &Args, verdict: &Verdict, rows: &[Row]) {
    let line = |row: &Row| {
        let seen = &row.seen;
        let counts = [
            seen.dropped,
            seen.reconnected,
            seen.received,
            seen.holes,
            seen.duplicated,
            seen.reordered,
            seen.unrecovered,
        ];
        let mut cells = vec![row.cause.clone(), args.clients.to_string()];
        cells.extend(counts.map(|n| n.to_string()));
        cells.push(if row.healed > 0.0 { round(row.healed) } else { "–".to_owned() });
        cells
    };
    let audit = &verdict.audit;
    let mut lines: Vec<_> = rows.iter().map(line).collect();
    let whole = [
        verdict.dropped,
        verdict.reconnected,
        audit.expected,
        audit.lost + audit.mismatched,
        audit.duplicated,
        audit.reordered,
        audit.unrecovered + audit.declared_lost,
    ];
    let mut cells = vec!["**whole run, against the topic**".to_owned(), args.clients.to_string()];
    cells.extend(whole.map(|n| n.to_string()));
    cells.push("–".to_owned());
    lines.push(cells);
    let title = format!(
        "{SHARDS} shards, {GATEWAYS} gateways, {} clients on {} channels, {} records/s of {} B for {} s.",
        args.clients, args.channels, args.rate, args.len, args.seconds
    );
    let columns = [
        "cause",
        "clients",
        "connections lost",
        "reconnects",
        "deliveries",
        "lost",
        "duplicated",
        "reordered",
        "recovered: false",
        "seconds to recovery",
    ];
    report.table(&title, &columns, lines);
    report.goal("causes that were recovered from", Target::Exactly(args.causes.len() as f64), rows.len() as f64 - 1.0);
    report.goal("deliveries compared with the topic", Target::AtLeast(1.0), audit.expected as f64);
    report.goal("lost deliveries", Target::Exactly(0.0), audit.lost as f64);
    report.goal("clients whose messages differ from the topic", Target::Exactly(0.0), audit.mismatched as f64);
    report.goal("duplicate deliveries", Target::Exactly(0.0), audit.duplicated as f64);
    report.goal("reordered deliveries", Target::Exactly(0.0), audit.reordered as f64);
    let unrecovered = audit.unrecovered + audit.declared_lost;
    report.goal("`recovered: false` and `gap` messages", Target::Exactly(0.0), unrecovered as f64);
    report.goal("clients that did not return", Target::Exactly(0.0), verdict.failed as f64);
    report.data("rows", rows);
    report.data("verdict", verdict);
    report.note("The figures of a row cover the time from one second before its cause until the next cause; losses in them are detected by positions. The last row compares everything that each client received with the records of the topic.");
    report.note(format!("Failed attempts and lost connections by name: {}.", verdict.reasons()));
    if verdict.generator.bottleneck {
        report.note(format!("The tester was a bottleneck: {}", verdict.generator.reasons.join("; ")));
    }
}
