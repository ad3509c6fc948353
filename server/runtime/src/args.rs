//! Arguments that several subcommands share.

use std::ffi::{OsStr, OsString};

use clap::builder::Resettable;
use clap::parser::ValueSource;
use clap::{ArgMatches, Command, ValueEnum};

pub use crate::exit::USAGE;

/// Environment variables that replace arguments. A test of the command line keeps the list complete.
pub const VARIABLES: [&str; 18] = [
    "WSCLUSTER_ADMIN",
    "WSCLUSTER_ADMIN_HOST",
    "WSCLUSTER_ADMIN_TOKEN_FILE",
    "WSCLUSTER_ADMIN_URL",
    "WSCLUSTER_BROKERS",
    "WSCLUSTER_DISCOVER",
    "WSCLUSTER_DRAIN_LAG",
    "WSCLUSTER_FILE",
    "WSCLUSTER_INCARNATION",
    "WSCLUSTER_LISTEN",
    "WSCLUSTER_LOG",
    "WSCLUSTER_LOG_FORMAT",
    "WSCLUSTER_LOG_HANDSHAKES",
    "WSCLUSTER_NAME",
    "WSCLUSTER_REVISION",
    "WSCLUSTER_SOURCE_ADDRESSES",
    "WSCLUSTER_URL",
    "WSCLUSTER_WORKERS",
];

/// Format of standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Text for people.
    Text,
    /// JSON for programs.
    Json,
}

/// Reads an argument of the form `NAME=VALUE`.
pub fn name_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write it as NAME=VALUE".into()),
    }
}

/// Reads an HTTP header of the form `NAME=VALUE`, or `NAME: VALUE` as curl takes it.
///
/// The name is a token (RFC 9110 §5.6.2), so it holds neither separator.
pub fn http_header(text: &str) -> Result<(String, String), String> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    match text.split_once(['=', ':']) {
        Some((name, value)) if !name.is_empty() && name.bytes().all(is_token) && !value.contains(['\r', '\n']) => {
            Ok((name.to_owned(), value.trim().to_owned()))
        }
        _ => Err("write it as NAME=VALUE, such as 'Cookie=a=b'".into()),
    }
}

/// Lower rates are mistakes, and far lower ones would exceed the range of clocks.
const LEAST_RATE: f64 = 0.001;

/// Reads a rate per second.
pub fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate >= LEAST_RATE => Ok(rate),
        _ => Err(format!("write a number a second, {LEAST_RATE} or more")),
    }
}

/// Reads a rate per second that may be 0, for never.
pub fn rate_or_never(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(0.0) => Ok(0.0),
        _ => rate(text).map_err(|_| format!("write a number a second, {LEAST_RATE} or more, or 0 for never")),
    }
}

/// A hint for each old spelling that `words`, the arguments of `command`, contain.
///
/// An old spelling is a hidden alias of an option, or a hidden positional argument whose help is the hint.
pub fn old_spellings(command: &Command, matches: &ArgMatches, words: &[OsString]) -> Vec<String> {
    let options = words.iter().take_while(|word| *word != "--").filter_map(|word| word.to_str());
    let given: Vec<_> = options.map(|word| word.split_once('=').map_or(word, |(name, _)| name)).collect();
    let mut hints = Vec::new();
    for arg in command.get_arguments() {
        let visible = arg.get_visible_aliases().unwrap_or_default();
        let aliases = arg.get_all_aliases().unwrap_or_default();
        for old in aliases.into_iter().filter(|alias| !visible.contains(alias)).map(|alias| format!("--{alias}")) {
            if given.contains(&old.as_str()) {
                hints.push(format!("{old} is now --{}", arg.get_long().unwrap_or_default()));
            }
        }
        let is_old = arg.is_positional() && arg.is_hide_set();
        if is_old && matches.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine) {
            hints.extend(arg.get_help().map(ToString::to_string));
        }
    }
    hints
}

/// `command`, for which an empty environment variable counts as absent.
pub fn without_empty_variables(command: Command) -> Command {
    let is_empty = |name: &OsStr| std::env::var_os(name).is_some_and(|value| value.is_empty());
    command
        .mut_args(|arg| if arg.get_env().is_some_and(is_empty) { arg.env(Resettable::Reset) } else { arg })
        .mut_subcommands(without_empty_variables)
}

/// Parses the arguments of a subcommand from a command line that begins with its name.
pub fn parsed<A: clap::Args>(line: impl IntoIterator<Item: Into<OsString> + Clone>) -> Result<A, clap::Error> {
    A::from_arg_matches(&A::augment_args(Command::new("part")).try_get_matches_from(line)?)
}

#[cfg(test)]
mod tests {
    use clap::Arg;

    use super::*;

    #[test]
    fn hints_at_the_new_spelling_of_an_old_one() {
        let brokers = Arg::new("brokers").long("brokers").alias("kafka");
        let old_url = Arg::new("old_url").hide(true).help("write --url URL");
        let command = Command::new("part").args([brokers, Arg::new("url").long("url"), old_url]);
        let hints = |words: &[&str]| {
            let words: Vec<OsString> = words.iter().map(OsString::from).collect();
            let line = std::iter::once(OsString::from("part")).chain(words.iter().cloned());
            old_spellings(&command, &command.clone().try_get_matches_from(line).unwrap(), &words)
        };
        assert_eq!(hints(&["--kafka=b:1", "ws://h"]), ["--kafka is now --brokers", "write --url URL"]);
        assert_eq!(hints(&["--kafka", "b:1"]), ["--kafka is now --brokers"]);
        assert!(hints(&["--brokers", "b:1", "--url", "ws://h"]).is_empty());
        assert_eq!(hints(&["--", "--kafka"]), ["write --url URL"]);
    }

    #[test]
    fn reads_headers_with_either_separator() {
        let header = |name: &str, value: &str| Ok((name.to_owned(), value.to_owned()));
        assert_eq!(http_header("Cookie=a=b"), header("Cookie", "a=b"));
        assert_eq!(http_header("Cookie: a=b"), header("Cookie", "a=b"));
        assert_eq!(http_header("Origin=https://a.example"), header("Origin", "https://a.example"));
        assert_eq!(http_header("X-Empty="), header("X-Empty", ""));
        for bad in ["", "no header", "no header: x", "=x", ": x", "A=b\r\nC: d"] {
            assert!(http_header(bad).unwrap_err().contains("NAME=VALUE"), "{bad}");
        }
    }

    #[test]
    fn reads_rates_of_which_every_instant_can_be_told() {
        for (text, good) in [("0.001", 0.001), ("500", 500.0), ("1e300", 1e300)] {
            assert_eq!((rate(text), rate_or_never(text)), (Ok(good), Ok(good)));
        }
        assert_eq!((rate_or_never("0"), rate_or_never("-0.0")), (Ok(0.0), Ok(0.0)));
        assert_eq!(rate("0").unwrap_err(), "write a number a second, 0.001 or more");
        for bad in ["1e-20", "-1", "inf", "NaN", "fast", ""] {
            assert!(rate(bad).is_err(), "{bad}");
            assert_eq!(rate_or_never(bad).unwrap_err(), "write a number a second, 0.001 or more, or 0 for never");
        }
    }
}
