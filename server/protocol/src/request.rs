//! Requests of clients, parsed from the text of a message.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use crate::{Position, Positions};

/// Longest channel name, in bytes.
pub const MAX_CHANNEL_BYTES: usize = 256;

/// A request of a client.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The `id` that the answer repeats as `ref`.
    pub id: Option<Value>,
    /// The command of the client.
    pub command: Command,
}

/// A command of a client: `type` and `data` of the message.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Join channels. Each is named once, with the client's last position in it.
    Subscribe(Vec<(String, Since)>),
    /// Leave channels. Each is named once.
    Unsubscribe(Vec<String>),
    /// Answer with the time of the shard.
    Heartbeat,
    /// Resume like a client of the replaced service: the last offset seen, by topic.
    Reconnect(HashMap<String, i64>),
}

/// Where a client wants a channel to begin.
#[derive(Clone, Debug, PartialEq)]
pub enum Since {
    /// Live messages only.
    Now,
    /// Live messages only; the client keeps positions and has none of this channel yet.
    Nothing,
    /// The last message, then live messages.
    Latest,
    /// After these positions, one for each partition.
    At(Vec<Position>),
    /// The client sent a value that is not a position.
    Unreadable,
}

/// Why a request is rejected; `code` of an error message, and a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The message is not JSON.
    BadJson,
    /// The message breaks a rule of this protocol.
    BadRequest,
    /// The `type` of the message is not known.
    UnknownType,
    /// The request would exceed `maxSubscriptions`; close code 4101 follows.
    TooManySubscriptions,
    /// An old `reconnect` failed. Only a metric label: the client gets a `reconnect_error`, which has no code.
    Reconnect,
}

impl ErrorCode {
    /// Every code.
    pub const ALL: [Self; 5] =
        [Self::BadJson, Self::BadRequest, Self::UnknownType, Self::TooManySubscriptions, Self::Reconnect];

    /// The word on the wire and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadJson => "bad_json",
            Self::BadRequest => "bad_request",
            Self::UnknownType => "unknown_type",
            Self::TooManySubscriptions => "too_many_subscriptions",
            Self::Reconnect => "reconnect",
        }
    }
}

/// A rejected request.
#[derive(Clone, Debug, PartialEq)]
pub struct Rejection {
    /// The `id` of the request.
    pub id: Option<Value>,
    /// A word for machines.
    pub code: ErrorCode,
    /// The remedy, for people.
    pub message: String,
}

impl Command {
    /// All that [`Self::as_str`] can give.
    pub const TYPES: [&str; 4] = ["subscribe", "unsubscribe", "heartbeat", "reconnect"];

    /// The `type` of the message, and a metric label.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Subscribe(_) => "subscribe",
            Self::Unsubscribe(_) => "unsubscribe",
            Self::Heartbeat => "heartbeat",
            Self::Reconnect(_) => "reconnect",
        }
    }
}

/// Parses the text of a message.
pub fn parse(text: &str) -> Result<Request, Rejection> {
    let reject =
        |id: &Option<Value>, code, message: &str| Rejection { id: id.clone(), code, message: message.to_owned() };
    let value: Value = serde_json::from_str(text)
        .map_err(|error| reject(&None, ErrorCode::BadJson, &format!("the message is not JSON: {error}")))?;
    let Value::Object(mut message) = value else {
        return Err(reject(
            &None,
            ErrorCode::BadRequest,
            "the message must be a JSON object: {\"type\": …, \"data\": {…}}",
        ));
    };
    let id = message.remove("id").filter(|id| id.is_string() || id.is_number());
    if id.as_ref().is_some_and(is_rounded) {
        return Err(reject(
            &None,
            ErrorCode::BadRequest,
            "id is a number too large to be repeated exactly: send it as text",
        ));
    }
    let Some(Value::String(kind)) = message.remove("type") else {
        return Err(reject(&id, ErrorCode::BadRequest, "type must be text, e.g. {\"type\":\"subscribe\"}"));
    };
    let data = message.remove("data");
    let fields = || match data.as_ref() {
        Some(Value::Object(fields)) => Ok(fields),
        _ => Err("data must be an object".to_owned()),
    };
    let command = match kind.as_str() {
        "subscribe" => fields().and_then(subscribe),
        "unsubscribe" => fields().and_then(|fields| channels(fields).map(Command::Unsubscribe)),
        "heartbeat" => Ok(Command::Heartbeat),
        "reconnect" => fields().and_then(reconnect),
        _ => {
            let known = "known types: subscribe, unsubscribe, heartbeat, reconnect";
            return Err(reject(&id, ErrorCode::UnknownType, known));
        }
    };
    match command {
        Ok(command) => Ok(Request { id, command }),
        Err(message) => Err(Rejection { id, code: ErrorCode::BadRequest, message }),
    }
}

/// Whether a number may have lost digits when it was read.
fn is_rounded(id: &Value) -> bool {
    /// Above this, several whole numbers share one double.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    id.is_f64() && id.as_f64().is_some_and(|number| number.abs() >= EXACT)
}

fn subscribe(fields: &Map<String, Value>) -> Result<Command, String> {
    let channels = channels(fields)?;
    let none = Map::new();
    let (since, unnamed) = match fields.get("since") {
        None | Some(Value::Null) => (&none, Since::Now),
        Some(Value::Object(since)) => (since, Since::Nothing),
        Some(_) => return Err("data.since must be an object of channel and position".to_owned()),
    };
    let asked: HashSet<&str> = channels.iter().map(String::as_str).collect();
    if let Some(stranger) = since.keys().find(|name| !asked.contains(name.as_str())) {
        let name: String = stranger.chars().take(MAX_CHANNEL_BYTES).collect();
        return Err(format!("data.since names {name:?}, which is not in data.channels"));
    }
    let with_since = |channel: String| {
        let since = since.get(&channel).map_or_else(|| unnamed.clone(), since_of);
        (channel, since)
    };
    Ok(Command::Subscribe(channels.into_iter().map(with_since).collect()))
}

fn since_of(value: &Value) -> Since {
    match value {
        Value::Null => Since::Nothing,
        Value::String(text) if text == "latest" => Since::Latest,
        value => Positions::try_from(value.clone()).map_or(Since::Unreadable, |Positions(all)| Since::At(all)),
    }
}

fn channels(fields: &Map<String, Value>) -> Result<Vec<String>, String> {
    let Some(Value::Array(values)) = fields.get("channels") else {
        return Err("data.channels must be a list of channel names, e.g. [\"BTC.trade\"]".to_owned());
    };
    let mut seen = HashSet::with_capacity(values.len());
    let mut channels = Vec::with_capacity(values.len());
    for value in values {
        match value.as_str() {
            Some(name) if name.is_empty() || name.len() > MAX_CHANNEL_BYTES => {
                return Err(format!("a channel name has 1 to {MAX_CHANNEL_BYTES} bytes"));
            }
            Some(name) if seen.insert(name) => channels.push(name.to_owned()),
            Some(_) => {}
            None => return Err("data.channels may hold text only".to_owned()),
        }
    }
    Ok(channels)
}

fn reconnect(fields: &Map<String, Value>) -> Result<Command, String> {
    let wrong = || "data.last_offset must be an object of topic and offset, e.g. {\"odin.trades\": 12345}".to_owned();
    let Some(Value::Object(offsets)) = fields.get("last_offset") else { return Err(wrong()) };
    let offset = |(topic, value): (&String, &Value)| {
        value.as_i64().filter(|offset| *offset >= -1).map(|offset| (topic.clone(), offset)).ok_or_else(wrong)
    };
    offsets.iter().map(offset).collect::<Result<_, _>>().map(Command::Reconnect)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_requests_of_the_replaced_service() {
        let command = |text| parse(text).unwrap().command;
        let subscribe = command(r#"{"type":"subscribe","data":{"channels":["BTC.trade","ETH.trade","BTC.trade"]}}"#);
        let expected = ["BTC.trade", "ETH.trade"].map(|name| (name.to_owned(), Since::Now));
        assert_eq!(subscribe, Command::Subscribe(expected.into()));
        assert_eq!(command(r#"{"type":"heartbeat"}"#), Command::Heartbeat);
        assert_eq!(command(r#"{"type":"heartbeat","data":7,"more":true}"#), Command::Heartbeat);
        let reconnect =
            command(r#"{"type":"reconnect","data":{"client_id":"abc","last_offset":{"odin.trades":12345}}}"#);
        assert_eq!(reconnect, Command::Reconnect(HashMap::from([("odin.trades".to_owned(), 12_345)])));
    }

    #[test]
    fn reads_every_form_of_since() {
        let since = |value: &str| {
            let text = format!(r#"{{"type":"subscribe","data":{{"channels":["a"],"since":{{"a":{value}}}}}}}"#);
            match parse(&text).unwrap().command {
                Command::Subscribe(mut channels) => channels.remove(0).1,
                other => panic!("{other:?}"),
            }
        };
        let at = |token: &str| token.parse::<Position>().unwrap();
        assert_eq!(since(r#""ab-0-7""#), Since::At(vec![at("ab-0-7")]));
        assert_eq!(since(r#"["ab-0-7","ab-1-9"]"#), Since::At(vec![at("ab-0-7"), at("ab-1-9")]));
        assert_eq!(since(r#""latest""#), Since::Latest);
        assert_eq!(since("null"), Since::Nothing);
        for unreadable in [r#""ab-0""#, "7", "[]", r#"["ab-0-7",1]"#, r#"["latest"]"#] {
            assert_eq!(since(unreadable), Since::Unreadable, "{unreadable}");
        }
    }

    #[test]
    fn distinguishes_clients_without_a_position_from_clients_that_keep_none() {
        for (since, expected) in
            [("", Since::Now), (r#","since":null"#, Since::Now), (r#","since":{}"#, Since::Nothing)]
        {
            let text = format!(r#"{{"type":"subscribe","data":{{"channels":["a"]{since}}}}}"#);
            assert_eq!(parse(&text).unwrap().command, Command::Subscribe(vec![("a".to_owned(), expected)]), "{since}");
        }
    }

    #[test]
    fn rejections_carry_the_code_and_the_id_of_the_request() {
        for (text, code) in [
            ("", "bad_json"),
            ("{", "bad_json"),
            ("[1]", "bad_request"),
            ("7", "bad_request"),
            ("{}", "bad_request"),
            (r#"{"type":7}"#, "bad_request"),
            (r#"{"type":"buy"}"#, "unknown_type"),
            (r#"{"type":"subscribe"}"#, "bad_request"),
            (r#"{"type":"subscribe","data":[]}"#, "bad_request"),
            (r#"{"type":"subscribe","data":{"channels":"a"}}"#, "bad_request"),
            (r#"{"type":"subscribe","data":{"channels":[1]}}"#, "bad_request"),
            (r#"{"type":"subscribe","data":{"channels":[""]}}"#, "bad_request"),
            (r#"{"type":"subscribe","data":{"channels":["a"],"since":7}}"#, "bad_request"),
            (r#"{"type":"subscribe","data":{"channels":["a"],"since":{"b":"ab-0-7"}}}"#, "bad_request"),
            (r#"{"type":"reconnect","data":{"last_offset":{"t":"x"}}}"#, "bad_request"),
            (r#"{"type":"heartbeat","id":18446744073709551616}"#, "bad_request"),
        ] {
            assert_eq!(parse(text).unwrap_err().code.as_str(), code, "{text}");
        }
        assert_eq!(parse(r#"{"id":7,"type":"buy"}"#).unwrap_err().id, Some(7.into()));
        assert_eq!(parse(r#"{"id":{},"type":"buy"}"#).unwrap_err().id, None);
        let exact = parse(r#"{"id":18446744073709551615,"type":"heartbeat"}"#).unwrap();
        assert_eq!(exact.id, Some(u64::MAX.into()));
    }

    #[test]
    fn rejects_json_that_nests_too_deep_without_overflowing() {
        let text = "[".repeat(60_000);
        assert_eq!(parse(&text).unwrap_err().code, ErrorCode::BadJson);
    }
}
