//! All output of a run. Standard output gets results: for people the addresses and what happens, for programs one JSON object
//! a line. Standard error gets the log lines of all children and, on a terminal, the live line below them.
//!
//! Nothing here waits for a reader ([`wscluster_runtime::nonblocking_writer`]): a terminal that stands still stops neither the run nor Ctrl-C. What a program
//! reads too slowly waits for it; only beyond [`RESULTS`] something is dropped, and an event says so.

use std::io::{self, IsTerminal as _};
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

use serde::Serialize;
use wscluster_runtime::args::Output;
use wscluster_runtime::logs::{self, LogFormat};
use wscluster_runtime::nonblocking_writer::{Raw, Spool};

use super::event::{Event, Timed};
use super::ready_message::Ready;
use super::state::Board;
use super::traffic::Rates;

/// Without a terminal the state is told at most this often, and only when it changed.
const QUIET: Duration = Duration::from_secs(10);
/// More shards than this are summed up on the live line.
const SHARDS_SHOWN: usize = 8;
/// Bytes of results that may wait for their reader: some hundred thousand events.
pub const RESULTS: usize = 64 << 20;
/// At the end, a reader of results that takes nothing for so long gets no more.
const PATIENCE: Duration = Duration::from_secs(5);
/// To the beginning of the line, and erases it.
const CLEAR: &str = "\r\x1b[2K";

/// Where output goes.
#[derive(Debug)]
pub struct Screen {
    output: Output,
    logs: LogFormat,
    out: Spool,
    err: Spool,
    /// The line below everything else, on a terminal.
    live: Option<String>,
    told: (String, Option<Instant>),
}

impl Screen {
    /// Output in the given forms.
    pub fn new(output: Output, logs: LogFormat) -> io::Result<Self> {
        let err = logs::stderr().clone();
        let live = output == Output::Text && is_one_terminal();
        // One order for all that one terminal shows.
        let out = if live { err.clone() } else { results(output, Raw(rustix::stdio::stdout()), RESULTS)? };
        Ok(Self { output, logs, out, err, live: live.then(String::new), told: (String::new(), None) })
    }

    /// The service is ready.
    pub fn ready(&self, ready: &Ready) {
        match self.output {
            Output::Text => self.out(&ready.text()),
            Output::Json => self.out(&json(ready)),
        }
    }

    /// Something happened.
    pub fn event(&self, event: &Event) {
        self.out(&written(self.output, event));
    }

    /// Something for people only, beside the results.
    pub fn note(&self, text: &str) {
        self.above(&self.err, text);
    }

    /// A child logged `line`.
    pub fn log(&self, name: &str, line: &str, dropped: u64) {
        if dropped > 0 {
            self.log(name, &logs::dropped(self.logs, dropped), 0);
        }
        match self.logs {
            LogFormat::Json => self.above(&self.err, line),
            LogFormat::Text => self.above(&self.err, &format!("{name}: {line}")),
        }
    }

    /// The state of the run, about once a second.
    pub fn state(&mut self, board: &Board, rates: Rates) {
        if self.output == Output::Json {
            return;
        }
        let line = line(board, rates);
        if let Some(live) = &mut self.live {
            // A terminal that stands still needs no old ones.
            if self.err.is_drained() {
                *live = narrow(&line);
                self.err.bytes(format!("{CLEAR}{live}").as_bytes());
            }
            return;
        }
        let due = self.told.1.is_none_or(|at| at.elapsed() >= QUIET);
        if due && self.told.0 != line {
            self.out(&line);
            self.told = (line, Some(Instant::now()));
        }
    }

    /// Takes the live line away.
    pub fn close(&mut self) {
        if self.live.take().is_some_and(|live| !live.is_empty()) {
            self.err.bytes(CLEAR.as_bytes());
        }
    }

    /// Waits until the results are read, as long as somebody reads them.
    pub fn flush(&self) {
        if !self.out.flush(PATIENCE) {
            self.note("wscluster local: nobody reads standard output: the last lines are lost");
        }
    }

    fn out(&self, text: &str) {
        self.above(&self.out, text);
    }

    fn above(&self, spool: &Spool, text: &str) {
        match &self.live {
            Some(live) => spool.bytes(format!("{CLEAR}{text}\n{live}").as_bytes()),
            None => spool.line(text),
        }
    }
}

fn written(output: Output, event: &Event) -> String {
    match output {
        Output::Text => event.to_string(),
        Output::Json => json(&Timed { time: logs::time(), event }),
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("it has text keys only")
}

/// Takes results for standard output.
fn results(output: Output, out: impl io::Write + Send + 'static, limit: usize) -> io::Result<Spool> {
    let lost = move |lines| written(output, &Event::Lost { lines });
    Spool::start(out, limit, Box::new(lost))
}

/// Whether standard output and standard error are the same terminal.
fn is_one_terminal() -> bool {
    let device = |fd: u32| std::fs::metadata(format!("/proc/self/fd/{fd}")).map(|data| data.rdev());
    io::stdout().is_terminal()
        && io::stderr().is_terminal()
        && device(1).is_ok_and(|one| device(2).is_ok_and(|two| one == two))
}

/// `line` for a terminal of any width: without the automatic margins (DECAWM) it shows what fits and wraps nothing.
fn narrow(line: &str) -> String {
    format!("\x1b[?7l{line}\x1b[?7h")
}

/// Connections per shard, rates and lag on one line.
fn line(board: &Board, rates: Rates) -> String {
    let shards = board.shards();
    let connections = if shards.len() <= SHARDS_SHOWN {
        let each = shards.iter().map(|row| match &row.health {
            Some(health) => grouped(health.connections.into()),
            None => "down".to_owned(),
        });
        each.collect::<Vec<_>>().join(" + ")
    } else {
        let known = || shards.iter().filter_map(|row| row.health.as_ref()).map(|health| health.connections);
        let (least, most) = (known().min().unwrap_or(0), known().max().unwrap_or(0));
        format!("{} of {} shards, {least} to {most} each", known().count(), shards.len())
    };
    let lag = shards.iter().filter_map(|row| row.health.as_ref()).map(|health| health.checks.kafka.lag).max();
    format!(
        "connections {connections} = {}  records/s {}  deliveries/s {}  lag {}{}",
        grouped(board.connections()),
        grouped(rates.records.round() as u64),
        grouped(rates.deliveries.round() as u64),
        lag.map_or("unknown".to_owned(), grouped),
        board.waiting().map_or_else(String::new, |reason| format!("  waiting: {reason}")),
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
    fn says_what_a_rollout_waits_for() {
        let mut board = Board::new(1);
        assert!(line(&board, Rates::default()).ends_with("lag unknown"));
        board.set_waiting(Some("2 slots are missing".into()));
        assert!(line(&board, Rates::default()).ends_with("lag unknown  waiting: 2 slots are missing"));
    }

    #[test]
    fn keeps_the_live_line_below_what_is_told() {
        let (mut reader, writer) = io::pipe().unwrap();
        let spool = Spool::start(writer, RESULTS, Box::new(|_| String::new())).unwrap();
        let mut screen = Screen {
            output: Output::Text,
            logs: LogFormat::Text,
            out: spool.clone(),
            err: spool,
            live: Some(String::new()),
            told: (String::new(), None),
        };
        screen.state(&Board::new(1), Rates::default());
        screen.log("prices-0", "hello", 2);
        screen.close();
        screen.note("over");
        screen.flush();
        let mut bytes = [0; 4_096];
        let len = io::Read::read(&mut reader, &mut bytes).unwrap();
        let text = str::from_utf8(&bytes[..len]).unwrap();
        let line = narrow(&line(&Board::new(1), Rates::default()));
        let (shown, told) = text.split_once(&format!("{CLEAR}prices-0: ")).unwrap();
        assert_eq!(shown, format!("{CLEAR}{line}"));
        let (lost, told) = told.split_once('\n').unwrap();
        assert!(lost.contains("2 log lines dropped"), "{lost}");
        assert_eq!(told, format!("{line}{CLEAR}prices-0: hello\n{line}{CLEAR}over\n"));
    }

    #[test]
    fn says_as_an_event_what_a_program_was_too_slow_for() {
        let (reader, writer) = io::pipe().unwrap();
        let out = results(Output::Json, writer, 1 << 10).unwrap();
        // More than a pipe holds, and what waits.
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
