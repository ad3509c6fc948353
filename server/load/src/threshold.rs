//! `--fail-on`: comparisons of a field of the result with a number, checked for sense before the run begins.

use std::fmt;
use std::str::FromStr;

use serde_json::Value;

use super::report::Report;

/// One comparison, e.g. `failed>0` or `latency_ms.delivery.p99>50ms`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Threshold {
    text: String,
    field: String,
    operator: Operator,
    value: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Equal,
    NotEqual,
}

/// Why an expression makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ThresholdError {
    /// No comparison.
    #[error("{0:?} is no comparison; write FIELD, one of > >= < <= == !=, and a number, e.g. failed>0")]
    Form(String),
    /// No number.
    #[error("{0:?} is no number; write e.g. 0, 99.5, 50ms or 2s")]
    Number(String),
    /// No such field.
    #[error("{field:?} is no numeric field of the result; there are: {}; and failures.NAME, drops.NAME, errors.CODE, slow.ends.NAME", known.join(", "))]
    Field {
        /// The field.
        field: String,
        /// Fields there are.
        known: Vec<String>,
    },
}

/// Maps whose keys a run makes; a key that is not there counts 0.
const MAPS: [&str; 4] = ["failures.", "drops.", "errors.", "slow.ends."];

impl FromStr for Threshold {
    type Err = ThresholdError;

    fn from_str(text: &str) -> Result<Self, ThresholdError> {
        let form = || ThresholdError::Form(text.to_owned());
        let at = text.find(['<', '>', '=', '!']).ok_or_else(form)?;
        let (field, rest) = (text[..at].trim(), &text[at..]);
        let operators = [
            (">=", Operator::GreaterOrEqual),
            ("<=", Operator::LessOrEqual),
            ("==", Operator::Equal),
            ("!=", Operator::NotEqual),
            (">", Operator::Greater),
            ("<", Operator::Less),
        ];
        let found = operators.iter().find_map(|(sign, operator)| Some((rest.strip_prefix(sign)?.trim(), *operator)));
        let (number, operator) = found.ok_or_else(form)?;
        if field.is_empty() {
            return Err(form());
        }
        let (digits, factor) = match number {
            n if n.ends_with("ms") => (&n[..n.len() - 2], 1.0),
            n if n.ends_with("us") => (&n[..n.len() - 2], 0.001),
            n if n.ends_with('s') => (&n[..n.len() - 1], 1_000.0),
            n => (n.trim_end_matches('%'), 1.0),
        };
        let value: f64 = digits.trim().parse().map_err(|_| ThresholdError::Number(number.to_owned()))?;
        let known = fields();
        if !value.is_finite() {
            return Err(ThresholdError::Number(number.to_owned()));
        }
        if !known.iter().any(|name| name == field) && !MAPS.iter().any(|map| field.starts_with(map)) {
            return Err(ThresholdError::Field { field: field.to_owned(), known });
        }
        // A plain number means the field's own unit; a unit of time is turned into milliseconds.
        Ok(Self { text: text.to_owned(), field: field.to_owned(), operator, value: value * factor })
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Threshold {
    /// How the result crosses it; none when it does not.
    pub(super) fn crossed(&self, report: &Value) -> Option<String> {
        let find = |path: &str| path.split('.').try_fold(report, |value, part| value.get(part));
        // The figures of nothing are no figures: a test that measured nothing has not passed.
        if let Some((measured, figure)) = self.field.rsplit_once('.')
            && figure != "count"
            && find(measured).is_some_and(|summary| summary.get("count") == Some(&0.into()))
        {
            return Some(format!("nothing was measured: {measured}.count is 0"));
        }
        let value = find(&self.field).map_or(0.0, number);
        let crossed = match self.operator {
            Operator::Less => value < self.value,
            Operator::LessOrEqual => value <= self.value,
            Operator::Greater => value > self.value,
            Operator::GreaterOrEqual => value >= self.value,
            Operator::Equal => (value - self.value).abs() < f64::EPSILON,
            Operator::NotEqual => (value - self.value).abs() >= f64::EPSILON,
        };
        crossed.then(|| format!("it is {value}"))
    }
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| f64::from(u8::from(value.as_bool() == Some(true))))
}

/// The numeric fields of a result, in the order of the alphabet.
pub(super) fn fields() -> Vec<String> {
    let report = Report { publisher: Some(super::topic::PublisherReport::default()), ..Report::default() };
    let mut names = Vec::new();
    walk(&serde_json::to_value(report).unwrap_or_default(), "", &mut names);
    names
}

fn walk(value: &Value, path: &str, names: &mut Vec<String>) {
    match value {
        Value::Object(members) => members.iter().for_each(|(name, value)| {
            walk(value, &if path.is_empty() { name.clone() } else { format!("{path}.{name}") }, names);
        }),
        Value::Number(_) | Value::Bool(_) => names.push(path.to_owned()),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crossed(text: &str, report: &Report) -> bool {
        how(text, report).is_some()
    }

    fn how(text: &str, report: &Report) -> Option<String> {
        text.parse::<Threshold>().unwrap().crossed(&serde_json::to_value(report).unwrap())
    }

    #[test]
    fn compares_fields_of_the_result() {
        let mut report = Report { failed: 3, interrupted: true, ..Report::default() };
        (report.latency_ms.delivery.count, report.latency_ms.delivery.p99) = (1, 60.0);
        report.failures.insert("http_503_full".to_owned(), 2);
        for yes in [
            "failed>0",
            "failed>=3",
            "failed==3",
            "failed!=4",
            "failed<4",
            "failed <= 3",
            "interrupted>0",
            "latency_ms.delivery.p99>50",
            "latency_ms.delivery.p99>50ms",
            "latency_ms.delivery.p99<1s",
            "latency_ms.delivery.p99>59000us",
            "failures.http_503_full==2",
            "failures.refused==0",
        ] {
            assert!(crossed(yes, &report), "{yes}");
        }
        for no in ["failed>3", "failed<3", "failed!=3", "drops.eof_in_hold>0", "audit.lost>0", "publisher.failed>0"] {
            assert!(!crossed(no, &report), "{no}");
        }
    }

    #[test]
    fn takes_a_figure_of_nothing_for_crossed() {
        let report = Report::default();
        for field in ["latency_ms.delivery.p99>1ms", "latency_ms.delivery.max<1s", "generator.late_ms.p50>9"] {
            let how = how(field, &report).unwrap_or_else(|| panic!("{field} is not crossed"));
            assert!(how.starts_with("nothing was measured: ") && how.ends_with(".count is 0"), "{how}");
        }
        assert_eq!(how("latency_ms.delivery.count<1", &report).unwrap(), "it is 0");
        assert!(!crossed("latency_ms.delivery.count>0", &report));
    }

    #[test]
    fn refuses_unknown_fields_and_lists_known_ones() {
        let error = "faild>0".parse::<Threshold>().unwrap_err().to_string();
        for name in ["faild", "failed", "latency_ms.upgrade.p99", "audit.lost", "publisher.published", "failures.NAME"]
        {
            assert!(error.contains(name), "{name} in {error}");
        }
        assert!("latency_ms>0".parse::<Threshold>().is_err());
        assert!("targets>0".parse::<Threshold>().is_err());
    }

    #[test]
    fn refuses_what_is_no_comparison() {
        for bad in ["", "failed", ">0", "failed=0", "failed>", "failed>many", "failed>NaN", "failed=>1"] {
            assert!(bad.parse::<Threshold>().is_err(), "{bad}");
        }
    }
}
