//! Positions of records in the log, as the opaque tokens that clients keep to resume.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Identity of a topic: differs between two topics, and between one topic before and after it was recreated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u32);

/// A partition of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition {
    /// Identity of the topic.
    pub epoch: Epoch,
    /// Partition number.
    pub number: i32,
}

/// The position of a record. Offsets are comparable only within one partition, and have no arithmetic.
///
/// Written as `EPOCH-PARTITION-OFFSET` (hexadecimal, decimal, decimal), e.g. `9f3c01aa-2-1047`. Clients treat it as
/// opaque.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Position {
    /// Topic and partition number.
    pub partition: Partition,
    /// Kafka's offset, 0 or more.
    pub offset: i64,
}

impl Position {
    /// [`Positions`] as JSON.
    pub fn to_json(positions: &[Self]) -> Value {
        Positions(positions.to_vec()).into()
    }

    /// [`Positions`] from JSON; `None` for anything else.
    pub fn from_json(value: &Value) -> Option<Vec<Self>> {
        Positions::try_from(value.clone()).ok().map(|Positions(positions)| positions)
    }
}

/// Positions in one channel, one for each partition that feeds it. In JSON a single one is a token, and several are a
/// list of tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "Value")]
pub struct Positions(pub Vec<Position>);

impl Positions {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Vec<Position>> for Positions {
    fn from(positions: Vec<Position>) -> Self {
        Self(positions)
    }
}

impl From<Positions> for Value {
    fn from(Positions(positions): Positions) -> Self {
        match &positions[..] {
            [position] => position.to_string().into(),
            positions => positions.iter().map(ToString::to_string).collect(),
        }
    }
}

/// Fails for anything that is neither a token nor a list of tokens, and for an empty list.
impl TryFrom<Value> for Positions {
    type Error = PositionError;

    fn try_from(value: Value) -> Result<Self, PositionError> {
        let position = |value: &Value| value.as_str().ok_or(PositionError)?.parse();
        match &value {
            Value::Array(values) if !values.is_empty() => {
                values.iter().map(position).collect::<Result<_, _>>().map(Self)
            }
            value => Ok(Self(vec![position(value)?])),
        }
    }
}

/// A token that is not a position.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a position: send back a \"pos\" as it was received")]
pub struct PositionError;

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{}-{}", self.partition.epoch.0, self.partition.number, self.offset)
    }
}

impl From<Position> for String {
    fn from(position: Position) -> Self {
        position.to_string()
    }
}

impl TryFrom<String> for Position {
    type Error = PositionError;

    fn try_from(token: String) -> Result<Self, PositionError> {
        token.parse()
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
            // One spelling only, so that clients can compare tokens as text: no sign, no leading zero, no upper case.
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
    fn rejects_text_that_is_not_a_canonical_token() {
        for token in
            ["", "-", "1-2", "1-2-3-4", "+1-2-3", "01-2-3", "A-2-3", "1--2-3", "1-2-9223372036854775808", "g-0-0"]
        {
            assert_eq!(token.parse::<Position>(), Err(PositionError), "{token}");
        }
    }
}
