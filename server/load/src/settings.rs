//! Turns command line arguments into a checked run. Errors name the argument, its value and the remedy.

use wscluster_client::ReconnectPolicy;
use wscluster_client::handshake::{HeaderError, header_lines};

use super::args::Args;
use super::channels::{ChannelError, Template, expand};
use super::coordinator::Run;
use super::schedule::{Rate, Schedule};
use super::source;
use super::target::{LoadTarget, TargetError};
use super::topic::Topic;
use super::worker_plan::{Sending, WorkerPlan};

/// Most processes of a run.
const MAX_PROCESSES: u32 = 256;

/// Most clients of one process.
const CLIENTS_PER_PROCESS: u32 = 9_000;

/// Clients started per second by default.
const DEFAULT_RATE: Rate = Rate::PerSecond(100.0);

/// File descriptors a process needs beside its clients.
pub(super) const SPARE_FILES: u64 = 200;

/// The command line is wrong.
#[derive(Debug, thiserror::Error)]
pub(super) enum UsageError {
    /// Neither a URL nor a shard.
    #[error("no server to connect to; give --url, such as ws://127.0.0.1:8080/ws, or --shard HOST:PORT")]
    NoTarget,
    /// A URL or shard that cannot be used.
    #[error("target: {0}")]
    Target(#[from] TargetError),
    /// Channels or a template that cannot be used.
    #[error("--channels or --topic: {0}")]
    Channels(#[from] ChannelError),
    /// A number out of range.
    #[error("{name} {value} is out of range; {remedy}")]
    Range {
        /// The argument.
        name: &'static str,
        /// Its value.
        value: String,
        /// What is allowed.
        remedy: &'static str,
    },
    /// Not a header.
    #[error("--header: {0}")]
    Header(#[from] HeaderError),
    /// A topic without channels.
    #[error("--topic needs --channels: the channels that clients subscribe to")]
    TopicWithoutChannels,
    /// Too many clients for one process.
    #[error(
        "--processes {processes} leaves {clients} clients in each, but a process may open {files} files; take {need} or more, \
         or 0 for as many as needed"
    )]
    Files {
        /// Requested processes.
        processes: u32,
        /// Clients per process.
        clients: u32,
        /// Files that a process may open.
        files: u64,
        /// Processes needed.
        need: u64,
    },
    /// Too many clients for any number of processes.
    #[error(
        "{clients} clients do not fit: a process may open {files} files, {SPARE_FILES} of them are reserved, and there are \
         {MAX_PROCESSES} processes at most; raise the limit of open files (ulimit -n)"
    )]
    FewFiles {
        /// Requested clients.
        clients: u32,
        /// Files that a process may open.
        files: u64,
    },
}

/// An error naming `value` of the argument `name`, unless it is `good`. `remedy` states what is allowed.
#[allow(clippy::needless_pass_by_value)] // numbers and short texts
pub(super) fn range(
    name: &'static str,
    value: impl ToString,
    good: bool,
    remedy: &'static str,
) -> Result<(), UsageError> {
    if good { Ok(()) } else { Err(UsageError::Range { name, value: value.to_string(), remedy }) }
}

/// The run that `args` describes. `files` is the number of files that a process may open.
pub(super) fn run(args: &Args, files: u64) -> Result<Run, UsageError> {
    let mut targets = args.shard.iter().map(|shard| LoadTarget::of_shard(shard)).collect::<Result<Vec<_>, _>>()?;
    if let Some(url) = args.url() {
        targets.push(LoadTarget::of_url(url)?);
    }
    let first = targets.first().ok_or(UsageError::NoTarget)?.addr.ip();
    check_numbers(args)?;
    let processes = processes(args, files)?;
    let slots = processes * args.threads;
    let channels = expand(&args.channels)?;
    let topic = topic(args, &channels)?;
    let per_target = args.connections.div_ceil(targets.len() as u32);
    let mut storms: Vec<_> = args.storm_at.iter().map(|at| at.0).collect();
    storms.sort_unstable();
    let sending = match args.send_interval {
        None => Sending::Nothing,
        Some(interval) if args.echo => Sending::Echoes(interval.0),
        Some(interval) => Sending::Heartbeats(interval.0),
    };
    let rate = args.rate.unwrap_or(DEFAULT_RATE);
    let plan = WorkerPlan {
        sources: source::choose(&args.source, per_target, first),
        targets,
        headers: header_lines(args.header.iter().map(|(name, value)| (name.as_str(), value.as_str())))?,
        schedule: Schedule { clients: args.connections, rate, hold: args.hold.0, churn: args.churn, storms },
        in_flight: args.in_flight.div_ceil(slots),
        settle: args.settle.0,
        timeout: args.timeout.0,
        backoff: ReconnectPolicy { retries: args.retry, base: args.retry_base.0, max: args.retry_max.0 },
        channels,
        per_client: args.subscribe_per_client,
        sending,
        payload: args.payload.0 as usize,
        slow: args.slow,
        slow_rate: args.slow_rate.0.max(1) as usize,
        linger: if topic.is_some() { args.tail.0 } else { std::time::Duration::ZERO },
        logs: topic.is_some(),
        slots,
        slot: 0,
        threads: args.threads,
        start: 0,
    };
    Ok(Run {
        plan,
        processes,
        topic,
        publish_rate: args.publish_rate,
        publish_in_hold: false,
        tail: args.tail.0,
        progress: (!args.quiet).then_some(args.progress),
    })
}

fn check_numbers(args: &Args) -> Result<(), UsageError> {
    range("--connections", args.connections, (1..=1_000_000).contains(&args.connections), "1 to 1000000")?;
    range("--in-flight", args.in_flight, args.in_flight > 0, "1 or more")?;
    range("--threads", args.threads, (1..=256).contains(&args.threads), "1 to 256")?;
    range("--processes", args.processes, args.processes <= MAX_PROCESSES, "0 to 256")?;
    range("--payload", args.payload, args.payload.0 <= 16 << 20, "at most 16Mi")?;
    range("--timeout", args.timeout, !args.timeout.0.is_zero(), "1ms or more")?;
    let interval = args.send_interval.is_none_or(|interval| !interval.0.is_zero());
    range("--send-interval", args.send_interval.map_or(String::new(), |i| i.to_string()), interval, "1ms or more")?;
    range("--echo", "without --send-interval", !args.echo || args.send_interval.is_some(), "say how often to send")?;
    range("--echo", "with --channels", !args.echo || args.channels.is_empty(), "an echo has no channels")?;
    range("--slow", args.slow, args.slow <= args.connections, "at most --connections")
}

fn processes(args: &Args, files: u64) -> Result<u32, UsageError> {
    let room = files.saturating_sub(SPARE_FILES);
    if room.saturating_mul(MAX_PROCESSES.into()) < u64::from(args.connections) {
        return Err(UsageError::FewFiles { clients: args.connections, files });
    }
    let processes = match args.processes {
        0 => args.connections.div_ceil(CLIENTS_PER_PROCESS.min(u32::try_from(room).unwrap_or(u32::MAX))),
        processes => processes,
    };
    let clients = args.connections.div_ceil(processes);
    if u64::from(clients) > room {
        let need = u64::from(args.connections).div_ceil(room);
        return Err(UsageError::Files { processes, clients, files, need });
    }
    Ok(processes)
}

fn topic(args: &Args, channels: &[String]) -> Result<Option<Topic>, UsageError> {
    let Some(text) = &args.topic else { return Ok(None) };
    let first = channels.first().ok_or(UsageError::TopicWithoutChannels)?;
    let (name, template) = match text.split_once('=') {
        Some((name, template)) => (name, Template::parse(template, name)?),
        None => (text.as_str(), Template::of_channel(first)),
    };
    template.check(channels)?;
    Ok(Some(Topic {
        brokers: args.brokers.join(","),
        properties: args.kafka_property.clone(),
        name: name.to_owned(),
        template,
        channels: channels.to_vec(),
    }))
}

#[cfg(test)]
mod tests {
    use wscluster_runtime::args::parsed;

    use super::*;

    fn planned(files: u64, more: &[&str]) -> Result<u32, String> {
        let args = parsed([&["load", "--url", "ws://127.0.0.1:9/ws"], more].concat()).unwrap();
        run(&args, files).map(|run| run.processes).map_err(|error| error.to_string())
    }

    #[test]
    fn refuses_a_rate_of_which_no_instant_can_be_told() {
        for option in ["--rate", "--churn", "--publish-rate", "--message-rates"] {
            let line = ["load", "--brokers", "b:1", "--topic", "t", option, "1e-20"];
            let error = parsed::<Args>(line).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            let error = error.to_string();
            assert!(error.contains(&format!("'1e-20' for '{option} ")) && error.contains("0.001 or more"), "{error}");
        }
    }

    #[test]
    fn names_the_limit_of_open_files_where_processes_would_not_help() {
        assert_eq!(planned(1_024, &["-c", "1000"]), Ok(2));
        let error = planned(1_024, &["-c", "1000", "--processes", "1"]).unwrap_err();
        assert!(error.contains("take 2 or more"), "{error}");
        for (files, clients) in [(32, "1"), (200, "1"), (201, "257")] {
            let error = planned(files, &["-c", clients, "--processes", "1"]).unwrap_err();
            assert!(error.contains(&format!("may open {files} files")) && error.contains("ulimit -n"), "{error}");
        }
    }
}
