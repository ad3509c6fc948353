//! The report of a bench: tables in Markdown, which docs include unchanged, goals with the values reached, and the same
//! as JSON in `target/bench/NAME.json`. The text is also in `NAME.md`, for the docs.

use std::path::PathBuf;
use std::time::Instant;

use serde::Serialize;
use serde_json::{Value, json};

use crate::error::{Doing as _, Result};
use crate::machine::Machine;

/// A report that is being built.
#[derive(Debug)]
pub struct Report {
    name: &'static str,
    began: Instant,
    machine: Machine,
    peers: Vec<(String, String)>,
    tables: Vec<Table>,
    goals: Vec<Goal>,
    notes: Vec<String>,
    data: Value,
}

#[derive(Debug, Serialize)]
struct Table {
    title: String,
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
}

/// A goal.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// At most this.
    AtMost(f64),
    /// At least this.
    AtLeast(f64),
    /// Exactly this.
    Exactly(f64),
}

impl Target {
    fn met(self, reached: f64) -> bool {
        match self {
            Self::AtMost(limit) => reached <= limit,
            Self::AtLeast(limit) => reached >= limit,
            Self::Exactly(value) => (reached - value).abs() < f64::EPSILON,
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtMost(limit) => format!("≤ {limit}"),
            Self::AtLeast(limit) => format!("≥ {limit}"),
            Self::Exactly(value) => format!("= {value}"),
        }
    }
}

#[derive(Debug, Serialize)]
struct Goal {
    what: String,
    target: Target,
    reached: f64,
    met: bool,
}

impl Report {
    /// An empty report of bench `name`.
    pub fn begin(name: &'static str) -> Self {
        let machine = Machine::here();
        eprintln!("bench {name}: {} × {}, load {:.2}", machine.cpus, machine.cpu, machine.load_before);
        Self {
            name,
            began: Instant::now(),
            machine,
            peers: vec![],
            tables: vec![],
            goals: vec![],
            notes: vec![],
            data: json!({}),
        }
    }

    /// Adds a compared program and its version.
    pub fn peer(&mut self, name: &str, version: impl Into<String>) {
        self.peers.push((name.to_owned(), version.into()));
    }

    /// Adds a table. Every row must have as many cells as `columns`.
    pub fn table(&mut self, title: &str, columns: &[&str], rows: Vec<Vec<String>>) {
        let columns = columns.iter().map(|&column| column.to_owned()).collect();
        self.tables.push(Table { title: title.to_owned(), columns, rows });
    }

    /// Adds a goal and the value reached.
    pub fn goal(&mut self, what: impl Into<String>, target: Target, reached: f64) {
        self.goals.push(Goal { what: what.into(), target, reached, met: target.met(reached) });
    }

    /// Adds a remark that readers need to judge the figures.
    pub fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// Adds raw samples under `key`, only to the JSON.
    pub fn data(&mut self, key: &str, value: impl Serialize) {
        self.data[key] = serde_json::to_value(value).unwrap_or(Value::Null);
    }

    /// Prints progress on standard error.
    pub fn progress(&self, text: impl std::fmt::Display) {
        eprintln!("[{:5.1} s] {text}", self.began.elapsed().as_secs_f64());
    }

    /// Prints the report and writes its files. Returns whether every goal was met.
    pub fn finish(self) -> Result<bool> {
        let text = self.markdown();
        println!("{text}");
        let met = self.goals.iter().all(|goal| goal.met);
        let value = json!({
            "bench": self.name,
            "machine": self.machine,
            "peers": self.peers.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
            "seconds": self.began.elapsed().as_secs_f64(),
            "tables": self.tables,
            "goals": self.goals,
            "met": met,
            "notes": self.notes,
            "data": self.data,
        });
        let path = directory()?.join(format!("{}.md", self.name));
        std::fs::write(&path, text).doing(format!("write {}", path.display()))?;
        let path = path.with_extension("json");
        std::fs::write(&path, format!("{value:#}\n")).doing(format!("write {}", path.display()))?;
        eprintln!("written: {}", path.display());
        Ok(met)
    }

    fn markdown(&self) -> String {
        let m = &self.machine;
        let mut text = format!(
            "### bench-{}\n\nMachine: {} × {}, {} GiB, Linux {}; load average before: {:.2}; commit {}; took {:.0} s.\n",
            self.name,
            m.cpus,
            m.cpu,
            m.memory_gib,
            m.kernel,
            m.load_before,
            m.commit,
            self.began.elapsed().as_secs_f64()
        );
        for (name, version) in &self.peers {
            text += &format!("- {name}: {version}\n");
        }
        for table in &self.tables {
            text += &format!("\n{}\n\n{}", table.title, markdown_table(&table.columns, &table.rows));
        }
        if !self.goals.is_empty() {
            let rows = self.goals.iter().map(|goal| {
                let verdict = if goal.met { "met" } else { "**not met**" };
                vec![goal.what.clone(), goal.target.text(), round(goal.reached), verdict.to_owned()]
            });
            let columns = ["goal", "target", "reached", ""].map(str::to_owned);
            text += &format!("\n{}", markdown_table(&columns, &rows.collect::<Vec<_>>()));
        }
        for note in &self.notes {
            text += &format!("\n- {note}");
        }
        text + "\n"
    }
}

/// The folder for results and logs of benches: `target/bench` in the current directory.
pub fn directory() -> Result<PathBuf> {
    let path = PathBuf::from("target/bench");
    std::fs::create_dir_all(&path).doing("create target/bench")?;
    Ok(path)
}

fn markdown_table(columns: &[String], rows: &[Vec<String>]) -> String {
    let width = |i: usize| rows.iter().map(|row| &row[i]).chain([&columns[i]]).map(|s| s.chars().count()).max();
    let widths: Vec<usize> = (0..columns.len()).map(|i| width(i).unwrap_or(0)).collect();
    let line = |cells: &[String]| {
        let cells = cells.iter().zip(&widths).map(|(cell, &width)| format!(" {cell:width$} |"));
        format!("|{}\n", cells.collect::<String>())
    };
    let rule: Vec<_> = widths.iter().map(|&width| "-".repeat(width + 2)).collect();
    let rows = rows.iter().map(|row| line(row)).collect::<String>();
    format!("{}|{}|\n{rows}", line(columns), rule.join("|"))
}

/// Three significant digits.
pub fn round(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 || v == 0.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// The median of `values` (mean of the two middle ones for an even count); NaN for no values.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match (sorted.len(), sorted.len() / 2) {
        (0, _) => f64::NAN,
        (n, half) if n % 2 == 0 => f64::midpoint(sorted[half - 1], sorted[half]),
        (_, half) => sorted[half],
    }
}

/// `median (lowest–highest)`.
pub fn spread(values: &[f64]) -> String {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!("{} ({}–{})", round(median(values)), round(low), round(high))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_middle() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn says_when_a_goal_is_missed() {
        assert!(Target::AtMost(0.9).met(0.9) && !Target::AtMost(0.9).met(0.91));
        assert!(Target::AtLeast(6.0).met(6.0) && !Target::AtLeast(6.0).met(5.9));
        assert!(Target::Exactly(0.0).met(0.0) && !Target::Exactly(0.0).met(1.0));
        assert!(!Target::AtMost(1.0).met(f64::NAN));
    }

    #[test]
    fn aligns_columns() {
        let table = markdown_table(&["a".into(), "b".into()], &[vec!["long".into(), "µ".into()]]);
        assert_eq!(table, "| a    | b |\n|------|---|\n| long | µ |\n");
    }
}
