//! The result for people.

use std::collections::BTreeMap;

use super::latency::Summary;
use super::report::Report;

/// The table of a result.
pub(super) fn render(report: &Report) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| text += &format!("{name:<14} {value}\n");
    line("target", report.targets.join(", "));
    line(
        "time",
        format!(
            "{:.1} s, ramp {:.1} s{}",
            report.seconds,
            report.ramp_seconds,
            if report.interrupted { ", interrupted" } else { "" }
        ),
    );
    line(
        "clients",
        format!(
            "{} planned, {} started, {} connected, {} failed",
            report.planned, report.started, report.connected, report.failed
        ),
    );
    line(
        "connections",
        format!(
            "{} attempts, {} upgraded, {} settled, {} failed, {} lost, {} back, {} retries",
            report.attempts,
            report.opened,
            report.settled,
            report.failed_attempts,
            report.dropped,
            report.reconnected,
            report.retries
        ),
    );
    if report.churned + report.stormed > 0 {
        line("by plan", format!("{} replaced, {} cut by storms", report.churned, report.stormed));
    }
    names(&mut line, "failures", &report.failures);
    names(&mut line, "lost", &report.drops);
    names(&mut line, "errors", &report.errors);
    let m = &report.messages;
    line(
        "messages",
        format!(
            "{} received ({} deliveries, {} replayed), {} sent, {} answered",
            m.received, m.deliveries, m.replayed, m.sent, m.replies
        ),
    );
    if let Some(publisher) = &report.publisher {
        line(
            "published",
            format!(
                "{} records, {} failed, p99 {:.1} ms late",
                publisher.published, publisher.failed, publisher.late_ms_p99
            ),
        );
    }
    let audit = &report.audit;
    if audit.basis != "none" {
        let (lost, expected) = match audit.basis {
            "topic" => (format!("{} lost", audit.lost), format!(" of {} expected", audit.expected)),
            _ if audit.not_compared.is_some() => (format!("{} holes", audit.lost), " (by positions alone)".to_owned()),
            _ => (
                format!("{} holes", audit.lost),
                " (by positions alone: name --kafka and --topic for counts)".to_owned(),
            ),
        };
        line(
            "audit",
            format!(
                "{lost}{expected}, {} announced as lost, {} duplicated, {} reordered, {} mismatched",
                audit.declared_lost, audit.chain.duplicated, audit.chain.reordered, audit.mismatched
            ),
        );
        let c = &audit.chain;
        if c.recovered + c.unrecovered + c.server_gaps + c.misrouted + c.wrong_links > 0 {
            line(
                "",
                format!(
                    "{} channels recovered, {} not, {} gap messages, {} misrouted, {} wrong links",
                    c.recovered, c.unrecovered, c.server_gaps, c.misrouted, c.wrong_links
                ),
            );
        }
    }
    if let Some(reason) = &audit.not_compared {
        line("NOT AUDITED", reason.clone());
    }
    if report.slow.opened > 0 {
        line("slow clients", format!("{} connected, {} ended by the server", report.slow.opened, report.slow.ended));
        names(&mut line, "", &report.slow.ends);
    }
    text += &latencies(report);
    text += &generator(report);
    text
}

fn names(line: &mut impl FnMut(&str, String), title: &str, map: &BTreeMap<String, u64>) {
    let mut sorted: Vec<_> = map.iter().collect();
    sorted.sort_by_key(|(_, n)| std::cmp::Reverse(**n));
    for (i, (name, n)) in sorted.into_iter().enumerate() {
        line(if i == 0 { title } else { "" }, format!("{n} {name}"));
    }
}

fn latencies(report: &Report) -> String {
    let l = &report.latency_ms;
    let rows = [
        ("connect", l.connect),
        ("first byte", l.first_byte),
        ("101", l.upgrade),
        ("first message", l.first_message),
        ("reconnect", l.reconnect),
        ("reply", l.reply),
        ("delivery", l.delivery),
    ];
    let mut text = format!(
        "\n{:<14}{:>12}{:>10}{:>10}{:>10}{:>10}{:>10}\n",
        "latency, ms", "count", "p50", "p90", "p99", "p99.9", "max"
    );
    for (name, Summary { count, p50, p90, p99, p999, max, .. }) in rows.into_iter().filter(|(_, s)| s.count > 0) {
        text += &format!("{name:<14}{count:>12}{p50:>10.2}{p90:>10.2}{p99:>10.2}{p999:>10.2}{max:>10.2}\n");
    }
    if report.audit.coarse_clock {
        text += "delivery is from Kafka's timestamps: whole milliseconds of the publisher's clock\n";
    }
    text
}

fn generator(report: &Report) -> String {
    let g = &report.generator;
    let mut text = format!(
        "\ntester         {} process(es), {} thread(s), busiest at {:.0} % CPU, starts p99 {:.1} ms late\n",
        g.processes, g.threads, g.cpu_percent, g.late_ms.p99
    );
    if g.bottleneck {
        text +=
            "               THE TESTER WAS A BOTTLENECK, the figures above are about it as much as about the server:\n";
        g.reasons.iter().for_each(|reason| text += &format!("               - {reason}\n"));
    }
    text
}
