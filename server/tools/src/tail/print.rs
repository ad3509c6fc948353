//! Formats messages for standard output and remarks for standard error.

use std::collections::HashMap;
use std::io::Write as _;

use serde::Deserialize;
use serde_json::value::RawValue;
use wscluster_runtime::args::Output;

/// Prints one message. Fails when standard output is closed.
pub(super) fn message(text: &str, output: Output) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    match output {
        Output::Json => writeln!(out, "{text}"),
        Output::Text => writeln!(out, "{}", line(text)),
    }
}

/// `TIME CHANNEL POSITION [replayed] VALUE`. The value is copied, not parsed: a number keeps all its digits.
fn line(text: &str) -> String {
    let Ok(message) = serde_json::from_str::<HashMap<String, &RawValue>>(text) else { return text.to_owned() };
    let text_of = |name| part::<String>(&message, name).unwrap_or_else(|| "-".to_owned());
    let ts = part(&message, "ts").unwrap_or(0);
    let replayed = if part(&message, "replayed") == Some(true) { " replayed" } else { "" };
    let value = match message.get("data") {
        // A JSON text has line breaks only between tokens, so a message can stay on one line.
        Some(data) => data.get().replace(['\n', '\r'], " "),
        None => part(&message, "data_base64").map_or_else(|| "-".to_owned(), |bytes: String| format!("base64 {bytes}")),
    };
    format!("{} {} {}{replayed} {value}", time(ts), text_of("channel"), text_of("pos"))
}

fn part<'m, T: Deserialize<'m>>(message: &HashMap<String, &'m RawValue>, name: &str) -> Option<T> {
    message.get(name).and_then(|raw| serde_json::from_str(raw.get()).ok())
}

/// Unix milliseconds as RFC 3339, e.g. `2026-11-24T07:30:19.123Z`. The date follows Howard Hinnant's `civil_from_days`.
fn time(ms: i64) -> String {
    let (days, rest) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hours, minutes, seconds, millis) = (rest / 3_600_000, rest / 60_000 % 60, rest / 1_000 % 60, rest % 1_000);
    format!("{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}.{millis:03}Z")
}

/// Prints a line about the messages.
pub(super) fn remark(text: &str) {
    eprintln!("# {text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_times_as_rfc_3339() {
        assert_eq!(time(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(time(951_782_400_001), "2000-02-29T00:00:00.001Z");
        assert_eq!(time(1_795_505_419_123), "2026-11-24T07:30:19.123Z");
    }

    #[test]
    fn shows_channel_position_and_value() {
        let text = r#"{"type":"t","replayed":true,"seq":7,"ts":0,"channel":"a","pos":"1-0-7","data":{"z":1.0e2,
"a": 1.10000000000000000000001}}"#;
        let value = r#"{"z":1.0e2, "a": 1.10000000000000000000001}"#;
        assert_eq!(line(text), format!("1970-01-01T00:00:00.000Z a 1-0-7 replayed {value}"));
        assert_eq!(line(r#"{"channel":"a","data":null}"#), "1970-01-01T00:00:00.000Z a - null");
        assert_eq!(line(r#"{"channel":"a","data_base64":"/w=="}"#), "1970-01-01T00:00:00.000Z a - base64 /w==");
    }
}
