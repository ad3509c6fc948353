//! Progress of a run on standard error: a line that is redrawn on a terminal, a plain line every few seconds elsewhere,
//! or one JSON object per second for programs (`docs/load.md`). Standard output is reserved for the result.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use wscluster_runtime::args::Output;

use super::worker::Snapshot;

/// Time between two plain lines.
const PLAIN: Duration = Duration::from_secs(5);
/// Time between two objects.
const OBJECTS: Duration = Duration::from_secs(1);

/// Prints progress.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    form: Option<Output>,
    planned: u32,
    start: Instant,
    last_line: Instant,
    last: (Instant, Snapshot),
}

impl Progress {
    /// For a run of `planned` clients. Prints nothing if `form` is `None`.
    pub(super) fn start(planned: u32, form: Option<Output>) -> Self {
        let bar = (form == Some(Output::Text) && std::io::stderr().is_terminal()).then(|| {
            let style = ProgressStyle::with_template("{spinner} {wide_msg}");
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
        });
        let now = Instant::now();
        Self { bar, form, planned, start: now, last_line: now, last: (now, Snapshot::default()) }
    }

    /// Prints `snapshot` if it is time. `phase` is the current phase of the run.
    pub(super) fn show(&mut self, snapshot: &Snapshot, phase: &str, published: Option<(u64, u64)>) {
        let now = Instant::now();
        if self.form.is_none() {
            return;
        } else if self.form == Some(Output::Json) {
            if now >= self.last_line + OBJECTS {
                eprintln!("{}", self.object(snapshot, phase, published, now));
                self.last_line = now;
            }
            return;
        } else if let Some(bar) = &self.bar {
            bar.set_message(self.text(snapshot, phase, published, now));
            bar.tick();
        } else if now >= self.last_line + PLAIN {
            eprintln!("{}", self.text(snapshot, phase, published, now));
            self.last_line = now;
        } else {
            return;
        }
        if now >= self.last.0 + Duration::from_secs(1) {
            self.last = (now, *snapshot);
        }
    }

    fn text(&self, snapshot: &Snapshot, phase: &str, published: Option<(u64, u64)>, now: Instant) -> String {
        let (c, m, a) = (&snapshot.counts, &snapshot.messages, &snapshot.chain);
        let elapsed = now.duration_since(self.last.0).as_secs_f64().max(0.1);
        let rate = m.received.saturating_sub(self.last.1.messages.received) as f64 / elapsed;
        let seconds = now.duration_since(self.start).as_secs_f64();
        let mut text = format!(
            "{seconds:6.1} s {phase}: {}/{} connected, {} live, {} failed, {} failed attempts, {} lost, {rate:.0} messages/s",
            c.connected, self.planned, c.live, c.failed, c.failed_attempts, c.dropped
        );
        if let Some((published, failed)) = published {
            text += &format!(", {published} published");
            if failed > 0 {
                text += &format!(" ({failed} not)");
            }
        }
        if a.gaps + a.duplicated + a.reordered > 0 {
            text += &format!(", {} gaps, {} duplicated, {} reordered", a.gaps, a.duplicated, a.reordered);
        }
        text
    }

    fn object(
        &self,
        snapshot: &Snapshot,
        phase: &str,
        published: Option<(u64, u64)>,
        now: Instant,
    ) -> serde_json::Value {
        let (published, unpublished) = published.unwrap_or_default();
        json!({
            "seconds": now.duration_since(self.start).as_secs_f64(),
            "phase": phase,
            "planned": self.planned,
            "clients": snapshot.counts,
            "messages": snapshot.messages,
            "audit": snapshot.chain,
            "published": published,
            "unpublished": unpublished,
        })
    }

    /// Removes the line on a terminal.
    pub(super) fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}
