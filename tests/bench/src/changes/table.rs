//! The table of the report, and the goals for each row.

use super::{Args, Row};
use crate::local::Verdict;
use crate::report::{Report, Target, round};

impl Row {
    /// Sum over all its clients.
    fn sum(&self, of: fn(&Verdict) -> u64) -> u64 {
        of(&self.verdict) + self.crowd.as_ref().map_or(0, of)
    }

    fn cells(&self) -> Vec<String> {
        let crowd = self.crowd.as_ref().map_or_else(String::new, |crowd| format!(" + {}", crowd.planned));
        vec![
            self.cause.clone(),
            format!("{}{crowd}", self.verdict.planned),
            self.sum(|v| v.reconnected).to_string(),
            format!("{:.0}", self.peak),
            format!("{:.0}", self.peak_of_three),
            self.rate.to_string(),
            self.sum(|v| v.failed_attempts).to_string(),
            self.sum(lost).to_string(),
            self.sum(twice).to_string(),
            format!("{} / {}", self.slots.over, self.slots.seen),
            format!("{} s", round(self.took)),
        ]
    }
}

fn lost(verdict: &Verdict) -> u64 {
    verdict.audit.lost + verdict.audit.declared_lost + verdict.audit.mismatched
}

fn twice(verdict: &Verdict) -> u64 {
    verdict.audit.duplicated + verdict.audit.reordered
}

pub(super) fn write(report: &mut Report, args: &Args, rows: &[Row]) {
    let title = format!(
        "{} clients, {} records/s over twenty channels; shards of 160 slots, three at the start (two before the rebalance), 2 gateways. \
         Seed of the ten edits: {}.",
        args.clients, args.publish_rate, args.seed
    );
    let columns = [
        "cause",
        "clients",
        "reconnected",
        "lost connections/s at peak",
        "over 3 s",
        "evictRate",
        "failed attempts",
        "lost deliveries",
        "duplicate or reordered",
        "over capacity / checked",
        "took",
    ];
    report.table(&title, &columns, rows.iter().map(Row::cells).collect());
    let sum = |of: fn(&Verdict) -> u64| rows.iter().map(|row| row.sum(of)).sum::<u64>() as f64;
    let least = |of: fn(&Row) -> u64| rows.iter().map(of).min().unwrap_or(0) as f64;
    report.goal("failed attempts, all rows", Target::Exactly(0.0), sum(|v| v.failed_attempts));
    report.goal("clients that did not return", Target::Exactly(0.0), sum(|v| v.failed));
    report.goal("lost deliveries", Target::Exactly(0.0), sum(lost));
    report.goal("duplicate or reordered deliveries", Target::Exactly(0.0), sum(twice));
    report.goal("channels not recovered", Target::Exactly(0.0), sum(|v| v.audit.unrecovered));
    let over = rows.iter().map(|row| row.slots.overfull()).sum();
    report.goal("health answers with a shard over its capacity", Target::Exactly(0.0), over);
    let planned = rows.iter().filter(|row| row.is_planned).map(|row| row.peak_of_three / row.rate as f64);
    let steepest = planned.fold(0.0, f64::max);
    report.goal("lost connections/s over 3 s ÷ evictRate, worst planned change", Target::AtMost(1.2), steepest);
    report.goal(
        "clients that returned, in the row with the fewest",
        Target::AtLeast(1.0),
        least(|row| row.verdict.reconnected),
    );
    let audited = least(|row| if row.verdict.audit.basis == "topic" { row.verdict.audit.expected } else { 0 });
    report.goal("deliveries compared with the topic, in the row with the fewest", Target::AtLeast(1.0), audited);
    report.data("rows", rows);
    let harmed = rows.iter().filter(|row| row.sum(|v| v.failed_attempts) > 0);
    for row in harmed {
        report.note(format!("{}: failed attempts and lost connections by name: {}.", row.cause, row.verdict.reasons()));
    }
    let tired = rows.iter().filter(|row| row.verdict.generator.bottleneck).count();
    if tired > 0 {
        report.note(format!("The tester was a bottleneck in {tired} of {} rows (it shares the machine).", rows.len()));
    }
}
