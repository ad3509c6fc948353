//! Positions: where a message stands in the log, as the opaque token that clients keep.

use std::fmt;
use std::str::FromStr;

use serde_json::Value;

/// Identity of a topic's life: two topics, or one topic before and after it was recreated, differ in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u32);

/// A partition of one life of one topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition {
    /// The topic's life.
    pub epoch: Epoch,
    /// Partition number.
    pub number: i32,
}

/// Where a message stands. Compared only within one partition; cannot be added to.
///
/// Written as `EPOCH-PARTITION-OFFSET` (hexadecimal, decimal, decimal), e.g. `9f3c01aa-2-1047`. Clients treat it as opaque.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// The partition.
    pub partition: Partition,
    /// Kafka's offset, 0 or more.
    pub offset: i64,
}

impl Position {
    /// Where one stands in a channel, as `since` and `positions` hold it: a token, or a list of them where several partitions feed
    /// the channel, one for each.
    pub fn to_json(positions: &[Self]) -> Value {
        match positions {
            [position] => position.to_string().into(),
            positions => positions.iter().map(ToString::to_string).collect(),
        }
    }

    /// What [`Self::to_json`] wrote; none for anything else, also for an empty list.
    pub fn from_json(value: &Value) -> Option<Vec<Self>> {
        let position = |value: &Value| value.as_str()?.parse().ok();
        match value {
            Value::Array(values) if !values.is_empty() => values.iter().map(position).collect(),
            value => Some(vec![position(value)?]),
        }
    }
}

/// A token that is no position.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a position: send back a \"pos\" as it was received")]
pub struct PositionError;

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{}-{}", self.partition.epoch.0, self.partition.number, self.offset)
    }
}

impl FromStr for Position {
    type Err = PositionError;

    fn from_str(token: &str) -> Result<Self, PositionError> {
        let parse = || {
            let mut parts = token.split('-');
            let epoch = Epoch(u32::from_str_radix(parts.next()?, 16).ok()?);
            let number = i32::try_from(parts.next()?.parse::<u32>().ok()?).ok()?;
            let offset = i64::try_from(parts.next()?.parse::<u64>().ok()?).ok()?;
            let position = Self { partition: Partition { epoch, number }, offset };
            // One spelling only, so that tokens can be compared as text: no sign, no leading zero, no upper case.
            (parts.next().is_none() && position.to_string() == token).then_some(position)
        };
        parse().ok_or(PositionError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survives_a_round_trip() {
        for token in ["0-0-0", "9f3c01aa-2-1047", "ffffffff-2147483647-9223372036854775807"] {
            assert_eq!(token.parse::<Position>().unwrap().to_string(), token);
        }
    }

    #[test]
    fn refuses_what_it_did_not_write() {
        for token in
            ["", "-", "1-2", "1-2-3-4", "+1-2-3", "01-2-3", "A-2-3", "1--2-3", "1-2-9223372036854775808", "g-0-0"]
        {
            assert_eq!(token.parse::<Position>(), Err(PositionError), "{token}");
        }
    }
}
