//! Quantities in manifests: [`Span`] (`27s`, `100ms`) and [`Size`] (`64Mi`, `256Ki`, `1000`).

use std::{borrow::Cow, fmt, str::FromStr, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A duration, written as an integer and one of `ms`, `s`, `m`, `h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// A number of bytes, written as an integer with an optional `Ki`, `Mi`, `Gi`, `k`, `M` or `G`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// A string is not a valid quantity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not a {what}; write {example}")]
pub struct UnitError {
    value: String,
    what: &'static str,
    example: &'static str,
}

const SPAN_UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];
const SIZE_UNITS: [(&str, u64); 7] =
    [("Ki", 1 << 10), ("Mi", 1 << 20), ("Gi", 1 << 30), ("k", 1_000), ("M", 1_000_000), ("G", 1_000_000_000), ("", 1)];

/// Parses digits followed by one of `units`. `None` on overflow.
fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, suffix) = text.split_at(split);
    let (_, factor) = units.iter().find(|(unit, _)| *unit == suffix)?;
    digits.parse::<u64>().ok()?.checked_mul(*factor)
}

/// Writes `value` in the largest unit that divides it exactly, so that parsing returns the same value.
fn write_scaled(f: &mut fmt::Formatter<'_>, value: u64, units: &[(&str, u64)]) -> fmt::Result {
    let exact = units.iter().filter(|(_, factor)| value != 0 && value.is_multiple_of(*factor));
    match exact.max_by_key(|(_, factor)| *factor) {
        Some((unit, factor)) => write!(f, "{}{unit}", value / factor),
        None => write!(f, "{value}{}", units.iter().find(|(u, _)| *u == "s").map_or("", |(u, _)| u)),
    }
}

impl Span {
    /// `n` milliseconds.
    pub const fn millis(n: u64) -> Self {
        Self(Duration::from_millis(n))
    }
    /// `n` seconds.
    pub const fn secs(n: u64) -> Self {
        Self(Duration::from_secs(n))
    }
}

impl FromStr for Span {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        scaled(text, &SPAN_UNITS).map(Self::millis).ok_or_else(|| UnitError {
            value: text.to_owned(),
            what: "duration",
            example: "a whole number and a unit: 100ms, 30s, 2m or 1h",
        })
    }
}

impl FromStr for Size {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        scaled(text, &SIZE_UNITS).map(Self).ok_or_else(|| UnitError {
            value: text.to_owned(),
            what: "size in bytes",
            example: "a whole number and an optional unit: 65536, 256Ki or 64Mi",
        })
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_scaled(f, u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX), &SPAN_UNITS)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_scaled(f, self.0, &SIZE_UNITS)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Raw {
            Number(u64),
            Text(String),
        }
        match Raw::deserialize(d)? {
            Raw::Number(n) => Ok(Self(n)),
            Raw::Text(text) => text.parse().map_err(de::Error::custom),
        }
    }
}

impl JsonSchema for Span {
    fn schema_name() -> Cow<'static, str> {
        "Span".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "maxLength": 11, "pattern": "^[0-9]{1,9}(ms|s|m|h)$" })
    }
}

impl JsonSchema for Size {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        // `x-kubernetes-int-or-string` implies `anyOf` and `type`; keywords of the other type do not apply (KEP-1027).
        json_schema!({ "x-kubernetes-int-or-string": true, "minimum": 0, "maxLength": 15,
            "pattern": "^[0-9]{1,12}(Ki|Mi|Gi|k|M|G)?$" })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_every_unit() {
        for (text, millis) in [("0ms", 0), ("5ms", 5), ("27s", 27_000), ("2m", 120_000), ("1h", 3_600_000)] {
            assert_eq!(text.parse(), Ok(Span::millis(millis)), "{text}");
        }
        let sizes = [
            ("0", 0),
            ("7", 7),
            ("2k", 2_000),
            ("2Ki", 2_048),
            ("3M", 3_000_000),
            ("1Mi", 1 << 20),
            ("1G", 1_000_000_000),
        ];
        for (text, bytes) in sizes.into_iter().chain([("4Gi", 4 << 30)]) {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
    }

    #[test]
    fn writes_the_largest_exact_unit() {
        for (span, text) in [(0, "0s"), (1, "1ms"), (1_000, "1s"), (1_500, "1500ms"), (60_000, "1m"), (7_200_000, "2h")]
        {
            assert_eq!(Span::millis(span).to_string(), text);
        }
        for (size, text) in
            [(0, "0"), (1_000, "1k"), (1_024, "1Ki"), (1_025, "1025"), (64 << 20, "64Mi"), (3_000_000, "3M")]
        {
            assert_eq!(Size(size).to_string(), text);
        }
    }

    #[test]
    fn refuses_other_text_with_an_example() {
        for text in ["", "s", "27", "27 s", " 27s", "-1s", "+1s", "1.5h", "1d", "1S", "1ss", "٣s", "0x1s"] {
            let error = text.parse::<Span>().unwrap_err().to_string();
            assert_eq!(
                error,
                format!("{text:?} is not a duration; write a whole number and a unit: 100ms, 30s, 2m or 1h")
            );
        }
        for text in ["", "Ki", "1 Ki", "-1", "+1", "1.5Mi", "1KB", "1ki", "1T", "٣"] {
            assert!(text.parse::<Size>().unwrap_err().to_string().contains("65536, 256Ki or 64Mi"), "{text}");
        }
    }

    #[test]
    fn refuses_overflow() {
        // The limit is u64::MAX milliseconds or bytes.
        assert_eq!("18446744073709551615ms".parse(), Ok(Span::millis(u64::MAX)));
        assert!("18446744073709551616ms".parse::<Span>().is_err());
        assert!("5124095576031h".parse::<Span>().is_err());
        assert_eq!("17179869183Gi".parse(), Ok(Size(17_179_869_183 << 30)));
        assert!("17179869184Gi".parse::<Size>().is_err());
        assert!("99999999999999999999".parse::<Size>().is_err());
    }

    #[test]
    fn a_size_may_be_a_json_number_and_a_span_may_not() {
        assert_eq!(serde_json::from_str::<Size>("65536").unwrap(), Size(65_536));
        assert_eq!(serde_json::from_str::<Size>("\"64Ki\"").unwrap(), Size(65_536));
        assert!(serde_json::from_str::<Size>("-1").is_err());
        assert!(serde_json::from_str::<Size>("1.5").is_err());
        assert!(serde_json::from_str::<Span>("27").is_err());
    }

    proptest! {
        #[test]
        fn text_survives_a_round_trip(n: u64) {
            prop_assert_eq!(Span::millis(n).to_string().parse(), Ok(Span::millis(n)));
            prop_assert_eq!(Size(n).to_string().parse(), Ok(Size(n)));
            let json = serde_json::to_string(&Size(n)).unwrap();
            prop_assert_eq!(serde_json::from_str::<Size>(&json).unwrap(), Size(n));
        }

        #[test]
        fn a_unit_multiplies(n in 0..1_000_000_u64, unit in 0..SIZE_UNITS.len()) {
            let (name, factor) = SIZE_UNITS[unit];
            prop_assert_eq!(format!("{n}{name}").parse(), Ok(Size(n * factor)));
        }

        #[test]
        fn no_text_makes_it_panic(text: String) {
            let _ = (text.parse::<Span>(), text.parse::<Size>());
        }
    }
}
