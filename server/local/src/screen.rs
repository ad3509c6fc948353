//! All output of a run. Standard output gets the ready message and the events: as text for people, or as one JSON
//! object per line for programs. Standard error gets the log lines of all children and, on a terminal, the live line
//! below them.
//!
//! Output never blocks ([`wscluster_runtime::nonblocking_writer`]): a terminal that is paused (Ctrl-S) stops neither
//! the run nor Ctrl-C. Up to [`RESULTS`] bytes wait for a slow reader of standard output. Beyond that, lines are
//! dropped, and an event reports their number.

use std::io::{self, IsTerminal as _};
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

use serde::Serialize;
use wscluster_runtime::args::Output;
use wscluster_runtime::logs::{self, LogFormat};
use wscluster_runtime::nonblocking_writer::{NonblockingWriter, Raw};

use super::event::{Event, TimedEvent};
use super::ready_message::ReadyMessage;
use super::state::RunState;
use super::traffic::TrafficRates;

/// Minimum time between two state lines without a terminal.
const STATE_INTERVAL: Duration = Duration::from_secs(10);
/// With more shards than this, the live line has their sum instead of each.
const SHARDS_SHOWN: usize = 8;
/// Bytes that may wait for the reader of standard output: some hundred thousand events.
pub(crate) const RESULTS: usize = 64 << 20;
/// At the end, output is given up once the reader of standard output takes nothing for this long.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);
/// Moves to the beginning of the line and erases it.
const CLEAR: &str = "\r\x1b[2K";

/// The writers of standard output and standard error.
#[derive(Debug)]
pub(crate) struct Screen {
    output: Output,
    logs: LogFormat,
    out: NonblockingWriter,
    err: NonblockingWriter,
    /// The line below everything else, on a terminal.
    live: Option<String>,
    /// The last state line without a terminal, and when it was written.
    last_state: (String, Option<Instant>),
}

impl Screen {
    /// Events in the format `output`, log lines of children in the format `logs`.
    pub(crate) fn new(output: Output, logs: LogFormat) -> io::Result<Self> {
        let err = logs::stderr().clone();
        let live = output == Output::Text && is_one_terminal();
        // One writer for one terminal keeps the order of lines.
        let out = if live { err.clone() } else { results(output, Raw(rustix::stdio::stdout()), RESULTS)? };
        Ok(Self { output, logs, out, err, live: live.then(String::new), last_state: (String::new(), None) })
    }

    /// Writes the ready message.
    pub(crate) fn ready(&self, ready: &ReadyMessage) {
        match self.output {
            Output::Text => self.out(&ready.text()),
            Output::Json => self.out(&json(ready)),
        }
    }

    /// Writes an event.
    pub(crate) fn event(&self, event: &Event) {
        self.out(&written(self.output, event));
    }

    /// Writes a message for people to standard error.
    pub(crate) fn note(&self, text: &str) {
        self.above(&self.err, text);
    }

    /// Writes a log line of a child, after a notice if `dropped` lines before it were lost.
    pub(crate) fn log(&self, name: &str, line: &str, dropped: u64) {
        if dropped > 0 {
            self.log(name, &logs::dropped(self.logs, dropped), 0);
        }
        match self.logs {
            LogFormat::Json => self.above(&self.err, line),
            LogFormat::Text => self.above(&self.err, &format!("{name}: {line}")),
        }
    }

    /// Shows the state of the run; called about once a second.
    pub(crate) fn state(&mut self, state: &RunState, rates: TrafficRates) {
        if self.output == Output::Json {
            return;
        }
        let line = line(state, rates);
        if let Some(live) = &mut self.live {
            // A paused terminal would get outdated lines later.
            if self.err.is_drained() {
                *live = narrow(&line);
                self.err.bytes(format!("{CLEAR}{live}").as_bytes());
            }
            return;
        }
        let due = self.last_state.1.is_none_or(|at| at.elapsed() >= STATE_INTERVAL);
        if due && self.last_state.0 != line {
            self.out(&line);
            self.last_state = (line, Some(Instant::now()));
        }
    }

    /// Removes the live line.
    pub(crate) fn close(&mut self) {
        if self.live.take().is_some_and(|live| !live.is_empty()) {
            self.err.bytes(CLEAR.as_bytes());
        }
    }

    /// Waits until standard output has been read, while its reader makes progress.
    pub(crate) fn flush(&self) {
        if !self.out.flush(FLUSH_TIMEOUT) {
            self.note("wscluster local: nobody reads standard output; its last lines are lost");
        }
    }

    fn out(&self, text: &str) {
        self.above(&self.out, text);
    }

    fn above(&self, out: &NonblockingWriter, text: &str) {
        match &self.live {
            Some(live) => out.bytes(format!("{CLEAR}{text}\n{live}").as_bytes()),
            None => out.line(text),
        }
    }
}

fn written(output: Output, event: &Event) -> String {
    match output {
        Output::Text => event.to_string(),
        Output::Json => json(&TimedEvent { time: logs::time(), event }),
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("it has text keys only")
}

/// The writer of standard output.
fn results(output: Output, out: impl io::Write + Send + 'static, limit: usize) -> io::Result<NonblockingWriter> {
    let lost = move |lines| written(output, &Event::Lost { lines });
    NonblockingWriter::start(out, limit, Box::new(lost))
}

/// Whether standard output and standard error are the same terminal.
fn is_one_terminal() -> bool {
    let device = |fd: u32| std::fs::metadata(format!("/proc/self/fd/{fd}")).map(|data| data.rdev());
    io::stdout().is_terminal()
        && io::stderr().is_terminal()
        && device(1).is_ok_and(|one| device(2).is_ok_and(|two| one == two))
}

/// `line` for a terminal of any width: with auto-wrap (DECAWM) off, the terminal cuts it instead of wrapping.
fn narrow(line: &str) -> String {
    format!("\x1b[?7l{line}\x1b[?7h")
}

/// Connections of each shard, rates and lag on one line.
fn line(state: &RunState, rates: TrafficRates) -> String {
    let shards = state.shards();
    let connections = if shards.len() <= SHARDS_SHOWN {
        let each = shards.iter().map(|child| match &child.health {
            Some(health) => grouped(health.connections.into()),
            None => "down".to_owned(),
        });
        each.collect::<Vec<_>>().join(" + ")
    } else {
        let known = || shards.iter().filter_map(|child| child.health.as_ref()).map(|health| health.connections);
        let (least, most) = (known().min().unwrap_or(0), known().max().unwrap_or(0));
        format!("{} of {} shards, {least} to {most} each", known().count(), shards.len())
    };
    let lag = shards.iter().filter_map(|child| child.health.as_ref()).map(|health| health.checks.kafka.lag).max();
    format!(
        "connections {connections} = {}  records/s {}  deliveries/s {}  lag {}{}",
        grouped(state.connections()),
        grouped(rates.records.round() as u64),
        grouped(rates.deliveries.round() as u64),
        lag.map_or("unknown".to_owned(), grouped),
        state.waiting().map_or_else(String::new, |reason| format!("  waiting: {reason}")),
    )
}

/// `12345` as `12,345`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_the_condition_that_a_rollout_waits_for() {
        let mut state = RunState::new(1);
        assert!(line(&state, TrafficRates::default()).ends_with("lag unknown"));
        state.set_waiting(Some("2 slots are missing".into()));
        assert!(line(&state, TrafficRates::default()).ends_with("lag unknown  waiting: 2 slots are missing"));
    }

    #[test]
    fn keeps_the_live_line_below_other_output() {
        let (mut reader, writer) = io::pipe().unwrap();
        let terminal = NonblockingWriter::start(writer, RESULTS, Box::new(|_| String::new())).unwrap();
        let mut screen = Screen {
            output: Output::Text,
            logs: LogFormat::Text,
            out: terminal.clone(),
            err: terminal,
            live: Some(String::new()),
            last_state: (String::new(), None),
        };
        screen.state(&RunState::new(1), TrafficRates::default());
        screen.log("prices-0", "hello", 2);
        screen.close();
        screen.note("over");
        screen.flush();
        let mut bytes = [0; 4_096];
        let len = io::Read::read(&mut reader, &mut bytes).unwrap();
        let text = str::from_utf8(&bytes[..len]).unwrap();
        let line = narrow(&line(&RunState::new(1), TrafficRates::default()));
        let (shown, rest) = text.split_once(&format!("{CLEAR}prices-0: ")).unwrap();
        assert_eq!(shown, format!("{CLEAR}{line}"));
        let (lost, rest) = rest.split_once('\n').unwrap();
        assert!(lost.contains("2 log lines dropped"), "{lost}");
        assert_eq!(rest, format!("{line}{CLEAR}prices-0: hello\n{line}{CLEAR}over\n"));
    }

    #[test]
    fn reports_lines_that_a_program_was_too_slow_for() {
        let (reader, writer) = io::pipe().unwrap();
        let out = results(Output::Json, writer, 1 << 10).unwrap();
        // More than the pipe and the writer hold.
        (0..100_000).for_each(|_| out.line("{}"));
        let mut lines = io::BufRead::lines(io::BufReader::new(reader)).map(Result::unwrap);
        let lost = lines.find(|line| line != "{}").unwrap();
        let lost: serde_json::Value = serde_json::from_str(&lost).unwrap();
        assert!(lost["event"] == "lost" && lost["lines"].as_u64() > Some(0) && lost["time"].is_string(), "{lost}");
    }

    #[test]
    fn groups_digits_by_three() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (12_345_678, "12,345,678")] {
            assert_eq!(grouped(number), text);
        }
    }
}
