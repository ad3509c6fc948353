//! The result of a check, as one line of text and as a JSON object.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    /// The check passed.
    Ok,
    /// The check failed.
    Failed,
    /// The check could not run.
    Skipped,
}

/// A check and its result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// Name of the check.
    pub(crate) check: &'static str,
    /// Its result.
    pub(crate) verdict: Verdict,
    /// What was found, with numbers.
    pub(crate) detail: String,
    /// How to make the check pass or run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) remedy: Option<String>,
}

impl Finding {
    /// The check passed.
    pub(crate) fn ok(check: &'static str, detail: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Ok, detail: detail.into(), remedy: None }
    }

    /// The check failed.
    pub(crate) fn failed(check: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Failed, detail: detail.into(), remedy: Some(remedy.into()) }
    }

    /// The check could not run; `remedy` is how it would.
    pub(crate) fn skipped(check: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Skipped, detail: detail.into(), remedy: Some(remedy.into()) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.verdict {
            Verdict::Ok => "ok",
            Verdict::Failed => "FAIL",
            Verdict::Skipped => "skip",
        };
        write!(f, "{mark:<5} {:<9} {}", self.check, self.detail)?;
        self.remedy.iter().try_for_each(|remedy| write!(f, "\n                {remedy}"))
    }
}

/// All findings of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// No check failed.
    pub(crate) ok: bool,
    /// Admin address of the deployment.
    pub(crate) admin: String,
    /// Checks in the order of their execution.
    pub(crate) checks: Vec<Finding>,
    /// Duration in milliseconds.
    pub(crate) took_ms: u64,
}

impl Report {
    /// A report of `checks`.
    pub(crate) fn new(admin: String, checks: Vec<Finding>, took: Duration) -> Self {
        let ok = checks.iter().all(|finding| finding.verdict != Verdict::Failed);
        Self { ok, admin, checks, took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX) }
    }

    /// The last line of the text output.
    pub(crate) fn summary(&self) -> String {
        let count = |verdict| self.checks.iter().filter(|finding| finding.verdict == verdict).count();
        format!(
            "{} ok, {} failed, {} skipped in {:.1} s",
            count(Verdict::Ok),
            count(Verdict::Failed),
            count(Verdict::Skipped),
            self.took_ms as f64 / 1_000.0
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fails_as_a_whole_for_one_failure_and_not_for_a_skip() {
        let report = |checks| Report::new("127.0.0.1:1".into(), checks, Duration::from_millis(1_500));
        let good = report(vec![Finding::ok("shards", "3 of 3"), Finding::skipped("full", "not asked", "give --full")]);
        assert!(good.ok);
        assert_eq!(good.summary(), "1 ok, 0 failed, 1 skipped in 1.5 s");
        assert!(!report(vec![Finding::ok("a", ""), Finding::failed("b", "", "")]).ok);
    }
}
