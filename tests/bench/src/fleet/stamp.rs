//! Stamps records with their time of publication and measures their age on arrival. It works with any envelope of a
//! server and with several records in a message.

use std::time::SystemTime;

const FIELD: &str = "\"sent_us\":";

/// Unix time in microseconds.
pub fn now() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

/// A record's value of `len` bytes, stamped now.
pub fn value(len: usize) -> String {
    let head = format!("{{{FIELD}{},\"pad\":\"", now());
    let pad = len.saturating_sub(head.len() + 2);
    format!("{head}{}\"}}", "x".repeat(pad))
}

/// Microseconds from each stamp in `text` to `now`.
pub fn ages(text: &str, now: u64) -> impl Iterator<Item = u32> {
    text.split(FIELD).skip(1).filter_map(move |rest| {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let sent: u64 = rest[..digits].parse().ok()?;
        u32::try_from(now.saturating_sub(sent)).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_stamp_of_a_message() {
        let value = value(128);
        assert_eq!(value.len(), 128);
        let later = now() + 2_000_000;
        let message = format!("{{\"data\":{value}}}\n{{\"push\":{{\"data\":{value}}}}}");
        let ages: Vec<_> = ages(&message, later).collect();
        assert_eq!(ages.len(), 2);
        assert!(ages.iter().all(|age| (2_000_000..60_000_000).contains(age)), "{ages:?}");
        assert_eq!(super::ages("{\"type\":\"hello\"}", later).count(), 0);
    }
}
