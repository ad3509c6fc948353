//! Reads the records to publish from arguments, lines or JSON lines. Lines may contain any bytes.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::Args;

/// A record to publish.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
}

/// Input that cannot be read as a record.
#[derive(Debug, thiserror::Error)]
pub(super) enum InputError {
    #[error("failed to open {path}: {source}")]
    Open { path: PathBuf, source: std::io::Error },
    #[error("failed to read line {line}: {source}")]
    Read { line: u64, source: std::io::Error },
    #[error("{place} has no {delimiter:?} between key and value")]
    NoDelimiter { place: Place, delimiter: String },
    #[error(
        "{place} is not a record: {source}; write an object with \"value\" and, optionally, \"key\" and \"headers\""
    )]
    Json { place: Place, source: serde_json::Error },
    #[error("--repeat {0} needs values as arguments; add values or omit --repeat")]
    Repeat(u64),
}

/// The origin of a record, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Line(u64),
    Value(u64),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(number) => write!(f, "line {number}"),
            Self::Value(number) => write!(f, "value {number}"),
        }
    }
}

/// An iterator over the records.
pub(super) struct Records {
    source: Source,
    template: Record,
    pub(super) rate: Option<f64>,
}

enum Source {
    Values(Box<dyn Iterator<Item = Record>>),
    Lines {
        input: Box<dyn BufRead>,
        line: u64,
        form: Form,
        /// Whether the input is a file. Standard input may never end.
        is_file: bool,
    },
}

enum Form {
    Value,
    Delimited(String),
    Json,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonLine {
    #[serde(default)]
    key: Option<String>,
    /// The value byte for byte: digits, order of fields and white space are kept.
    value: Box<RawValue>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

/// The arguments that determine the records.
pub(super) struct Wanted {
    values: Vec<String>,
    tombstone: bool,
    repeat: u64,
    records: Option<PathBuf>,
    form: Form,
    template: Record,
    rate: Option<f64>,
}

impl From<Args> for Wanted {
    fn from(args: Args) -> Self {
        let Args { values, tombstone, repeat, records, rate, key_delimiter, json_lines, key, header, .. } = args;
        let form = match key_delimiter {
            Some(delimiter) => Form::Delimited(delimiter),
            None if json_lines => Form::Json,
            None => Form::Value,
        };
        let headers = header.into_iter().map(|(name, value)| (name, value.into_bytes())).collect();
        let template = Record { key: key.map(String::into_bytes), value: None, headers };
        Self { values, tombstone, repeat, records, form, template, rate }
    }
}

impl Records {
    pub(super) fn open(wanted: Wanted) -> Result<Self, InputError> {
        let Wanted { values, tombstone, repeat, records, form, template, rate } = wanted;
        let source = if tombstone || !values.is_empty() {
            let read = |(number, value): (u64, String)| {
                record(value.into_bytes(), Place::Value(number), &form, template.clone())
            };
            let once = if tombstone {
                vec![Record { value: None, ..template.clone() }]
            } else {
                (1..).zip(values).map(read).collect::<Result<_, _>>()?
            };
            let times = usize::try_from(repeat).unwrap_or(usize::MAX);
            Source::Values(Box::new(std::iter::repeat_n(once, times).flatten()))
        } else if repeat > 1 {
            return Err(InputError::Repeat(repeat));
        } else {
            let path = records.as_deref().filter(|path| *path != Path::new("-"));
            let is_file = path.is_some();
            let input: Box<dyn BufRead> = match path {
                Some(path) => Box::new(BufReader::new(
                    File::open(path).map_err(|source| InputError::Open { path: path.into(), source })?,
                )),
                None => Box::new(std::io::stdin().lock()),
            };
            Source::Lines { input, line: 0, form, is_file }
        };
        Ok(Self { source, template, rate })
    }

    /// The number of remaining records; 0 for standard input, which may never end.
    pub(super) fn rest(&mut self) -> u64 {
        match self.source {
            Source::Lines { is_file: false, .. } => 0,
            _ => self.take_while(|record| !matches!(record, Err(InputError::Read { .. }))).count() as u64,
        }
    }
}

impl Iterator for Records {
    type Item = Result<Record, InputError>;

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.source {
            Source::Values(values) => values.next().map(Ok),
            Source::Lines { input, line, form, .. } => {
                let mut bytes = Vec::new();
                *line += 1;
                match input.read_until(b'\n', &mut bytes) {
                    Err(source) => return Some(Err(InputError::Read { line: *line, source })),
                    Ok(0) => return None,
                    Ok(_) => {}
                }
                if bytes.last() == Some(&b'\n') {
                    bytes.pop();
                    if bytes.last() == Some(&b'\r') {
                        bytes.pop();
                    }
                }
                Some(record(bytes, Place::Line(*line), form, self.template.clone()))
            }
        }
    }
}

fn record(bytes: Vec<u8>, place: Place, form: &Form, template: Record) -> Result<Record, InputError> {
    match form {
        Form::Value => Ok(Record { value: Some(bytes), ..template }),
        Form::Delimited(delimiter) => {
            let at = bytes.windows(delimiter.len().max(1)).position(|window| window == delimiter.as_bytes());
            let at = at.ok_or_else(|| InputError::NoDelimiter { place, delimiter: delimiter.clone() })?;
            let value = bytes[at + delimiter.len()..].to_vec();
            Ok(Record { key: Some(bytes[..at].to_vec()), value: Some(value), ..template })
        }
        Form::Json => {
            let no_record = |source| InputError::Json { place, source };
            let parsed: JsonLine = serde_json::from_slice(&bytes).map_err(no_record)?;
            let value = match parsed.value.get() {
                "null" => None,
                text if text.starts_with('"') => Some(serde_json::from_str::<String>(text).map_err(no_record)?),
                other => Some(other.to_owned()),
            };
            let value = value.map(String::into_bytes);
            let mut headers = template.headers;
            headers.extend(parsed.headers.into_iter().map(|(name, value)| (name, value.into_bytes())));
            Ok(Record { key: parsed.key.map(String::into_bytes).or(template.key), value, headers })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(form: Form, lines: &str) -> Vec<Result<Record, String>> {
        let template = Record { key: Some(b"k".to_vec()), ..Record::default() };
        let input: Box<dyn BufRead> = Box::new(std::io::Cursor::new(lines.to_owned()));
        let records = Records { source: Source::Lines { input, line: 0, form, is_file: false }, template, rate: None };
        records.map(|record| record.map_err(|error| error.to_string())).collect()
    }

    fn plain(key: &str, value: &str) -> Record {
        Record { key: Some(key.into()), value: Some(value.into()), headers: Vec::new() }
    }

    #[test]
    fn takes_each_line_as_a_value() {
        assert_eq!(read(Form::Value, "a\r\n\nb"), [Ok(plain("k", "a")), Ok(plain("k", "")), Ok(plain("k", "b"))]);
    }

    #[test]
    fn splits_key_and_value_at_the_first_delimiter() {
        let read = read(Form::Delimited("::".into()), "BTC::1::2\nno\n");
        assert_eq!(read[0], Ok(plain("BTC", "1::2")));
        assert_eq!(read[1], Err("line 2 has no \"::\" between key and value".into()));
    }

    #[test]
    fn splits_key_and_value_of_an_argument_too() {
        let wanted = Wanted {
            values: vec!["BTC:1".into(), "ETH:2".into()],
            tombstone: false,
            repeat: 2,
            records: None,
            form: Form::Delimited(":".into()),
            template: Record::default(),
            rate: None,
        };
        let records: Vec<_> = Records::open(wanted).unwrap().map(Result::unwrap).collect();
        let once = [plain("BTC", "1"), plain("ETH", "2")];
        assert_eq!(records, [&once[..], &once[..]].concat());
    }

    #[test]
    fn keeps_every_byte_of_a_json_value() {
        for value in ["1.10000000000000000000001", "12345678901234567890123", r#"{"z": 1.0e2,"a":0.1000,"z":"\u00e9"}"#]
        {
            let line = format!(r#"{{"value": {value} }}"#);
            assert_eq!(read(Form::Json, &line), [Ok(plain("k", value))]);
        }
        assert_eq!(read(Form::Json, r#"{"value":"\u00e9"}"#), [Ok(plain("k", "é"))]);
        assert!(read(Form::Json, r#"{"key":"a"}"#)[0].as_ref().unwrap_err().contains("missing field `value`"));
    }

    #[test]
    fn reads_json_lines_with_key_and_headers() {
        let lines = concat!(
            r#"{"key":"BTC","value":{"p":1.5},"headers":{"v":"x"}}"#,
            "\n",
            r#"{"value":"text"}"#,
            "\n",
            r#"{"value":null}"#,
            "\n",
            r#"{"val":1}"#
        );
        let read = read(Form::Json, lines);
        let headers = vec![("v".to_owned(), b"x".to_vec())];
        assert_eq!(read[0], Ok(Record { headers, ..plain("BTC", r#"{"p":1.5}"#) }));
        assert_eq!(read[1], Ok(plain("k", "text")));
        assert_eq!(read[2], Ok(Record { value: None, ..plain("k", "") }));
        assert!(read[3].as_ref().unwrap_err().starts_with("line 4 is not a record: unknown field `val`"));
    }
}
