//! OpenMetrics text as Prometheus text, version 0.0.4.
//!
//! The formats differ in their metadata only; samples are the same:
//!
//! - For a counter, the older format gives the name of the sample (`…_total`), and the newer that of the family.
//! - The older format has neither `# UNIT` nor `# EOF`.
//! - The older format has no type `info`, and its name for `unknown` is `untyped`.

/// Converts `text` to the older format. In `text`, `# HELP`, `# TYPE` and `# UNIT` of a family precede its samples.
pub(super) fn from_openmetrics(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    // `HELP` comes before the `TYPE` that its name depends on.
    let mut help: Option<(&str, &str)> = None;
    for line in text.lines() {
        if line == "# EOF" || line.starts_with("# UNIT ") {
            continue;
        }
        if let Some((name, words)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            help = Some((name, words));
            continue;
        }
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let suffix = match kind {
                "counter" => "_total",
                "info" => "_info",
                _ => "",
            };
            let kind = match kind {
                "info" => "gauge",
                "unknown" => "untyped",
                kind => kind,
            };
            if let Some((_, words)) = help.take().filter(|(helped, _)| *helped == name) {
                out += &format!("# HELP {name}{suffix} {words}\n");
            }
            out += &format!("# TYPE {name}{suffix} {kind}\n");
            continue;
        }
        out += line;
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::metrics::gauge::Gauge;
    use prometheus_client::metrics::histogram::Histogram;
    use prometheus_client::registry::{Registry, Unit};

    use super::*;

    #[test]
    fn names_the_sample_of_a_counter_and_leaves_out_units_and_the_end() {
        let mut registry = Registry::default();
        registry.register_with_unit("a_sent", "Bytes sent", Unit::Bytes, Counter::<u64>::default());
        registry.register("a_open", "Open files", Gauge::<i64>::default());
        registry.register_with_unit("a_wait", "Waits", Unit::Seconds, Histogram::new([0.5]));
        let mut openmetrics = String::new();
        prometheus_client::encoding::text::encode(&mut openmetrics, &registry).unwrap();
        let expected = "\
# HELP a_sent_bytes_total Bytes sent.
# TYPE a_sent_bytes_total counter
a_sent_bytes_total 0
# HELP a_open Open files.
# TYPE a_open gauge
a_open 0
# HELP a_wait_seconds Waits.
# TYPE a_wait_seconds histogram
a_wait_seconds_sum 0.0
a_wait_seconds_count 0
a_wait_seconds_bucket{le=\"0.5\"} 0
a_wait_seconds_bucket{le=\"+Inf\"} 0
";
        assert_eq!(from_openmetrics(&openmetrics), expected);
    }

    #[test]
    fn keeps_the_type_of_what_the_older_format_has_no_word_for() {
        let openmetrics =
            "# HELP a Build.\n# TYPE a info\na_info{v=\"1\"} 1\n# HELP b Odd.\n# TYPE b unknown\nb 7\n# EOF\n";
        let expected =
            "# HELP a_info Build.\n# TYPE a_info gauge\na_info{v=\"1\"} 1\n# HELP b Odd.\n# TYPE b untyped\nb 7\n";
        assert_eq!(from_openmetrics(openmetrics), expected);
    }
}
