//! Where a client stands in each channel, and whether a message follows the previous one. No I/O.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value, json};
use wscluster_protocol::{Partition, Position};

/// How a message follows the previous message of its channel and partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// The expected message, as far as this client can detect.
    Next,
    /// Messages between the two are missing.
    Hole,
    /// The message was received before.
    Repeat,
}

/// The position in one channel.
#[derive(Debug, Default)]
struct Place {
    /// The last offset in each partition.
    seen: HashMap<Partition, i64>,
    /// The server does not know the position after a gap. The next message discards all of `seen`.
    is_over: bool,
}

/// The positions in all channels of a client.
#[derive(Debug, Default)]
pub struct Positions {
    channels: BTreeMap<String, Place>,
}

impl Positions {
    /// Positions that the client already has.
    pub fn new(since: impl IntoIterator<Item = (String, Position)>) -> Self {
        let mut positions = Self::default();
        for (channel, position) in since {
            positions.channels.entry(channel).or_default().seen.insert(position.partition, position.offset);
        }
        positions
    }

    /// Records a message at `position` of `channel`; `prev` is the predecessor that the message names.
    pub fn step(&mut self, channel: &str, position: Option<Position>, prev: Option<Position>) -> Link {
        let Some(Position { partition, offset }) = position else { return Link::Next };
        let place = self.place(channel);
        if std::mem::take(&mut place.is_over) {
            place.seen.clear();
        }
        let before = place.seen.get(&partition).copied();
        if before.is_some_and(|before| offset <= before) {
            return Link::Repeat;
        }
        place.seen.insert(partition, offset);
        match (before, prev) {
            (Some(before), Some(prev)) if prev.partition == partition && prev.offset != before => Link::Hole,
            _ => Link::Next,
        }
    }

    /// Replaces the positions of `channel`: the server continues after `positions`, not after those of the client.
    /// Without positions the old ones stay until the next message: a resume with them yields at least the answer that
    /// messages may be missing.
    pub fn replace(&mut self, channel: &str, positions: &[Position]) {
        let place = self.place(channel);
        place.is_over = positions.is_empty();
        if !place.is_over {
            place.seen = positions.iter().map(|position| (position.partition, position.offset)).collect();
        }
    }

    /// Those of `channels` without a position.
    pub fn unknown<'c>(&self, channels: &'c [String]) -> Vec<&'c str> {
        let known = |channel: &&String| self.channels.get(*channel).is_some_and(|place| !place.seen.is_empty());
        channels.iter().filter(|channel| !known(channel)).map(String::as_str).collect()
    }

    /// The `since` of a subscription to `channels`; with `latest`, it requests the last message of each channel
    /// without a position.
    pub fn since(&self, channels: &[String], latest: bool) -> Map<String, Value> {
        let mut since = Map::new();
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

    fn place(&mut self, channel: &str) -> &mut Place {
        // Two look-ups: the key is only allocated for a new channel.
        if !self.channels.contains_key(channel) {
            self.channels.insert(channel.to_owned(), Place::default());
        }
        self.channels.get_mut(channel).expect("it was just inserted")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(token: &str) -> Position {
        token.parse().unwrap()
    }

    fn step(positions: &mut Positions, pos: &str, prev: Option<&str>) -> Link {
        positions.step("a", Some(at(pos)), prev.map(at))
    }

    #[test]
    fn notices_holes_and_repeats() {
        let mut positions = Positions::default();
        assert_eq!(step(&mut positions, "1-0-5", Some("1-0-3")), Link::Next);
        assert_eq!(step(&mut positions, "1-0-7", Some("1-0-5")), Link::Next);
        assert_eq!(step(&mut positions, "1-0-7", Some("1-0-5")), Link::Repeat);
        assert_eq!(step(&mut positions, "1-1-2", Some("1-1-1")), Link::Next);
        assert_eq!(step(&mut positions, "1-0-9", None), Link::Next);
        assert_eq!(step(&mut positions, "1-0-12", Some("1-0-10")), Link::Hole);
    }

    #[test]
    fn resumes_in_every_partition() {
        let mut positions = Positions::new([("a".to_owned(), at("1-1-4"))]);
        step(&mut positions, "1-0-5", None);
        let since = positions.since(&["a".into(), "b".into()], false);
        assert_eq!(Value::Object(since), json!({ "a": ["1-0-5", "1-1-4"] }));
        assert_eq!(positions.unknown(&["a".into(), "b".into()]), ["b"]);
        assert_eq!(Value::Object(positions.since(&["b".into()], true)), json!({ "b": "latest" }));
    }

    #[test]
    fn continues_at_the_positions_of_the_server() {
        let since = |positions: &Positions| Value::Object(positions.since(&["a".into()], false));
        let mut positions = Positions::default();
        positions.replace("a", &[at("1-0-5")]);
        assert_eq!(since(&positions), json!({ "a": ["1-0-5"] }));
        assert_eq!(step(&mut positions, "1-0-9", Some("1-0-7")), Link::Hole);
        positions.replace("a", &[at("1-0-20"), at("1-1-3")]);
        assert_eq!(step(&mut positions, "1-0-21", Some("1-0-20")), Link::Next);
        // The server does not know: the old positions are requested, and do not mix with what arrives.
        positions.replace("a", &[]);
        assert_eq!(since(&positions), json!({ "a": ["1-0-21", "1-1-3"] }));
        assert_eq!(step(&mut positions, "2-0-0", None), Link::Next);
        assert_eq!(since(&positions), json!({ "a": ["2-0-0"] }));
    }
}
