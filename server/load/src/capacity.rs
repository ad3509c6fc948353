//! `--find-capacity`: how many connections one shard holds on this machine. For each message rate it raises the number
//! of connections until a limit breaks. Every step runs against a fresh shard ([`subject`]).
//!
//! If this tester or another program was the bottleneck of a step, the answer is only a lower bound ("at least").

mod cpu;
mod evidence;
mod limits;
mod search;
mod subject;

use std::process::ExitCode;

use cpu::CpuUse;
use evidence::{Evidence, Holds, Row};
pub(super) use limits::Limits;
use search::Search;
use subject::{Subject, SubjectError};
use wscluster_runtime::args::Output;

use super::args::Args;
use super::coordinator::{Run, RunError, coordinate};
use super::report::Report;
use super::schedule::Rate;
use super::settings::{self, UsageError, range};
use super::{COULD_NOT_RUN, USAGE, fail};

/// Default channels.
const CHANNELS: &str = "K{0..9}.trade";
/// Default number of clients started per second.
const RATE: f64 = 1_000.0;

/// The search failed.
#[derive(Debug, thiserror::Error)]
enum CapacityError {
    #[error(transparent)]
    Usage(#[from] UsageError),
    #[error(transparent)]
    Subject(#[from] SubjectError),
    #[error(transparent)]
    Run(#[from] RunError),
    #[error("{0}")]
    NotCompared(String),
}

/// Runs the search and prints its result.
pub(super) async fn run(args: &Args, files: u64) -> ExitCode {
    match find(args, files).await {
        Ok(evidence) => {
            let text = match args.output {
                Output::Text => evidence.to_string(),
                Output::Json => serde_json::to_string(&evidence).unwrap_or_default() + "\n",
            };
            // Standard output may be closed.
            let _ = std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes());
            if evidence.interrupted { ExitCode::from(COULD_NOT_RUN) } else { ExitCode::SUCCESS }
        }
        Err(CapacityError::Usage(error)) => fail(USAGE, &error),
        Err(error) => fail(COULD_NOT_RUN, &error),
    }
}

async fn find(args: &Args, files: u64) -> Result<Evidence, CapacityError> {
    check(args)?;
    let mut evidence = Evidence::new(args);
    let mut rates = args.message_rates.clone();
    rates.sort_by(f64::total_cmp);
    let mut most = args.max_connections;
    for message_rate in rates {
        let mut search = Search::new(most);
        while let Some(connections) = search.next() {
            // A limit must break twice: the first time may be a disturbance of the machine.
            let mut held = false;
            for _ in 0..2 {
                let row = step(args, files, connections, message_rate).await?;
                if row.interrupted {
                    evidence.interrupted = true;
                    return Ok(evidence);
                }
                if !args.quiet {
                    eprintln!("{row}");
                }
                held = row.broken.is_empty();
                evidence.rows.push(row);
                if held {
                    break;
                }
            }
            search.learn(held);
        }
        let best = search.holds();
        let above = |row: &&Row| row.is_at(message_rate) && !row.broken.is_empty() && Some(row.connections) > best;
        let first_broken = evidence.rows.iter().filter(above).min_by_key(|row| row.connections).cloned();
        evidence.holds.push(Holds::new(message_rate, best, first_broken.as_ref()));
        // A higher message rate never allows more clients.
        most = best.unwrap_or(0);
        if most == 0 {
            break;
        }
    }
    Ok(evidence)
}

fn check(args: &Args) -> Result<(), UsageError> {
    range("--max-connections", args.max_connections, args.max_connections >= 1, "1 or more")?;
    range("--fail-on", "with --find-capacity", args.fail_on.is_empty(), "use --limit")?;
    let fed = (args.url().is_none() && args.shard.is_empty()) || args.topic.is_some();
    range("--topic", "absent", fed, "name --kafka, --topic and --channels of the server under test")
}

/// Connects `connections` clients and sends each `message_rate` messages a second through the hold.
async fn step(args: &Args, files: u64, connections: u32, message_rate: f64) -> Result<Row, CapacityError> {
    let mut step = args.clone();
    step.connections = connections;
    step.rate = Some(args.rate.unwrap_or(Rate::PerSecond(RATE)));
    step.quiet = true;
    if u64::from(connections) + settings::SPARE_FILES <= files {
        // All CPU time outside the server and this process counts as that of other programs.
        step.processes = 1;
    }
    if step.channels.is_empty() {
        step.channels = vec![CHANNELS.to_owned()];
    }
    let mut subject = Subject::start(&mut step, connections).await?;
    let mut run = settings::run(&step, files)?;
    // Each client subscribes to a share of the channels, so each record reaches that share of the clients.
    let channels = run.plan.channels.len() as f64;
    let per_client = run.plan.channels_of(0).len().max(1) as f64;
    run.publish_rate = message_rate * channels / per_client;
    run.publish_in_hold = true;
    let report = coordinate(&run, |mark| subject.mark(mark)).await?;
    if let Some(reason) = &report.audit.not_compared {
        return Err(CapacityError::NotCompared(reason.clone()));
    }
    let seen = subject.finish().await;
    Ok(row(args, &run, &report, message_rate, seen))
}

/// Percentage of one CPU that other programs may use before they count as a disturbance.
const OTHERS_PERCENT: f64 = 25.0;

fn row(args: &Args, run: &Run, report: &Report, message_rate: f64, seen: CpuUse) -> Row {
    let hold = run.plan.schedule.hold.as_secs_f64().max(1e-3);
    let mut disturbed_by = report.generator.reasons.clone();
    if let Some(others) = seen.others_cpu_percent.filter(|others| *others > OTHERS_PERCENT) {
        disturbed_by.push(format!("other programs used {others:.0} % of a CPU"));
    }
    let mut row = Row {
        connections: report.planned as u32,
        message_rate,
        deliveries_per_second: report.messages.deliveries as f64 / hold,
        delivery_p50_ms: report.latency_ms.delivery.p50,
        delivery_p99_ms: report.latency_ms.delivery.p99,
        upgrade_p99_ms: report.latency_ms.upgrade.p99,
        cpu_percent: seen.cpu_percent,
        rss_bytes: seen.rss_bytes,
        lost: report.audit.lost + report.audit.declared_lost,
        failed: report.failed + report.dropped,
        tester_cpu_percent: report.generator.cpu_percent,
        others_cpu_percent: seen.others_cpu_percent,
        disturbed_by,
        interrupted: report.interrupted,
        broken: Vec::new(),
    };
    row.broken = args.limit.broken_by(&row, args.shard_workers);
    row
}
