//! `docs/metrics.md`: a table of every metric in a registry, made from its own text.
//!
//! Families with a closed set of label values have all their series from the start, so the text has the labels too. For
//! the others, whose values are names that come and go, the caller gives the labels.

use std::collections::BTreeMap;

use prometheus_client::registry::Registry;

/// Data that the text of a registry lacks: the question that a metric answers, and its labels if their values are open.
#[derive(Clone, Copy, Debug)]
pub struct Note {
    /// Name as Prometheus stores it.
    pub name: &'static str,
    /// The question that it answers.
    pub question: &'static str,
    /// Labels without a closed set of values; empty where there are none.
    pub labels: &'static [&'static str],
}

/// A note without open labels.
pub const fn note(name: &'static str, question: &'static str) -> Note {
    Note { name, question, labels: &[] }
}

#[derive(Debug, Default)]
struct Family {
    kind: String,
    help: String,
    /// Values by label, in the order of the series.
    labels: BTreeMap<String, Vec<String>>,
}

/// The rows of a Markdown table, and what does not fit together: metrics without a note, notes without a metric.
pub fn table(registry: &Registry, notes: &[Note]) -> Result<String, String> {
    let text = super::text(registry);
    let mut families = families(&text);
    // A registry keeps series in the order of a hash table, which differs from run to run.
    families.values_mut().flat_map(|family| family.labels.values_mut()).for_each(|values| values.sort());
    let missing: Vec<_> =
        families.keys().filter(|name| notes.iter().all(|note| note.name != name.as_str())).cloned().collect();
    let stale: Vec<_> = notes.iter().filter(|note| !families.contains_key(note.name)).map(|note| note.name).collect();
    if !missing.is_empty() || !stale.is_empty() {
        return Err(format!("metrics without a note: {missing:?}; notes without a metric: {stale:?}"));
    }
    let mut out =
        String::from("| Metric | Type, unit | Labels | Content | Question it answers |\n|---|---|---|---|---|\n");
    for note in notes {
        let family = &families[note.name];
        let open = note.labels.iter().map(|label| format!("`{label}`"));
        let closed = family.labels.iter().filter(|(label, _)| !note.labels.contains(&label.as_str()));
        let closed = closed.map(|(label, values)| {
            let values: Vec<_> = values.iter().filter(|value| !value.is_empty()).map(|v| format!("`{v}`")).collect();
            format!("`{label}`: {}", values.join(" "))
        });
        let labels: Vec<_> = open.chain(closed).collect();
        let labels = if labels.is_empty() { "–".to_owned() } else { labels.join("; ") };
        let unit = unit(note.name).map_or_else(String::new, |unit| format!(", {unit}"));
        let Family { kind, help, .. } = family;
        out += &format!("| `{}` | {kind}{unit} | {labels} | {} | {} |\n", note.name, cell(help), cell(note.question));
    }
    Ok(out)
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn unit(name: &str) -> Option<&'static str> {
    let name = name.strip_suffix("_total").unwrap_or(name);
    ["seconds", "bytes"].into_iter().find(|unit| name.ends_with(&format!("_{unit}")))
}

fn families(text: &str) -> BTreeMap<String, Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut name = String::new();
    let mut help = String::new();
    for line in text.lines() {
        if let Some((_, words)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            words.clone_into(&mut help);
        } else if let Some((family, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            family.clone_into(&mut name);
            let new = Family { kind: kind.to_owned(), help: std::mem::take(&mut help), labels: BTreeMap::new() };
            families.insert(name.clone(), new);
        } else if let Some((_, rest)) = line.split_once('{')
            && let Some((labels, _)) = rest.rsplit_once('}')
            && let Some(family) = families.get_mut(&name)
        {
            for (label, value) in pairs(labels) {
                let values = family.labels.entry(label.to_owned()).or_default();
                if label != "le" && !values.iter().any(|known| known == value) {
                    values.push(value.to_owned());
                }
            }
            family.labels.remove("le");
        }
    }
    families
}

/// `a="b",c="d"` in pairs. The values of closed sets hold no quotes.
fn pairs(labels: &str) -> impl Iterator<Item = (&str, &str)> {
    labels.split("\",").filter_map(|pair| pair.trim_end_matches('"').split_once("=\""))
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::metrics::family::Family as Labelled;
    use prometheus_client::metrics::gauge::Gauge;

    use super::*;

    fn registry() -> Registry {
        let mut registry = Registry::default();
        let ends = Labelled::<[(&str, &str); 1], Counter>::default();
        for value in ["closed", "cut"] {
            drop(ends.get_or_create(&[("outcome", value)]));
        }
        registry.register("a_ends", "Ends, by outcome", ends);
        registry.register("a_wait_seconds", "A | wait", Gauge::<i64>::default());
        registry
    }

    #[test]
    fn has_a_row_for_each_metric_with_its_closed_labels() {
        let notes = [note("a_ends_total", "How many end?"), note("a_wait_seconds", "How long?")];
        let expected = "\
| Metric | Type, unit | Labels | Content | Question it answers |
|---|---|---|---|---|
| `a_ends_total` | counter | `outcome`: `closed` `cut` | Ends, by outcome. | How many end? |
| `a_wait_seconds` | gauge, seconds | – | A \\| wait. | How long? |
";
        let rows = table(&registry(), &notes).unwrap();
        assert_eq!(rows, expected);
    }

    #[test]
    fn refuses_a_metric_without_a_note_and_a_note_without_a_metric() {
        let notes = [note("a_ends_total", "How many end?"), note("gone", "?")];
        let error = table(&registry(), &notes).unwrap_err();
        assert_eq!(error, "metrics without a note: [\"a_wait_seconds\"]; notes without a metric: [\"gone\"]");
    }
}
