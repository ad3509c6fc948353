//! All output of a run. Standard output gets results: for people the addresses and what happens, for programs one JSON object
//! a line. Standard error gets the log lines of all children and, on a terminal, the live line below them.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::board::Board;
use super::event::{Event, Timed};
use super::ready::Ready;
use super::traffic::Rates;
use crate::cli::Output;
use crate::telemetry::{self, LogFormat};

/// Without a terminal the state is told at most this often, and only when it changed.
const QUIET: Duration = Duration::from_secs(10);
/// More shards than this are summed up on the live line.
const SHARDS_SHOWN: usize = 8;

/// Where output goes.
#[derive(Debug)]
pub struct Screen {
    output: Output,
    logs: LogFormat,
    live: Option<ProgressBar>,
    told: (String, Option<Instant>),
}

impl Screen {
    /// Output in the given forms.
    pub fn new(output: Output, logs: LogFormat) -> Self {
        let live = output == Output::Text && std::io::stderr().is_terminal() && std::io::stdout().is_terminal();
        let live = live.then(|| {
            let style = ProgressStyle::with_template("{spinner} {wide_msg}").expect("the template is constant");
            ProgressBar::new_spinner().with_style(style)
        });
        Self { output, logs, live, told: (String::new(), None) }
    }

    /// The service is ready.
    pub fn ready(&self, ready: &Ready) {
        match self.output {
            Output::Text => self.out(&ready.text()),
            Output::Json => self.json(ready),
        }
    }

    /// Something happened.
    pub fn event(&self, event: &Event) {
        match self.output {
            Output::Text => self.out(&event.to_string()),
            Output::Json => self.json(&Timed { time: telemetry::time(), event }),
        }
    }

    /// Something for people only, beside the results.
    pub fn note(&self, text: &str) {
        self.err(text);
    }

    /// A child logged `line`.
    pub fn log(&self, name: &str, line: &str, dropped: u64) {
        match self.logs {
            LogFormat::Json => self.err(line),
            LogFormat::Text if dropped > 0 => self.err(&format!("{name}: ({dropped} lines lost)\n{name}: {line}")),
            LogFormat::Text => self.err(&format!("{name}: {line}")),
        }
    }

    /// The state of the run, about once a second.
    pub fn state(&mut self, board: &Board, rates: Rates) {
        if self.output == Output::Json {
            return;
        }
        let line = line(board, rates);
        if let Some(live) = &self.live {
            live.set_message(line);
            live.tick();
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
        if let Some(live) = self.live.take() {
            live.finish_and_clear();
        }
    }

    fn json(&self, value: &impl Serialize) {
        self.out(&serde_json::to_string(value).expect("it has text keys only"));
    }

    // A reader that went away is no reason to end the service: write errors are ignored.
    fn out(&self, text: &str) {
        self.above(|| {
            let mut out = std::io::stdout().lock();
            let _ = writeln!(out, "{text}").and_then(|()| out.flush());
        });
    }

    fn err(&self, text: &str) {
        self.above(|| {
            let _ = writeln!(std::io::stderr(), "{text}");
        });
    }

    fn above(&self, write: impl FnOnce()) {
        match &self.live {
            Some(live) => live.suspend(write),
            None => write(),
        }
    }
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
    fn groups_digits_by_three() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (12_345_678, "12,345,678")] {
            assert_eq!(grouped(number), text);
        }
    }
}
