//! Which of the two text formats an `Accept` field prefers (RFC 9110 §12.5.1).

/// Whether OpenMetrics has a larger weight than any range that plain text matches. Without a field plain text is sent:
/// it is what people, and tools that ask for nothing, can read.
pub(super) fn prefers_openmetrics<'a>(accept: impl Iterator<Item = &'a str>) -> bool {
    let (mut openmetrics, mut plain) = (0.0_f32, 0.0_f32);
    for range in accept.flat_map(|field| field.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default().to_ascii_lowercase();
        let weight = parts.find_map(|part| part.strip_prefix("q=")).map_or(1.0, |q| q.parse().unwrap_or(0.0));
        match media.as_str() {
            "application/openmetrics-text" => openmetrics = openmetrics.max(weight),
            "text/plain" | "text/*" | "*/*" => plain = plain.max(weight),
            _ => {}
        }
    }
    openmetrics > 0.0 && openmetrics >= plain
}

#[cfg(test)]
mod tests {
    use super::prefers_openmetrics;

    #[test]
    fn sends_openmetrics_only_to_clients_that_prefer_it() {
        for (accept, expected) in [
            (vec![], false),
            (vec!["*/*"], false),
            (vec!["text/plain"], false),
            (vec!["application/openmetrics-text"], true),
            (vec!["application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.1"], true),
            (vec!["application/openmetrics-text;q=0.3, text/plain;q=0.4"], false),
            (vec!["text/plain;q=0.2", "Application/OpenMetrics-Text; q=0.9"], true),
            (vec!["application/openmetrics-text;q=0"], false),
            (vec!["application/openmetrics-text;q=many"], false),
        ] {
            assert_eq!(prefers_openmetrics(accept.iter().copied()), expected, "{accept:?}");
        }
    }
}
