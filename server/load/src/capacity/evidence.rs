//! The result of a search and its evidence: a row for each step, as a table and as JSON.

use std::fmt;

use serde::Serialize;

use super::super::args::Args;
use super::limits::Limits;

/// One step.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Row {
    /// Clients.
    pub(super) connections: u32,
    /// Messages per second to each client.
    pub(super) message_rate: f64,
    /// Messages received per second by all clients.
    pub(super) deliveries_per_second: f64,
    /// Publish to receipt, median.
    pub(super) delivery_p50_ms: f64,
    /// Publish to receipt, 99th percentile.
    pub(super) delivery_p99_ms: f64,
    /// Planned instant to 101, 99th percentile.
    pub(super) upgrade_p99_ms: f64,
    /// CPU of the server during the hold, in percent of one CPU; absent if unknown.
    pub(super) cpu_percent: Option<f64>,
    /// Memory of the server at the end of the hold.
    pub(super) rss_bytes: Option<u64>,
    /// Messages lost, announced or not.
    pub(super) lost: u64,
    /// Clients that failed or were lost.
    pub(super) failed: u64,
    /// CPU of the tester's busiest thread.
    pub(super) tester_cpu_percent: f64,
    /// CPU of other programs during the hold, in percent of one CPU; absent if unknown.
    pub(super) others_cpu_percent: Option<f64>,
    /// Causes other than the server that may have broken a limit: this tester, or other programs.
    pub(super) disturbed_by: Vec<String>,
    /// A signal ended the step early.
    #[serde(skip)]
    pub(super) interrupted: bool,
    /// Broken limits.
    pub(super) broken: Vec<String>,
}

impl Row {
    /// Whether the row belongs to the search at `message_rate`.
    pub(super) fn is_at(&self, message_rate: f64) -> bool {
        (self.message_rate - message_rate).abs() < f64::EPSILON
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = |value: Option<f64>| value.map_or_else(|| "?".to_owned(), |value| format!("{value:.0}"));
        let verdict = match (self.broken.is_empty(), self.disturbed_by.is_empty()) {
            (true, _) => "holds".to_owned(),
            (false, true) => format!("breaks: {}", self.broken.join(", ")),
            (false, false) => format!("breaks: {}; but {}", self.broken.join(", "), self.disturbed_by.join("; ")),
        };
        write!(
            f,
            "{:>11} {:>9} {:>13.0} {:>9.1} {:>9.1} {:>9.1} {:>6} {:>8} {:>6} {:>7} {:>7.0} {:>7}  {verdict}",
            self.connections,
            self.message_rate,
            self.deliveries_per_second,
            self.delivery_p50_ms,
            self.delivery_p99_ms,
            self.upgrade_p99_ms,
            known(self.cpu_percent),
            known(self.rss_bytes.map(|bytes| bytes as f64 / f64::from(1 << 20))),
            self.lost,
            self.failed,
            self.tester_cpu_percent,
            known(self.others_cpu_percent),
        )
    }
}

/// The answer at one message rate.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Holds {
    /// Messages per second to each client.
    message_rate: f64,
    /// Most connections that held; 0 if not even the smallest number did.
    connections: u32,
    /// Limits that broke above; empty if the bound of the search was reached.
    limited_by: Vec<String>,
    /// The server may hold more: no limit broke, or the step in which one broke was disturbed.
    at_least: bool,
}

impl Holds {
    /// The answer for the largest number that held and the smallest step that broke.
    pub(super) fn new(message_rate: f64, best: Option<u32>, first_broken: Option<&Row>) -> Self {
        Self {
            message_rate,
            connections: best.unwrap_or(0),
            limited_by: first_broken.map(|row| row.broken.clone()).unwrap_or_default(),
            at_least: first_broken.is_none_or(|row| !row.disturbed_by.is_empty()),
        }
    }
}

impl fmt::Display for Holds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at_least = if self.at_least { "at least " } else { "" };
        let Self { message_rate, connections, .. } = self;
        let deliveries = f64::from(*connections) * message_rate;
        write!(
            f,
            "{at_least}{connections} connections at {message_rate} messages/s each ({deliveries:.0} deliveries/s)"
        )?;
        match (self.limited_by.is_empty(), self.at_least) {
            (true, _) => f.write_str("; nothing broke up to there, where this search ended"),
            (false, true) => write!(f, "; above: {}, but not by the server alone", self.limited_by.join(", ")),
            (false, false) => write!(f, "; above: {}", self.limited_by.join(", ")),
        }
    }
}

/// The result of a search.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Evidence {
    /// CPU model.
    cpu_model: String,
    /// CPUs that this process may use. The tester, the broker and the server share them.
    cpus: usize,
    /// The server under test.
    subject: String,
    /// Limits.
    limits: Limits,
    /// Duration of the hold of each step.
    hold_seconds: f64,
    /// Bytes of a record's value.
    payload_bytes: u64,
    /// Steps in the order of their execution.
    pub(super) rows: Vec<Row>,
    /// The largest number of connections that passed, for each message rate.
    pub(super) holds: Vec<Holds>,
    /// The search ended early, so `holds` is incomplete.
    pub(super) interrupted: bool,
}

impl Evidence {
    /// Evidence without a step.
    pub(super) fn new(args: &Args) -> Self {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let subject = match (args.url(), &args.shard[..]) {
            (Some(url), _) => url.clone(),
            (None, []) => format!("one shard with {} worker(s), started for each step", args.shard_workers),
            (None, shards) => format!("shards {}", shards.join(", ")),
        };
        Self {
            cpu_model: model.map_or_else(|| "unknown CPU".to_owned(), |(_, model)| model.to_owned()),
            cpus: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            subject,
            limits: args.limit,
            hold_seconds: args.hold.0.as_secs_f64(),
            payload_bytes: args.payload.0,
            rows: Vec::new(),
            holds: Vec::new(),
            interrupted: false,
        }
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cpus, cpu_model, subject, hold_seconds, payload_bytes, .. } = self;
        writeln!(f, "machine  {cpus} × {cpu_model}, shared by the server, its broker and this tester")?;
        writeln!(f, "subject  {subject}")?;
        writeln!(f, "step     {hold_seconds} s of hold, records of {payload_bytes} bytes\n")?;
        let names = [
            "connections",
            "msgs/s",
            "deliveries/s",
            "p50 ms",
            "p99 ms",
            "101 p99",
            "cpu %",
            "rss MiB",
            "lost",
            "failed",
            "tester",
            "others",
        ];
        let widths = [11, 9, 13, 9, 9, 9, 6, 8, 6, 7, 7, 7];
        let head: Vec<_> = names.iter().zip(widths).map(|(name, width)| format!("{name:>width$}")).collect();
        writeln!(f, "{}", head.join(" "))?;
        self.rows.iter().try_for_each(|row| writeln!(f, "{row}"))?;
        writeln!(f, "\nIt holds{}:", if self.interrupted { " (search interrupted)" } else { "" })?;
        self.holds.iter().try_for_each(|holds| writeln!(f, "- {holds}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_no_limit_of_the_server_where_the_tester_was_one() {
        let row =
            Row { broken: vec!["p99 61 ms > 50 ms".into()], disturbed_by: vec!["the tester".into()], ..Row::default() };
        assert!(Holds::new(1.0, Some(500), Some(&row)).to_string().starts_with("at least 500 connections"));
        let row = Row { disturbed_by: Vec::new(), ..row };
        let text = Holds::new(1.0, Some(500), Some(&row)).to_string();
        assert_eq!(text, "500 connections at 1 messages/s each (500 deliveries/s); above: p99 61 ms > 50 ms");
        assert!(Holds::new(1.0, Some(500), None).to_string().contains("nothing broke"));
    }
}
