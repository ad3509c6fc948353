//! Where a client stands in each channel, and whether what comes follows on from there. Pure.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};
use wscluster_protocol::{Partition, Position};

/// A message as far as a follower cares.
#[derive(Clone, Debug, Default)]
pub(super) struct Message {
    pub(super) channel: String,
    pub(super) pos: Option<String>,
    pub(super) prev: Option<String>,
}

/// How a message follows on from the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// As it should, or as far as can be told.
    Next,
    /// Messages between the two are missing.
    Hole,
    /// It came before.
    Repeat,
}

/// Where a client stands in a channel.
#[derive(Debug, Default)]
struct Place {
    /// The last position in each partition.
    seen: HashMap<Partition, i64>,
    /// The server lost the thread here: what comes next is a new beginning.
    is_over: bool,
}

/// The place in each channel.
#[derive(Debug, Default)]
pub(super) struct Progress {
    channels: BTreeMap<String, Place>,
}

impl Progress {
    pub(super) fn new(since: impl IntoIterator<Item = (String, Position)>) -> Self {
        let mut progress = Self::default();
        for (channel, position) in since {
            progress.channels.entry(channel).or_default().seen.insert(position.partition, position.offset);
        }
        progress
    }

    /// Takes a message in.
    pub(super) fn step(&mut self, message: &Message) -> Step {
        let parse = |token: &Option<String>| token.as_deref().and_then(|token| token.parse::<Position>().ok());
        let Some(Position { partition, offset }) = parse(&message.pos) else { return Step::Next };
        let Place { seen, is_over } = self.channels.entry(message.channel.clone()).or_default();
        if std::mem::take(is_over) {
            seen.clear();
        }
        let before = seen.get(&partition).copied();
        if before.is_some_and(|before| offset <= before) {
            return Step::Repeat;
        }
        seen.insert(partition, offset);
        match (before, parse(&message.prev)) {
            (Some(before), Some(prev)) if prev.partition == partition && prev.offset != before => Step::Hole,
            _ => Step::Next,
        }
    }

    /// The server says where `channel` goes on, and not that it is where this client stands. Where it does not know, the old
    /// place serves until a message comes: asked for what follows it, the server says at least that something may be missing.
    pub(super) fn go_on(&mut self, channel: &str, positions: &[Position]) {
        let place = self.channels.entry(channel.to_owned()).or_default();
        place.is_over = positions.is_empty();
        if !place.is_over {
            place.seen = positions.iter().map(|position| (position.partition, position.offset)).collect();
        }
    }

    /// Those of `channels` in which the place is not known.
    pub(super) fn unknown<'c>(&self, channels: &'c [String]) -> Vec<&'c str> {
        let known = |channel: &&String| self.channels.get(*channel).is_some_and(|place| !place.seen.is_empty());
        channels.iter().filter(|channel| !known(channel)).map(String::as_str).collect()
    }

    /// What to ask for when subscribing to `channels`.
    pub(super) fn since(&self, channels: &[String], latest: bool) -> serde_json::Map<String, Value> {
        let mut since = serde_json::Map::new();
        for channel in channels {
            match self.channels.get(channel).map(|place| &place.seen).filter(|seen| !seen.is_empty()) {
                Some(seen) => {
                    let mut tokens: Vec<String> =
                        seen.iter().map(|(&partition, &offset)| Position { partition, offset }.to_string()).collect();
                    tokens.sort_unstable();
                    since.insert(channel.clone(), json!(tokens));
                }
                None if latest => {
                    since.insert(channel.clone(), json!("latest"));
                }
                None => {}
            }
        }
        since
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(pos: &str, prev: Option<&str>) -> Message {
        Message { channel: "a".into(), pos: Some(pos.into()), prev: prev.map(str::to_owned) }
    }

    #[test]
    fn notices_holes_and_repeats() {
        let mut progress = Progress::default();
        assert_eq!(progress.step(&message("1-0-5", Some("1-0-3"))), Step::Next);
        assert_eq!(progress.step(&message("1-0-7", Some("1-0-5"))), Step::Next);
        assert_eq!(progress.step(&message("1-0-7", Some("1-0-5"))), Step::Repeat);
        assert_eq!(progress.step(&message("1-1-2", Some("1-1-1"))), Step::Next);
        assert_eq!(progress.step(&message("1-0-9", None)), Step::Next);
        assert_eq!(progress.step(&message("1-0-12", Some("1-0-10"))), Step::Hole);
    }

    #[test]
    fn asks_for_what_follows_every_partition_seen() {
        let mut progress = Progress::new([("a".to_owned(), "1-1-4".parse().unwrap())]);
        progress.step(&message("1-0-5", None));
        let since = progress.since(&["a".into(), "b".into()], false);
        assert_eq!(Value::Object(since), json!({ "a": ["1-0-5", "1-1-4"] }));
        assert_eq!(progress.unknown(&["a".into(), "b".into()]), ["b"]);
        assert_eq!(Value::Object(progress.since(&["b".into()], true)), json!({ "b": "latest" }));
    }

    #[test]
    fn goes_on_where_the_server_says() {
        let since = |progress: &Progress| Value::Object(progress.since(&["a".into()], false));
        let mut progress = Progress::default();
        progress.go_on("a", &["1-0-5".parse().unwrap()]);
        assert_eq!(since(&progress), json!({ "a": ["1-0-5"] }));
        assert_eq!(progress.step(&message("1-0-9", Some("1-0-7"))), Step::Hole);
        progress.go_on("a", &["1-0-20".parse().unwrap(), "1-1-3".parse().unwrap()]);
        assert_eq!(progress.step(&message("1-0-21", Some("1-0-20"))), Step::Next);
        // It does not know: the place that is over is asked for, and mixes with nothing that comes.
        progress.go_on("a", &[]);
        assert_eq!(since(&progress), json!({ "a": ["1-0-21", "1-1-3"] }));
        assert_eq!(progress.step(&message("2-0-0", None)), Step::Next);
        assert_eq!(since(&progress), json!({ "a": ["2-0-0"] }));
    }
}
