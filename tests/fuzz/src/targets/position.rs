//! Positions, which clients send back as they received them.

use serde_json::Value;
use wscluster_protocol::{Position, Positions};

/// A position has one spelling, as text and in JSON.
pub fn position(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    if let Ok(position) = text.parse::<Position>() {
        assert_eq!(position.to_string(), text);
        assert!(position.offset >= 0 && position.partition.number >= 0);
        let json = Position::to_json(&[position]);
        assert_eq!(json, Value::from(text));
        assert_eq!(Position::from_json(&json), Some(vec![position]));
    }
    let Ok(value) = serde_json::from_str::<Value>(text) else { return };
    if let Ok(positions) = Positions::try_from(value.clone()) {
        assert!(!positions.is_empty());
        let written = Value::from(positions.clone());
        // A list of one is written as that one.
        let is_single = value.as_array().is_some_and(|list| list.len() == 1);
        assert!(written == value || (is_single && written == value[0]), "{written}");
        assert_eq!(Positions::try_from(written), Ok(positions));
    }
}
