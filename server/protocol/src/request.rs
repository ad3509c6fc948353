//! What clients ask for: the text of a message as a [`Request`], or why it is none. Pure.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use crate::Position;

/// Bytes of the longest channel name.
const MAX_CHANNEL: usize = 256;

/// A request with the `id` that answers refer to.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The `id` that the answer repeats as `ref`.
    pub id: Option<Value>,
    /// The request itself.
    pub ask: Ask,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Ask {
    /// Channels, each once, with what the client last saw of it.
    Subscribe(Vec<(String, Since)>),
    /// Channels, each once.
    Unsubscribe(Vec<String>),
    /// A sign of life.
    Heartbeat,
    /// The last offset a topic.
    Reconnect(HashMap<String, i64>),
}

/// What a client last saw of a channel.
#[derive(Clone, Debug, PartialEq)]
pub enum Since {
    /// It does not say: live messages only.
    Now,
    /// Nothing yet: live messages only, and it keeps positions.
    Nothing,
    /// It wants the last message, for a first paint.
    Latest,
    /// These positions, one a partition.
    At(Vec<Position>),
    /// Something that is no position.
    Unreadable,
}

/// A rejected request, as the client is told.
#[derive(Clone, Debug, PartialEq)]
pub struct Rejection {
    /// The `id` of the request.
    pub id: Option<Value>,
    /// A word for machines, and a metric label.
    pub code: &'static str,
    /// The remedy, for people.
    pub message: String,
}

/// Reads a message of a client.
pub fn parse(text: &str) -> Result<Request, Rejection> {
    let reject =
        |id: &Option<Value>, code, message: &str| Rejection { id: id.clone(), code, message: message.to_owned() };
    let value: Value = serde_json::from_str(text)
        .map_err(|error| reject(&None, "bad_json", &format!("the message is not JSON: {error}")))?;
    let Value::Object(mut message) = value else {
        return Err(reject(&None, "bad_request", "the message must be a JSON object: {\"type\": …, \"data\": {…}}"));
    };
    let id = message.remove("id").filter(|id| id.is_string() || id.is_number());
    if id.as_ref().is_some_and(is_rounded) {
        return Err(reject(&None, "bad_request", "id is a number too large to be repeated exactly: send it as text"));
    }
    let Some(Value::String(kind)) = message.remove("type") else {
        return Err(reject(&id, "bad_request", "type must be text, e.g. {\"type\":\"subscribe\"}"));
    };
    let data = message.remove("data");
    let fields = || match data.as_ref() {
        Some(Value::Object(fields)) => Ok(fields),
        _ => Err("data must be an object".to_owned()),
    };
    let ask = match kind.as_str() {
        "subscribe" => fields().and_then(subscribe),
        "unsubscribe" => fields().and_then(|fields| channels(fields).map(Ask::Unsubscribe)),
        "heartbeat" => Ok(Ask::Heartbeat),
        "reconnect" => fields().and_then(reconnect),
        _ => {
            let known = "known types: subscribe, unsubscribe, heartbeat, reconnect";
            return Err(reject(&id, "unknown_type", known));
        }
    };
    match ask {
        Ok(ask) => Ok(Request { id, ask }),
        Err(message) => Err(Rejection { id, code: "bad_request", message }),
    }
}

/// A number that may have lost digits when it was read.
fn is_rounded(id: &Value) -> bool {
    /// From here on not every whole number has a double of its own.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    id.is_f64() && id.as_f64().is_some_and(|number| number.abs() >= EXACT)
}

fn subscribe(fields: &Map<String, Value>) -> Result<Ask, String> {
    let channels = channels(fields)?;
    let none = Map::new();
    let (since, unnamed) = match fields.get("since") {
        None | Some(Value::Null) => (&none, Since::Now),
        Some(Value::Object(since)) => (since, Since::Nothing),
        Some(_) => return Err("data.since must be an object of channel and position".to_owned()),
    };
    let asked: HashSet<&str> = channels.iter().map(String::as_str).collect();
    if let Some(stranger) = since.keys().find(|name| !asked.contains(name.as_str())) {
        let name: String = stranger.chars().take(MAX_CHANNEL).collect();
        return Err(format!("data.since names {name:?}, which is not in data.channels"));
    }
    let with_since = |channel: String| {
        let since = since.get(&channel).map_or_else(|| unnamed.clone(), since_of);
        (channel, since)
    };
    Ok(Ask::Subscribe(channels.into_iter().map(with_since).collect()))
}

fn since_of(value: &Value) -> Since {
    match value {
        Value::Null => Since::Nothing,
        Value::String(text) if text == "latest" => Since::Latest,
        value => Position::from_json(value).map_or(Since::Unreadable, Since::At),
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
            Some(name) if name.is_empty() || name.len() > MAX_CHANNEL => {
                return Err(format!("a channel name has 1 to {MAX_CHANNEL} bytes"));
            }
            Some(name) if seen.insert(name) => channels.push(name.to_owned()),
            Some(_) => {}
            None => return Err("data.channels may hold text only".to_owned()),
        }
    }
    Ok(channels)
}

fn reconnect(fields: &Map<String, Value>) -> Result<Ask, String> {
    let wrong = || "data.last_offset must be an object of topic and offset, e.g. {\"odin.trades\": 12345}".to_owned();
    let Some(Value::Object(offsets)) = fields.get("last_offset") else { return Err(wrong()) };
    let offset = |(topic, value): (&String, &Value)| {
        value.as_i64().filter(|offset| *offset >= -1).map(|offset| (topic.clone(), offset)).ok_or_else(wrong)
    };
    offsets.iter().map(offset).collect::<Result<_, _>>().map(Ask::Reconnect)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_old_clients_send() {
        let ask = |text| parse(text).unwrap().ask;
        let subscribe = ask(r#"{"type":"subscribe","data":{"channels":["BTC.trade","ETH.trade","BTC.trade"]}}"#);
        let expected = ["BTC.trade", "ETH.trade"].map(|name| (name.to_owned(), Since::Now));
        assert_eq!(subscribe, Ask::Subscribe(expected.into()));
        assert_eq!(ask(r#"{"type":"heartbeat"}"#), Ask::Heartbeat);
        assert_eq!(ask(r#"{"type":"heartbeat","data":7,"more":true}"#), Ask::Heartbeat);
        let reconnect = ask(r#"{"type":"reconnect","data":{"client_id":"abc","last_offset":{"odin.trades":12345}}}"#);
        assert_eq!(reconnect, Ask::Reconnect(HashMap::from([("odin.trades".to_owned(), 12_345)])));
    }

    #[test]
    fn reads_every_form_of_since() {
        let since = |value: &str| {
            let text = format!(r#"{{"type":"subscribe","data":{{"channels":["a"],"since":{{"a":{value}}}}}}}"#);
            match parse(&text).unwrap().ask {
                Ask::Subscribe(mut channels) => channels.remove(0).1,
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
    fn tells_who_has_seen_nothing_from_who_keeps_no_positions() {
        for (since, expected) in
            [("", Since::Now), (r#","since":null"#, Since::Now), (r#","since":{}"#, Since::Nothing)]
        {
            let text = format!(r#"{{"type":"subscribe","data":{{"channels":["a"]{since}}}}}"#);
            assert_eq!(parse(&text).unwrap().ask, Ask::Subscribe(vec![("a".to_owned(), expected)]), "{since}");
        }
    }

    #[test]
    fn says_what_is_wrong_and_which_request_it_was() {
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
            assert_eq!(parse(text).unwrap_err().code, code, "{text}");
        }
        assert_eq!(parse(r#"{"id":7,"type":"buy"}"#).unwrap_err().id, Some(7.into()));
        assert_eq!(parse(r#"{"id":{},"type":"buy"}"#).unwrap_err().id, None);
        let exact = parse(r#"{"id":18446744073709551615,"type":"heartbeat"}"#).unwrap();
        assert_eq!(exact.id, Some(u64::MAX.into()));
    }

    #[test]
    fn refuses_json_that_nests_too_deep_without_overflowing() {
        let text = "[".repeat(60_000);
        assert_eq!(parse(&text).unwrap_err().code, "bad_json");
    }
}
